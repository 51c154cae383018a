-- Keeps what the document says about itself.
-- ?1: key of the document. ?2: JSON object.
-- Locking: inside BEGIN IMMEDIATE, after the fence was checked.
update kbqueue_documents set properties = ?2 where key = ?1
