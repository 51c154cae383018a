-- Whose documents are processing.
-- Result: one row, a JSON array with the line of each document under lease.
-- Locking: inside BEGIN IMMEDIATE. Run only where a tenant's share is limited. These are no more than all
-- workers have slots; a count in each line would have to be right for ever, and be written by every settle.
select json_group_array(d.line)
from kbqueue_documents as d indexed by kbqueue_documents_leased
where d.lease_expires_at is not null
