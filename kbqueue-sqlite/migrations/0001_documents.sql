-- Documents, their outputs, and what is counted about them. Times are epoch microseconds.
-- Every name begins with `kbqueue_`, so that the file can be the host application's own database.

-- One row for each queue: its settings, and how many visible documents are in each state. The counts
-- change in the same transaction as the documents do, so a status page reads one row.
create table kbqueue_queues (
    name       text primary key,
    paused     integer not null default 0,
    queued     integer not null default 0,
    processing integer not null default 0,
    completed  integer not null default 0,
    failed     integer not null default 0,
    cancelled  integer not null default 0
) without rowid;

-- One row for each (queue, tenant) that ever had a document. Claims go round robin over them.
-- Never deleted: the greatest turn is also the number of documents ever dealt.
create table kbqueue_lines (
    id     integer primary key,
    queue  text not null,
    tenant text,                        -- null is nobody's
    turn   integer not null default 0,  -- the number of the document that it was last served
    ready  integer not null default 0,  -- how many of its documents have due = 1
    unique (queue, tenant)
);
-- A unique constraint takes every null for another one.
create unique index kbqueue_lines_nobody on kbqueue_lines (queue) where tenant is null;
create index kbqueue_lines_ready on kbqueue_lines (queue, turn, tenant) where ready > 0;
create index kbqueue_lines_turn on kbqueue_lines (turn);

create table kbqueue_documents (
    key              integer primary key,   -- what outputs refer to: smaller than the id
    id               text not null unique,
    queue            text not null,
    line             integer not null references kbqueue_lines (id),
    priority         integer not null,
    state            text not null,
    -- null: not queued, or deleted; 0: waits for available_at; 1: can be claimed. A claim promotes.
    due              integer,
    -- Who may claim it while due = 1: '*' for everybody, '=fingerprint' for workers with that one.
    audience         text not null,
    available_at     integer not null,
    lease_id         text,
    lease_expires_at integer,
    version          integer not null,
    deleted_at       integer,
    pages_generation integer not null,      -- the generation being written, or written last
    visible_pages    integer not null,      -- the generations that readers see
    visible_chunks   integer not null,
    lifecycle        text not null,         -- the rest of the lifecycle, as JSON: nothing in SQL asks for it
    -- The document stands for its dedupe key while it is queued, processing or completed. Not derived
    -- from `state` in the index below: then each claim would touch a random page of that index.
    holds_key        integer not null,
    dedupe_key       text,
    created_at       integer not null,
    filename         text not null,
    media_type       text not null,
    sha256           text not null,
    size_bytes       integer not null,
    chunking         text,                  -- JSON
    metadata         text not null,         -- JSON
    properties       text not null default '{}',
    attempts         text not null default ''   -- JSON objects, each behind a comma: append only
);
create unique index kbqueue_documents_key on kbqueue_documents (queue, dedupe_key)
    where holds_key = 1;
-- A claim reads the front of this, line by line, in order.
create index kbqueue_documents_ready
    on kbqueue_documents (line, audience, priority desc, available_at, id) where due = 1;
-- What falls due later: waiting documents, and started ones that only workers of their own fingerprint
-- may have yet.
create index kbqueue_documents_later on kbqueue_documents (queue, due, audience, available_at)
    where due = 0 or audience <> '*';
create index kbqueue_documents_leased on kbqueue_documents (lease_expires_at, id)
    where lease_expires_at is not null;
-- For lists. Processing documents are few and found by their leases.
create index kbqueue_documents_queued on kbqueue_documents (queue, id)
    where state = 'queued' and deleted_at is null;
create index kbqueue_documents_ended on kbqueue_documents (queue, state, id)
    where state in ('completed', 'failed', 'cancelled') and deleted_at is null;

-- Outputs, by the number of their generation.
create table kbqueue_pages (
    document     integer not null references kbqueue_documents (key),
    generation   integer not null,
    number       integer not null,
    label        text,
    section      text,
    source       text not null,
    reason       text not null,
    confidence   real,
    start_offset integer not null,
    end_offset   integer not null,
    text         text not null,
    failure      text,
    primary key (document, generation, number)
);
create index kbqueue_pages_failed on kbqueue_pages (document, generation, number)
    where failure is not null;

create table kbqueue_chunks (
    document     integer not null references kbqueue_documents (key),
    generation   integer not null,
    ordinal      integer not null,
    text         text not null,
    first_page   integer not null,
    last_page    integer not null,
    start_offset integer not null,
    end_offset   integer not null,
    section      text,
    primary key (document, generation, ordinal)
);

create table kbqueue_images (
    document   integer not null references kbqueue_documents (key),
    generation integer not null,
    ordinal    integer not null,
    page       integer not null,
    media_type text not null,
    width      integer not null,
    height     integer not null,
    bbox       text not null,               -- JSON: left, top, right, bottom
    caption    text,
    sha256     text not null,
    size_bytes integer not null,
    thumbnail  text,                        -- JSON: sha256, size_bytes
    primary key (document, generation, ordinal)
);

-- What purge has to remove: one generation of pages (with images) or of chunks, or a whole document.
create table kbqueue_obsolete (
    entry      integer primary key,
    document   integer not null,
    what       text not null,               -- 'pages', 'chunks', 'document'
    generation integer                      -- null for a document
);

-- Who works, until when it counts as alive.
create table kbqueue_workers (
    id         text primary key,
    name       text not null,
    queues     text not null,               -- JSON
    expires_at integer not null
) without rowid;
