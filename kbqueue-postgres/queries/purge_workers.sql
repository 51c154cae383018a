-- Forgets workers that gave no sign of life.
-- $1: now, in tests.
-- Locking: rows that are being renewed are skipped; a worker that was only slow comes back with its next
-- renewal.
delete from kbqueue.workers where id = any(array(
    select id from kbqueue.workers
    where expires_at <= coalesce(
        $1::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint
    )
    order by id
    for update skip locked
))
