-- Tells other processes what changed.
-- $1: channel. $2: what to tell.
-- Locking: none. The message is sent by the commit.
select pg_notify($1, $2)
