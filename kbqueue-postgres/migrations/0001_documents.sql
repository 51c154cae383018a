-- Documents, their outputs, and what is counted about them. Times are epoch microseconds.
-- `kbqueue.` stands for the schema that the store was opened with.
-- Text columns that can hold what a PDF or a caller says are escaped: PostgreSQL stores no U+0000, so it
-- is kept as U+0001 U+0001, and U+0001 itself as U+0001 U+0002. Columns that hold JSON need no escape.

-- The settings of each queue that has any.
create table kbqueue.queues (
    name   text collate "C" primary key,
    paused boolean not null default false
);

-- Which cluster the numbers of transactions are of that are kept below. Restored elsewhere, they mean
-- nothing, and everything is counted once.
create table kbqueue.cluster (
    system_identifier bigint not null
);
insert into kbqueue.cluster select system_identifier from pg_control_system();

-- How many visible documents a queue has in each state: the newest row says how many there were in the
-- transactions that `seen` sees, `deltas` what changed in the others. Nothing is ever updated: no transaction
-- waits for another one's counts, however long it is open, and who reads the newest row walks over no old ones.
create table kbqueue.totals (
    queue      text collate "C" not null,
    entry      bigint not null generated always as identity,
    seen       pg_snapshot not null,
    queued     bigint not null,
    processing bigint not null,
    completed  bigint not null,
    failed     bigint not null,
    cancelled  bigint not null,
    primary key (queue, entry)
);
create table kbqueue.deltas (
    queue      text collate "C" not null,
    made_by    xid8 not null default pg_current_xact_id(),
    queued     bigint not null default 0,
    processing bigint not null default 0,
    completed  bigint not null default 0,
    failed     bigint not null default 0,
    cancelled  bigint not null default 0
);
create index deltas_made on kbqueue.deltas (queue, made_by);

-- The turn of each (queue, tenant) that a claim ever served: the number of the document that it was
-- last dealt. Claims go round robin over lines, the lowest turn first. Inserted and deleted only, and read
-- newest first: nobody waits for a line's row, nor walks over its old versions while somebody's long
-- transaction keeps them from being cleaned away.
create table kbqueue.turns (
    queue text collate "C" not null,
    line  text collate "C" not null,
    turn  bigint not null
);
create index turns_newest on kbqueue.turns (queue, line, turn desc);

-- Numbers claims, so that turns grow from claim to claim without a row that all of them lock.
create sequence kbqueue.claims;

-- The front of what each transaction made claimable in a line: processes remember up to where they emptied
-- a line, and learn here of what came in before that place since, however late its transaction committed.
create table kbqueue.arrivals (
    queue        text collate "C" not null,
    line         text collate "C" not null,
    made_by      xid8 not null default pg_current_xact_id(),
    priority     smallint not null,
    available_at bigint not null,
    id           uuid not null
);
create index arrivals_made on kbqueue.arrivals (queue, made_by);

-- The part of a document that changes while it lives. Narrow, because PostgreSQL writes a changed row
-- anew; a checkpoint or renewal touches no indexed column, so it writes no index.
create table kbqueue.documents (
    id               uuid primary key,
    queue            text collate "C" not null,
    line             text collate "C" not null,   -- '-' is nobody's; '=tenant', the long ones shortened
    priority         smallint not null,
    state            text collate "C" not null,
    -- null: not queued, or deleted; 0: waits for available_at; 1: can be claimed. A claim promotes.
    due              smallint,
    -- Who may claim it while due = 1: '*' for everybody, '=fingerprint' for workers with that one.
    audience         text collate "C" not null,
    available_at     bigint not null,
    lease_id         uuid,
    lease_expires_at bigint,
    version          bigint not null,
    deleted_at       bigint,
    pages_generation bigint not null,             -- the generation being written, or written last
    visible_pages    bigint not null,             -- the generations that readers see
    visible_chunks   bigint not null,
    lifecycle        text not null,               -- the rest of the lifecycle, as JSON: nothing in SQL asks for it
    attempts         text not null default ''     -- JSON objects with commas in between
) with (fillfactor = 80);
-- A claim reads the front of this, line by line, in order. (The priority is turned round so that whatever
-- is behind a place is one comparison of rows.)
create index documents_ready on kbqueue.documents (queue, line, (-priority::integer), available_at, id)
    where due = 1;
-- What falls due later,
create index documents_later on kbqueue.documents (queue, audience, available_at) where due = 0;
-- and started documents that only workers of their own fingerprint may have yet.
create index documents_reserved on kbqueue.documents (queue, audience, available_at)
    where due = 1 and audience <> '*';
-- For lists, and for the reaper: processing documents are as few as there are slots.
create index documents_listed on kbqueue.documents (state, queue, id) where deleted_at is null;

-- The part of a document that was said when it was enqueued, or is said once in a while.
create table kbqueue.details (
    id         uuid primary key,
    tenant     text,
    filename   text not null,
    media_type text not null,
    sha256     text not null,
    size_bytes bigint not null,
    chunking   text,                              -- JSON
    metadata   text not null,                     -- JSON
    properties text not null default '{}',        -- JSON
    dedupe_key bytea,                             -- its SHA-256
    created_at bigint not null
);

-- The document that stands for a dedupe key: while it is queued, processing or completed.
create table kbqueue.keys (
    queue      text collate "C" not null,
    dedupe_key bytea not null,
    document   uuid not null,
    primary key (queue, dedupe_key)
);

-- Outputs, by the number of their generation. They refer to their document without a foreign key: the
-- document's row is locked and its lease compared before anything is written, and purge removes them first.
create table kbqueue.pages (
    document     uuid not null,
    generation   bigint not null,
    number       bigint not null,
    label        text,
    section      text,
    source       text not null,
    reason       text not null,
    confidence   real,
    start_offset bigint not null,
    end_offset   bigint not null,
    text         text not null,
    failure      text,
    primary key (document, generation, number)
);
create index pages_failed on kbqueue.pages (document, generation, number) where failure is not null;

create table kbqueue.chunks (
    document     uuid not null,
    generation   bigint not null,
    ordinal      bigint not null,
    text         text not null,
    first_page   bigint not null,
    last_page    bigint not null,
    start_offset bigint not null,
    end_offset   bigint not null,
    section      text,
    primary key (document, generation, ordinal)
);

create table kbqueue.images (
    document   uuid not null,
    generation bigint not null,
    ordinal    bigint not null,
    page       bigint not null,
    media_type text not null,
    width      bigint not null,
    height     bigint not null,
    bbox       text not null,                     -- JSON: left, top, right, bottom
    caption    text,
    sha256     text not null,
    size_bytes bigint not null,
    thumbnail  text,                              -- JSON: sha256, size_bytes
    primary key (document, generation, ordinal)
);

-- What purge has to remove: one generation of pages (with images) or of chunks, or a whole document.
create table kbqueue.obsolete (
    entry      bigint generated always as identity primary key,
    document   uuid not null,
    what       text collate "C" not null,         -- 'pages', 'chunks', 'document'
    generation bigint                             -- null for a document
);

-- Who works, until when it counts as alive.
create table kbqueue.workers (
    id         uuid primary key,
    name       text not null,
    queues     text[] not null,
    expires_at bigint not null
);
