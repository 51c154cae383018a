-- Makes deliveries pending again.
-- $1: queue. $2: endpoint. $3..$4: document and version, or null for all dead ones. $5: now, in tests.
-- Result: as many rows changed as were replayed.
-- Locking: their rows.
update kbqueue.deliveries
set state = 'pending', attempts = 0, ended_at = null,
    due_at = coalesce($5::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint)
where queue = $1 and endpoint = $2
  and case when $3::uuid is null then state = 'dead' else state <> 'pending' end
  -- A range, so that one delivery is found by its key and not by reading all of its endpoint's.
  and document between coalesce($3, '00000000-0000-0000-0000-000000000000')
      and coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  and version = coalesce($4, version)
