-- Makes a schedule, or replaces what is said of it.
-- ?1: queue. ?2: name. ?3: plan as JSON. ?4: its next tick.
-- Locking: inside BEGIN IMMEDIATE; whoever found it due before finds another revision.
insert into kbqueue_schedules (queue, name, plan, next_at, revision) values (?1, ?2, ?3, ?4, 1)
on conflict (queue, name) do update set
    plan = excluded.plan, next_at = excluded.next_at, revision = revision + 1
