-- Pages, chunks or images of a document by number.
-- KEYS[1]: the queue's base.
-- ARGV: id; 'pages', 'chunks' or 'images'; generation, or '' for what readers see; numbers above this one;
--   how many at most.
-- Result: the outputs as they were written; none where there is no such document or it was deleted.
-- Atomic: Redis runs one script at a time, so purge does not come in between.
local base, id, kind = KEYS[1], ARGV[1], ARGV[2]
local life = redis.call('HGET', base .. ':lives', id)
if not life then
    return {}
end
life = cjson.decode(string.sub(life, 17))
if life.deleted_at then
    return {}
end
local generation = ARGV[3]
if generation == '' then
    generation = string.format('%d', kind == 'chunks' and life.seen[2] or life.seen[1])
end
local key = base .. ':' .. kind .. ':' .. id .. ':' .. generation
return redis.call('ZRANGEBYSCORE', key, '(' .. ARGV[4], '+inf', 'LIMIT', 0, ARGV[5])
