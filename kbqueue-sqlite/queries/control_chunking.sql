-- Notes how a document's text is to be cut from now on.
-- ?1: key of the document. ?2: JSON.
-- Locking: inside BEGIN IMMEDIATE, with the transition that opens the new generation.
update kbqueue_documents set chunking = ?2 where key = ?1
