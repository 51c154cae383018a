-- Forgets in which queue a document is.
-- KEYS[1]: the document's entry in the directory.
-- ARGV: the queue.
-- Result: 1 where it was forgotten.
-- Atomic: a document of the same id that was enqueued elsewhere meanwhile keeps its entry.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
