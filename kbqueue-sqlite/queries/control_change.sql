-- Changes what a person said of a document.
-- ?1: key of the document. ?2: priority, or null for the same. ?3: metadata, JSON, or null for the same.
-- Locking: inside BEGIN IMMEDIATE, with the transition that allows it.
update kbqueue_documents
set priority = coalesce(?2, priority), metadata = coalesce(?3, metadata)
where key = ?1
