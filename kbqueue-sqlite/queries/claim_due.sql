-- Whether documents fell due, or out of their reservation, since the last claim.
-- ?1: JSON array of queues. ?2: the worker's audience. ?3: now. ?4: now less the grace.
-- Result: two booleans: something to promote, something to open.
-- Locking: inside BEGIN IMMEDIATE. Seeks alone, however many wait.
with recursive
places(queue, due) as (
    select s.name, d.value from json_each(?1) as q
    cross join kbqueue_queues as s on s.name = q.value
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
    exists (
        select 1 from json_each(?1) as q
        cross join kbqueue_documents as d
            on d.queue = q.value and d.due = 0 and d.audience = '*' and d.available_at <= ?3
    )
    or exists (
        select 1 from json_each(?1) as q
        cross join kbqueue_documents as d
            on d.queue = q.value and d.due = 0 and d.audience = ?2 and d.available_at <= ?3
    ),
    exists (
        select 1 from reserved as r
        cross join kbqueue_documents as d
            on d.queue = r.queue and d.due = r.due and d.audience = r.audience
            and d.audience <> '*' and d.audience <> ?2 and d.available_at <= ?4
    );
