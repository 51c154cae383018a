-- Fails where one of the queues has a limit of queued documents, because that has to be looked at first.
-- ?1: not null. ?2: JSON array of [name, ...].
-- Locking: inside BEGIN IMMEDIATE, before anything is written. SQL has no other way to fail than a function
-- that does: no name of a queue behind a question mark is JSON.
-- (The driver takes a number that is left out, here 1, for an anonymous parameter, and counts these over all
-- statements of a text: with one more it binds nothing.)
select json('?' || q.name)
from json_each(?2) as n
cross join kbqueue_queues as q on q.name = n.value ->> 0
where ?1 is not null and q.settings ->> 'max_queued' is not null;
