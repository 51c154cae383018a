-- Forgets turns that are not the last ones of their lines: those that two claims left to each other.
-- Locking: rows that a claim is at are skipped.
delete from kbqueue.turns where ctid = any(array(
    select t.ctid from kbqueue.turns as t
    where (
        select n.turn from kbqueue.turns as n where n.queue = t.queue and n.line = t.line
        order by n.turn desc limit 1
    ) > t.turn
    for update skip locked
))
