-- Deliveries of an endpoint by document and version.
-- $1: queue. $2: endpoint. $3: state, or null for all. $4..$5: those above this document and version.
-- $6: how many.
-- Locking: none, one statement reads one snapshot.
select * from kbqueue.deliveries
where queue = $1 and endpoint = $2 and (document, version) > ($4, $5) and ($3::text is null or state = $3)
order by document, version
limit $6
