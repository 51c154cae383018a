-- Whether the tables were moved to another cluster since they were counted.
-- Result: one row.
select not exists (
    select 1 from kbqueue.cluster as c join pg_control_system() as s using (system_identifier)
) as moved
