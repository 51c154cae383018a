-- Makes a schedule, or replaces what is said of it.
-- $1: queue. $2: name. $3: plan, as JSON. $4: next_at.
-- Locking: its row.
insert into kbqueue.schedules as s (queue, name, plan, next_at, revision) values ($1, $2, $3, $4, 1)
on conflict (queue, name) do update set
    plan = excluded.plan, next_at = excluded.next_at, revision = s.revision + 1
