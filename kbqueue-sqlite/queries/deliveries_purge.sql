-- Removes what was delivered a while ago, oldest first.
-- ?1: how long ago at least: an instant. ?2: how many at most.
-- Result: as many rows changed as were removed.
-- Locking: inside BEGIN IMMEDIATE.
delete from kbqueue_deliveries where key in (
    select key from kbqueue_deliveries
    where state = 'delivered' and ended_at <= ?1
    order by ended_at
    limit ?2
)
