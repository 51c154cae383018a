-- Limits of queues, an outbox, and schedules. The release before this one goes on beside it: it goes by `paused`, knows
-- no limits, and writes nothing down for endpoints.

alter table kbqueue.queues
    add column settings   text,                            -- JSON; `paused` counts for what it says of that
    add column limited    boolean not null default false,  -- whether claims have to look at more than `paused`
    add column max_queued bigint,
    add column full_at    bigint;                          -- when its rate tokens are all there again; null: now

-- What opens an encrypted document: sealed, in Base64; null for one without a password.
alter table kbqueue.details add column password text;

-- Who wants to hear of what.
create table kbqueue.endpoints (
    queue    text collate "C" not null,
    id       uuid not null,
    endpoint text not null,                       -- JSON: all of it
    events   text[] not null,
    enabled  boolean not null,
    primary key (queue, id)
);

-- What happened to documents, for each endpoint. Outlives its document, and ends with its endpoint: who writes
-- one holds the endpoint's row, and who removes an endpoint removes these after it.
create table kbqueue.deliveries (
    queue       text collate "C" not null,
    endpoint    uuid not null,
    document    uuid not null,
    version     bigint not null,
    kind        text not null,
    occurred_at bigint not null,
    data        text not null,                    -- JSON
    state       text collate "C" not null,        -- 'pending', 'delivered', 'dead'
    attempts    bigint not null,
    due_at      bigint not null,                  -- of one under lease, when that ends
    lease_id    uuid,
    error       text,
    ended_at    bigint,
    primary key (queue, endpoint, document, version)
);
-- Two indexes, so that the few under lease are found among the many that wait for their time.
create index deliveries_due on kbqueue.deliveries (queue, endpoint, due_at, document)
    where state = 'pending' and lease_id is null;
create index deliveries_leased on kbqueue.deliveries (queue, endpoint, due_at, document)
    where lease_id is not null;
create index deliveries_done on kbqueue.deliveries (ended_at) where state = 'delivered';

-- What is enqueued by the clock.
create table kbqueue.schedules (
    queue    text collate "C" not null,
    name     text collate "C" not null,
    plan     text not null,                       -- JSON
    next_at  bigint not null,
    revision bigint not null,
    primary key (queue, name)
);
