-- A page of documents, newest id first.
-- ?1: queue, or null for all. ?2: state, or null for all. ?3: ids below this one, or null. ?4: how many.
-- ?5: tenant, or null for all. ?6: what file names begin with, byte by byte, or null.
-- Result: at most ?4 rows, none deleted.
-- Bytes where a text or number should be are no JSON: such a row comes back as its name alone.
-- Locking: none, one statement reads one snapshot.
-- Each branch reads the front of one index range, so the cost does not grow with the queue; processing
-- documents are as few as there are slots. The states are given twice because SQLite takes a partial index
-- only where its condition stands in the query word by word.
with wanted(queue, line) as materialized (
    select name, (select id from kbqueue_lines where queue = name and tenant = ?5)
    from kbqueue_queues where ?1 is null or name = ?1
),
front(key) as materialized (
    select d.key from wanted as w
    cross join kbqueue_documents as d on d.key in (
        select * from (
            select key from kbqueue_documents
            where queue = w.queue and state = 'queued' and deleted_at is null
              and id < coalesce(?3, 'z') and (?2 is null or ?2 = 'queued')
              and (?5 is null or line = w.line)
              and (?6 is null or substr(cast(filename as blob), 1, length(?6)) = ?6)
            order by id desc limit ?4
        )
        union all
        select * from (
            select key from kbqueue_documents
            where queue = w.queue and state = 'completed' and deleted_at is null
              and state in ('completed', 'failed', 'cancelled')
              and id < coalesce(?3, 'z') and (?2 is null or ?2 = 'completed')
              and (?5 is null or line = w.line)
              and (?6 is null or substr(cast(filename as blob), 1, length(?6)) = ?6)
            order by id desc limit ?4
        )
        union all
        select * from (
            select key from kbqueue_documents
            where queue = w.queue and state = 'failed' and deleted_at is null
              and state in ('completed', 'failed', 'cancelled')
              and id < coalesce(?3, 'z') and (?2 is null or ?2 = 'failed')
              and (?5 is null or line = w.line)
              and (?6 is null or substr(cast(filename as blob), 1, length(?6)) = ?6)
            order by id desc limit ?4
        )
        union all
        select * from (
            select key from kbqueue_documents
            where queue = w.queue and state = 'cancelled' and deleted_at is null
              and state in ('completed', 'failed', 'cancelled')
              and id < coalesce(?3, 'z') and (?2 is null or ?2 = 'cancelled')
              and (?5 is null or line = w.line)
              and (?6 is null or substr(cast(filename as blob), 1, length(?6)) = ?6)
            order by id desc limit ?4
        )
    )
    union all
    select key from kbqueue_documents indexed by kbqueue_documents_leased
    where lease_expires_at is not null and state = 'processing' and deleted_at is null
      and queue in (select queue from wanted)
      and id < coalesce(?3, 'z') and (?2 is null or ?2 = 'processing')
      and (?5 is null or line in (select line from wanted))
      and (?6 is null or substr(cast(filename as blob), 1, length(?6)) = ?6)
)
select iif(
    max(
        d.id, d.queue, d.line, coalesce(d.due, 0), d.holds_key, coalesce(d.dedupe_key, 0),
        d.state, d.version,
        d.available_at, coalesce(d.lease_id, 0), coalesce(d.lease_expires_at, 0),
        coalesce(d.deleted_at, 0), d.lifecycle,
        d.priority, d.filename, d.media_type, d.sha256, d.size_bytes, coalesce(d.chunking, 0),
        d.metadata, d.properties, d.created_at, d.attempts, coalesce(d.password, 0)
    ) < x'',
    json_array(
        json_array(
            d.key, d.id, d.queue, d.line, d.due, d.holds_key, d.dedupe_key, d.state, d.version,
            d.available_at, d.lease_id, d.lease_expires_at, d.deleted_at, d.lifecycle
        ),
        (select tenant from kbqueue_lines where id = d.line),
        d.priority, d.filename, d.media_type, d.sha256, d.size_bytes, d.chunking, d.metadata,
        d.properties, d.created_at, d.attempts, d.password,
        json((
            select json_group_array(json_object('page', number, 'cause', failure))
            from kbqueue_pages as p
            where p.document = d.key and p.generation = d.pages_generation and p.failure is not null
        ))
    ),
    json_array(json_array(d.key, iif(typeof(d.id) = 'text', d.id, null)))
) as row
from kbqueue_documents as d
where d.key in (select key from front)
order by d.id desc
limit ?4
