-- Adds new documents to the ready counts of their lines, and makes lines that are not there.
-- ?3: JSON array of [queue, tenant, ready].
-- Locking: inside BEGIN IMMEDIATE, together with the documents counted.
with n as materialized (select value as v from json_each(?3))
insert into kbqueue_lines (queue, tenant, ready)
select v ->> 0, v ->> 1, v ->> 2 from n where true
on conflict do update set ready = ready + excluded.ready;
