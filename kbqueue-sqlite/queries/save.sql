-- Writes lifecycles, each with the attempt that it ended.
-- ?1: JSON array of [[key, version, state, lease_id] as they were, state, due, audience, available_at,
--     lease_id, lease_expires_at, version, lifecycle, attempt or null].
-- Result: as many rows changed as were given, or the caller rolls back.
-- Locking: inside BEGIN IMMEDIATE. State, lease and version are compared again here, so that even a
-- caller that broke this rule could not overwrite what another one wrote.
with n as materialized (select value as v from json_each(?1))
update kbqueue_documents as d
set state = v ->> 1,
    due = v ->> 2,
    audience = v ->> 3,
    available_at = v ->> 4,
    lease_id = v ->> 5,
    lease_expires_at = v ->> 6,
    version = v ->> 7,
    lifecycle = v -> 8,
    attempts = attempts || coalesce(',' || (v ->> 9), '')
from n
where d.key = v ->> '$[0][0]'
  and d.version = v ->> '$[0][1]'
  and d.state = v ->> '$[0][2]'
  and d.lease_id is v ->> '$[0][3]';
