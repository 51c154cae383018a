-- The front of the lines that are next, and what has to be known to find it the next time.
-- $1..$4: arrays of queue, of the snapshot up to which its arrivals are known, of the server's time then, and of
--     when that server was started; null where nothing is known.
-- $5..$9: arrays of queue, line, and the first priority, available_at and id that may be ready, of the
--     lines known to have something. $10: the worker's audience. $11: how many documents. $12: how many
--     lines at most. $13: the grace. $14: now, in tests. $15: array of queues whose limits the caller keeps.
-- Result: a row for each document of the shares dealt to the lines that are next, whole, and one for each
--     other line that is next or has news; one row with neither where there are no lines. `nth` counts the
--     documents of a line. Where it is 1 or null, the row says in addition what time it is, what is known of
--     arrivals now, whether anything fell due that is not claimable yet, and of the line its turn and the
--     keys of its first ready documents, one more than its share, whoever holds them or may have them. A queue
--     with limits that the caller does not keep is named, and has no shares.
-- Locking: each document is locked, and compared again once it is; one that another claim holds is
-- skipped for the next one. No more are locked than asked for, so that none is kept from others. Another
-- claim may move a turn, or take what a line has, meanwhile; then this one finds less.
-- A line is read from its first key on. What was taken before that is dead, but while somebody's long
-- transaction is open, an index keeps it, and a claim would walk over all of it. Where nothing is known of a
-- queue, each line that has something is found by one seek from the start.
with recursive instant as materialized (
    select
        coalesce($14::bigint, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint) as now,
        floor(extract(epoch from clock_timestamp()) * 1000000)::bigint as server_now,
        pg_postmaster_start_time()::text as server
),
served(queue, seen, limited) as materialized (
    -- Arrivals are kept for longer than a minute.
    select q.name, case
        when i.server = q.server and i.server_now - q.at between 0 and 60000000 then q.seen::pg_snapshot
    end, (select s.limited from kbqueue.queues as s where s.name = q.name) is true
    from unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) as q (name, seen, at, server)
    cross join instant as i
    where (select s.paused from kbqueue.queues as s where s.name = q.name) is not true
),
scanned(queue, line) as (
    select q.queue, (
        select d.line from kbqueue.documents as d
        where d.queue = q.queue and d.due = 1
        order by d.line limit 1
    )
    from served as q where q.seen is null
    union all
    select a.queue, (
        select d.line from kbqueue.documents as d
        where d.queue = a.queue and d.due = 1 and d.line > a.line
        order by d.line limit 1
    )
    from scanned as a where a.line is not null
),
news as materialized (
    select queue, line, 40000 as priority, -9223372036854775808 as available_at,
        '00000000-0000-0000-0000-000000000000'::uuid as id
    from scanned where line is not null
    union all
    select a.queue, a.line, a.priority, a.available_at, a.id
    from served as q
    cross join lateral (
        select * from kbqueue.arrivals as a
        where a.queue = q.queue and a.made_by >= pg_snapshot_xmax(q.seen)
    ) as a
    union all
    select a.queue, a.line, a.priority, a.available_at, a.id
    from served as q
    cross join lateral pg_snapshot_xip(q.seen) as x
    cross join lateral (
        -- (An offset keeps a subquery as it is: one seek for each transaction.)
        select * from kbqueue.arrivals as a where a.queue = q.queue and a.made_by = x offset 0
    ) as a
),
active as materialized (
    select distinct on (queue, line) queue, line, priority, available_at, id, bool_or(new) over same as new
    from (
        select *, true as new from news
        union all
        select k.*, false
        from unnest($5::text[], $6::text[], $7::integer[], $8::bigint[], $9::uuid[])
            as k (queue, line, priority, available_at, id)
        where k.queue in (select q.queue from served as q where q.seen is not null)
    ) as k
    window same as (partition by queue, line)
    order by queue, line, priority desc, available_at, id
),
turned as materialized (
    select a.*, t.turn, row_number() over (order by coalesce(t.turn, 0), a.queue, a.line) as place,
        least($11, count(*) over ()) as dealt, count(*) over () as lines
    from active as a
    left join lateral (
        select t.turn from kbqueue.turns as t where t.queue = a.queue and t.line = a.line
        order by t.turn desc limit 1
    ) as t on true
),
next as materialized (
    select l.*, case
        when l.queue in (select q.queue from served as q where q.limited and q.queue <> all($15)) then 0
        when place <= dealt then $11 / dealt + case when place <= $11 % dealt then 1 else 0 end
        else 0
    end as share
    from turned as l
    where place <= $12 or new
),
-- What `claim_promote` would find.
later(queue, audience) as (
    select q.queue, (
        select d.audience from kbqueue.documents as d
        where d.queue = q.queue and d.due = 0 and d.audience > '*'
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
    select q.queue, (
        select d.audience from kbqueue.documents as d
        where d.queue = q.queue and d.due = 1 and d.audience <> '*' and d.audience > '*' and d.audience < '~'
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
),
state as materialized (
    select i.*, pg_current_snapshot()::text as seen,
        array(select q.queue from served as q) as served,
        array(select q.queue from served as q where q.seen is not null) as known,
        array(select q.queue from served as q where q.limited) as limited, exists (
        select 1 from served as q
        cross join unnest(array['*', $10]) as a (audience)
        cross join lateral (
            select 1 from kbqueue.documents as d
            where d.queue = q.queue and d.due = 0 and d.audience = a.audience and d.available_at <= i.now
            limit 1
        ) as x
    ) or exists (
        select 1 from later as l
        cross join lateral (
            select 1 from kbqueue.documents as d
            where d.queue = l.queue and d.due = 0 and d.audience = l.audience
              and d.available_at <= i.now - $13
            limit 1
        ) as x
        where l.audience <> $10
    ) or exists (
        select 1 from reserved as r
        cross join lateral (
            select 1 from kbqueue.documents as d
            where d.queue = r.queue and d.due = 1 and d.audience <> '*' and d.audience = r.audience
              and d.available_at <= i.now - $13
            limit 1
        ) as x
        where r.audience <> $10
    ) as promotable
    from instant as i
)
select
    l.queue as line_queue, l.line as line_name, l.turn, l.place, l.share, l.lines,
    l.priority as front_priority, l.available_at as front_available_at, l.id as front_id,
    d.nth, s.now, s.server_now, s.server, s.seen, s.served, s.known, s.limited, s.promotable,
    a.priorities, a.availables, a.ids, a.audiences,
    d.id, d.queue, d.line, d.due, d.state, d.version, d.available_at, d.lease_id, d.lease_expires_at,
    d.deleted_at, d.lifecycle, d.priority, d.attempts,
    e.tenant, e.filename, e.media_type, e.sha256, e.size_bytes, e.chunking, e.metadata, e.properties, e.password,
    e.created_at, f.failed_pages, f.failed_causes
from (values (true)) as always
left join next as l on true
left join lateral (
    select d.*, row_number() over () as nth
    from (
        select * from kbqueue.documents as d
        where d.queue = l.queue and d.line = l.line and d.due = 1
          and (d.audience = '*' or d.audience = $10 or d.audience >= '~')
          and (-d.priority::integer, d.available_at, d.id) >= (-l.priority, l.available_at, l.id)
        order by -d.priority::integer, d.available_at, d.id
        limit l.share
        for update skip locked
    ) as d
) as d on true
left join state as s on d.nth is null or d.nth = 1
left join lateral (
    select
        array_agg(r.priority::integer) as priorities, array_agg(r.available_at) as availables,
        array_agg(r.id) as ids, array_agg(r.audience) as audiences
    from (
        select d.priority, d.available_at, d.id, d.audience from kbqueue.documents as d
        where d.queue = l.queue and d.line = l.line and d.due = 1
          and (-d.priority::integer, d.available_at, d.id) >= (-l.priority, l.available_at, l.id)
        order by -d.priority::integer, d.available_at, d.id
        limit l.share + 1
    ) as r
    where d.nth is null or d.nth = 1
) as a on true
left join kbqueue.details as e on e.id = d.id
left join lateral (
    select
        coalesce(array_agg(p.number order by p.number), '{}') as failed_pages,
        coalesce(array_agg(p.failure order by p.number), '{}') as failed_causes
    from kbqueue.pages as p
    where p.document = d.id and p.generation = d.pages_generation and p.failure is not null
      -- Of one that was never started there are no pages to look for.
      and d.lifecycle <> '{}'
) as f on true
order by l.place, d.nth
