-- When the next document falls due by itself, and the next one out of its reservation.
-- $1: array of queues. $2: the worker's audience.
-- Result: two instants, null where there is none: the first `available_at` of waiting documents that are
-- open to the worker, and of those, waiting or not, that are reserved for other fingerprints.
-- Locking: none. Nothing of a paused queue falls due.
with recursive served(name) as (
    select q.name from unnest($1::text[]) as q (name)
    where (select s.paused from kbqueue.queues as s where s.name = q.name) is not true
),
-- Every audience but '*' that has queued documents: one seek for each, and there are few.
later(queue, audience) as (
    select q.name, (
        select d.audience from kbqueue.documents as d
        where d.queue = q.name and d.due = 0 and d.audience > '*'
        order by d.audience limit 1
    )
    from served as q
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
    from served as q
    union all
    select r.queue, (
        select d.audience from kbqueue.documents as d
        where d.queue = r.queue and d.due = 1 and d.audience <> '*' and d.audience > r.audience
          and d.audience < '~'
        order by d.audience limit 1
    )
    from reserved as r where r.audience is not null
)
select
    (
        select min((
            select d.available_at from kbqueue.documents as d
            where d.queue = q.name and d.due = 0 and d.audience = a.audience
            order by d.available_at limit 1
        ))
        from served as q cross join unnest(array['*', $2]) as a (audience)
    ) as waiting,
    least(
        (
            select min((
                select d.available_at from kbqueue.documents as d
                where d.queue = l.queue and d.due = 0 and d.audience = l.audience
                order by d.available_at limit 1
            ))
            from later as l where l.audience is not null and l.audience <> $2
        ),
        (
            select min((
                select d.available_at from kbqueue.documents as d
                where d.queue = r.queue and d.due = 1 and d.audience <> '*' and d.audience = r.audience
                order by d.available_at limit 1
            ))
            from reserved as r where r.audience is not null and r.audience <> $2
        )
    ) as reserved
