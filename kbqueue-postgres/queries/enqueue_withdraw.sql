-- Takes back documents whose keys another transaction took at the same moment.
-- $1: array of ids.
-- Locking: nobody else has seen these rows: they were inserted in this very transaction.
delete from kbqueue.documents where id = any($1)
