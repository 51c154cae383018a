-- Forgets old attempts.
-- ?1: JSON array of keys of documents. ?2: how many attempts of each are kept, the last ones.
-- Locking: inside BEGIN IMMEDIATE, after the last one was appended.
update kbqueue_documents as d
set attempts = (
    select coalesce(group_concat(',' || e.value, ''), '')
    from json_each('[' || ltrim(d.attempts, ',') || ']') as e
    where e.key >= json_array_length('[' || ltrim(d.attempts, ',') || ']') - ?2
)
-- What was written by hand and cannot be read is no reason to fail.
where d.key in (select value from json_each(?1))
  and json_valid('[' || ltrim(d.attempts, ',') || ']')
