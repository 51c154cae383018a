-- Writes lifecycles, each with the attempt that it ended.
-- $1..$3: arrays of id, version and lease_id as they were. $4..$16: arrays of state, due, audience,
--     available_at, lease_id, lease_expires_at, version, deleted_at, pages_generation, visible_pages,
--     visible_chunks, lifecycle, attempt or null.
-- Result: as many rows changed as were given, or the caller rolls back.
-- Locking: the rows were locked when they were loaded. Version and lease are compared again here, so that
-- even a caller that broke this rule could not overwrite what another one wrote.
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
