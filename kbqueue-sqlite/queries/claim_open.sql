-- Opens started documents to everybody, once workers of their own fingerprint had the grace.
-- ?1: JSON array of queues. ?2: the worker's audience. ?3: now less the grace.
-- Locking: inside BEGIN IMMEDIATE, after `claim_promote`. Workers may have different graces, so this is a
-- hint: the specification still judges each claim.
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
update kbqueue_documents set audience = '*'
where key in (
    select d.key from reserved as r
    cross join kbqueue_documents as d
        on d.queue = r.queue and d.due = r.due and d.audience = r.audience
        and r.due = 1 and d.audience <> '*' and d.audience <> ?2 and d.available_at <= ?3
)
