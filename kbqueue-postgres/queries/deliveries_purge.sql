-- Forgets what was delivered long ago.
-- $1: how long ago. $2: how many at most. $3: now, in tests.
-- Result: as many rows changed as were removed.
-- Locking: rows that are being replayed are skipped.
delete from kbqueue.deliveries where ctid = any(array(
    select d.ctid from kbqueue.deliveries as d
    where d.state = 'delivered'
      and d.ended_at <= coalesce(
          $3::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint
      ) - $1
    order by d.ended_at
    limit $2
    for update skip locked
))
