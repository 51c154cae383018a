-- When the next document falls due by itself, and the next one out of its reservation.
-- ?1: JSON array of queues. ?2: the worker's audience.
-- Result: two instants, null where there is none: the first `available_at` of waiting documents that are
-- open to the worker, and of those, waiting or not, that are reserved for other fingerprints.
-- Locking: inside BEGIN IMMEDIATE. Nothing of a paused queue falls due.
with recursive
places(queue, due) as (
    select s.name, d.value from json_each(?1) as q
    cross join kbqueue_queues as s on s.name = q.value and s.paused = 0
    cross join json_each('[0, 1]') as d
),
-- Every audience but '*' that has queued documents: one seek for each, and there are few.
reserved(queue, due, audience) as (
    select p.queue, p.due, (
        select min(audience) from kbqueue_documents
        where queue = p.queue and due = p.due and audience <> '*' and audience > '*'
    )
    from places as p
    union all
    select r.queue, r.due, (
        select min(audience) from kbqueue_documents
        where queue = r.queue and due = r.due and audience <> '*' and audience > r.audience
    )
    from reserved as r where r.audience is not null
)
select
    (
        select min((
            select min(d.available_at) from kbqueue_documents as d
            where d.queue = p.queue and d.due = 0 and d.audience = a.value
        ))
        from places as p
        cross join json_each(json_array('*', ?2)) as a
        where p.due = 0
    ),
    (
        select min((
            select min(d.available_at) from kbqueue_documents as d
            where d.queue = r.queue and d.due = r.due and d.audience = r.audience
              and d.audience <> '*'
        ))
        from reserved as r
        where r.audience is not null and r.audience <> ?2
    )
