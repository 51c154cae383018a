-- Limits of queues, what is to be told to others, and what is enqueued by the clock. Times are epoch
-- microseconds. It only adds: a process of the release before, still at work, goes on with its statements.

-- JSON; null for a queue without limits. `paused` is said by the older column, and by that alone.
alter table kbqueue_queues add column settings text;
-- When the queue's rate tokens are all there again; null where they are.
alter table kbqueue_queues add column full_at integer;

-- What opens an encrypted document: sealed, in Base64; null for one without a password.
alter table kbqueue_documents add column password text;

-- Who wants to hear of a queue's documents.
create table kbqueue_endpoints (
    queue    text not null,
    id       text not null,
    disabled integer not null,
    endpoint text not null,             -- JSON: all of it
    primary key (queue, id)
) without rowid;

-- What each of them is to hear. No foreign key: a delivery outlives its document.
create table kbqueue_deliveries (
    key      integer primary key,
    queue    text not null,
    endpoint text not null,
    document text not null,
    version  integer not null,
    state    text not null,
    -- 1: the pending one of the lowest version of its endpoint and document. Only this one is claimed.
    head     integer not null default 0,
    due_at   integer not null,
    lease_id text,
    ended_at integer,
    delivery text not null,             -- JSON: all of it
    unique (queue, endpoint, document, version)
);
create index kbqueue_deliveries_due on kbqueue_deliveries (queue, endpoint, due_at, document)
    where head = 1;
create index kbqueue_deliveries_leased on kbqueue_deliveries (queue, endpoint, due_at)
    where lease_id is not null;
create index kbqueue_deliveries_delivered on kbqueue_deliveries (ended_at)
    where state = 'delivered';
create index kbqueue_deliveries_dead on kbqueue_deliveries (queue, endpoint, document, version)
    where state = 'dead';

-- What is enqueued by the clock.
create table kbqueue_schedules (
    queue    text not null,
    name     text not null,
    plan     text not null,             -- JSON
    next_at  integer not null,
    revision integer not null,
    primary key (queue, name)
) without rowid;
