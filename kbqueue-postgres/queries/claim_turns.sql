-- Gives the lines served their new turns.
-- $1..$3: arrays of queue, line, and the place in this deal of the last document it was dealt.
-- Locking: a line whose turn another claim is just setting keeps that one; the two would be about the
-- same. New lines are inserted in their order, so that two claims do not wait for each other.
-- A claim's number comes from a sequence: it is greater than all before it, and nobody waits for it.
with claim as materialized (select nextval('kbqueue.turns') * 65536 as number),
served as materialized (
    select s.queue, s.line, c.number + least(s.place, 65535) as turn
    from unnest($1::text[], $2::text[], $3::bigint[]) as s (queue, line, place)
    cross join claim as c
),
known as materialized (
    select s.queue, s.line, s.turn, (
        select true from kbqueue.lines as l where l.queue = s.queue and l.line = s.line
    ) as there
    from served as s
),
locked as materialized (
    select k.queue, k.line, k.turn
    from known as k
    cross join lateral (
        select l.queue from kbqueue.lines as l
        where l.queue = k.queue and l.line = k.line
        for update skip locked
    ) as x
    where k.there
),
moved as (
    update kbqueue.lines as l set turn = greatest(l.turn, x.turn)
    from locked as x
    where l.queue = x.queue and l.line = x.line
)
insert into kbqueue.lines (queue, line, turn)
select queue, line, turn from known where there is null
order by queue, line
on conflict do nothing
