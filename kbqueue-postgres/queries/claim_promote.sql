-- Makes claimable what fell due, and started documents that their own workers left alone for the grace.
-- $1: array of queues. $2: the worker's audience. $3: the grace. $4: now, in tests.
-- Result: none; the next `claim_front` finds them.
-- Locking: rows that somebody else holds are skipped: that somebody promotes or changes them. Workers may
-- have different graces, so this is a hint: the specification still judges each claim. Where nothing fell
-- due, nothing is written. What is free for all says '~fingerprint', so that where starts wait for rate tokens,
-- workers with that one find what they can go on with.
with recursive instant as materialized (
    select coalesce($4::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
),
-- Every audience but '*' that has queued documents: one seek for each, and there are few.
later(queue, audience) as (
    select q.name, (
        select d.audience from kbqueue.documents as d
        where d.queue = q.name and d.due = 0 and d.audience > '*'
        order by d.audience limit 1
    )
    from unnest($1::text[]) as q (name)
    union all
    select l.queue, (
        select d.audience from kbqueue.documents as d
        where d.queue = l.queue and d.due = 0 and d.audience > l.audience
        order by d.audience limit 1
    )
    from later as l where l.audience is not null
),
reserved(queue, audience) as (
    select q.name, (
        select d.audience from kbqueue.documents as d
        where d.queue = q.name and d.due = 1 and d.audience <> '*' and d.audience > '*' and d.audience < '~'
        order by d.audience limit 1
    )
    from unnest($1::text[]) as q (name)
    union all
    select r.queue, (
        select d.audience from kbqueue.documents as d
        where d.queue = r.queue and d.due = 1 and d.audience <> '*' and d.audience > r.audience
          and d.audience < '~'
        order by d.audience limit 1
    )
    from reserved as r where r.audience is not null
),
due as materialized (
    select x.id from unnest($1::text[]) as q (name)
    cross join unnest(array['*', $2]) as a (audience)
    cross join instant as i
    cross join lateral (
        select d.id from kbqueue.documents as d
        where d.queue = q.name and d.due = 0 and d.audience = a.audience and d.available_at <= i.now
        order by d.available_at
        for update skip locked
    ) as x
),
free as materialized (
    select x.id from later as l
    cross join instant as i
    cross join lateral (
        select d.id from kbqueue.documents as d
        where d.queue = l.queue and d.due = 0 and d.audience = l.audience
          and d.available_at <= i.now - $3
        order by d.available_at
        for update skip locked
    ) as x
    where l.audience <> $2
    union all
    select x.id from reserved as r
    cross join instant as i
    cross join lateral (
        select d.id from kbqueue.documents as d
        where d.queue = r.queue and d.due = 1 and d.audience <> '*' and d.audience = r.audience
          and d.available_at <= i.now - $3
        order by d.available_at
        for update skip locked
    ) as x
    where r.audience <> $2
),
promoted as (
    update kbqueue.documents as d
    set due = 1, audience = case when f.free then '~' || substr(d.audience, 2) else d.audience end
    from (
        select id, false as free from due
        union all
        select id, true from free
    ) as f
    where d.id = f.id
    returning d.queue, d.line, d.priority, d.available_at, d.id
)
insert into kbqueue.arrivals (queue, line, priority, available_at, id)
select distinct on (queue, line) queue, line, priority, available_at, id
from promoted
order by queue, line, priority desc, available_at, id
