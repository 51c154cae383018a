-- A page of an endpoint's deliveries, by document and version.
-- ?1: queue. ?2: endpoint. ?3: state, or null for all. ?4, ?5: document and version that they are above.
-- ?6: how many at most.
-- Result: key, delivery as JSON.
-- Locking: none, one statement reads one snapshot.
select key, delivery from kbqueue_deliveries
where queue = ?1 and endpoint = ?2 and (?3 is null or state = ?3)
  and (document, version) > (?4, ?5)
order by document, version
limit ?6
