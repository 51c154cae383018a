-- Writes lifecycles, each with the attempt that it ended, and all that follows from it: what came in at the
-- front of lines, counts, the new turns of lines that were served, and the message to other processes.
-- $1..$3: arrays of id, version and lease_id as they were. $4..$16: arrays of state, due, audience,
--     available_at, lease_id, lease_expires_at, version, deleted_at, pages_generation, visible_pages,
--     visible_chunks, lifecycle, attempt or null.
-- $17..$22: arrays of queue, queued, processing, completed, failed, cancelled, each a difference.
-- $23..$26: arrays of queue, line, the place in this deal of the last document the line was dealt, and the
--     line's turn before, or null. $27: channel. $28: what to tell, or null. $29: how many attempts are kept.
-- $30..$34: arrays of queue, document, version, event, what is known of it as JSON, of what endpoints may want
--     to hear. $35: when it happened.
-- Result: none; an error (22012) where a document was not as it was said to be, so that nothing is written.
-- Locking: where the rows were locked when they were loaded, they are as they were. Where not, version and
-- lease are compared here: they are the fence. Otherwise rows are inserted only. A claim's number comes from
-- a sequence: it is greater than all before it, and nobody waits for it. Endpoints that something is written down for
-- are kept from being removed. Of two claims that serve a line at
-- once, one leaves the line's old turn to the other, and to `purge`. The message is sent by the commit.
with written as (
    update kbqueue.documents as d
    set state = n.state,
        due = n.due,
        audience = n.audience,
        available_at = n.available_at,
        lease_id = n.lease_id,
        lease_expires_at = n.lease_expires_at,
        version = n.version,
        deleted_at = n.deleted_at,
        pages_generation = n.pages_generation,
        visible_pages = n.visible_pages,
        visible_chunks = n.visible_chunks,
        lifecycle = n.lifecycle,
        attempts = case
            when n.attempt is null then d.attempts
            when d.attempts = '' then n.attempt
            when json_array_length(('[' || d.attempts || ']')::json) >= $29 then (
                select string_agg(a.attempt::text, ',' order by a.nth) || ',' || n.attempt
                from json_array_elements(('[' || d.attempts || ']')::json)
                    with ordinality as a (attempt, nth)
                where a.nth > json_array_length(('[' || d.attempts || ']')::json) - $29 + 1
            )
            else d.attempts || ',' || n.attempt
        end
    from unnest(
        $1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::smallint[], $6::text[], $7::bigint[],
        $8::uuid[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
        $15::text[], $16::text[]
    ) as n (
        id, old_version, old_lease_id, state, due, audience, available_at, lease_id, lease_expires_at,
        version, deleted_at, pages_generation, visible_pages, visible_chunks, lifecycle, attempt
    )
    where d.id = n.id
      and d.version = n.old_version
      and d.lease_id is not distinct from n.old_lease_id
    returning d.id, d.queue, d.line, d.priority, d.available_at, d.due
),
arrived as (
    insert into kbqueue.arrivals (queue, line, priority, available_at, id)
    select distinct on (queue, line) queue, line, priority, available_at, id
    from written where due = 1
    order by queue, line, priority desc, available_at, id
),
counted as (
    insert into kbqueue.deltas (queue, queued, processing, completed, failed, cancelled)
    select * from unnest(
        $17::text[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[]
    )
),
turned as (
    insert into kbqueue.turns (queue, line, turn)
    select s.queue, s.line, (select nextval('kbqueue.claims')) * 65536 + least(s.place, 65535)
    from unnest($23::text[], $24::text[], $25::bigint[]) as s (queue, line, place)
),
outbox as (
    insert into kbqueue.deliveries (
        queue, endpoint, document, version, kind, occurred_at, data, state, attempts, due_at
    )
    select n.queue, e.id, n.document, n.version, n.kind, $35, n.data, 'pending', 0, $35
    from unnest($30::text[], $31::uuid[], $32::bigint[], $33::text[], $34::text[])
        as n (queue, document, version, kind, data)
    cross join lateral (
        select e.id from kbqueue.endpoints as e
        where e.queue = n.queue and e.enabled and n.kind = any(e.events)
        for key share
    ) as e
    -- The id of a document that was purged may have been used again.
    on conflict (queue, endpoint, document, version) do update set
        kind = excluded.kind, occurred_at = excluded.occurred_at, data = excluded.data,
        state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at,
        lease_id = null, error = null, ended_at = null
),
forgotten as (
    delete from kbqueue.turns where ctid = any(array(
        select x.ctid
        from unnest($23::text[], $24::text[], $26::bigint[]) as s (queue, line, turn)
        cross join lateral (
            select t.ctid from kbqueue.turns as t
            where t.queue = s.queue and t.line = s.line and t.turn = s.turn
            for update skip locked
        ) as x
    ))
)
select
    1 / (case when count(*) = cardinality($1) then 1 else 0 end) as written,
    case when $28::text is not null then pg_notify($27, $28)::text end as told
from written
