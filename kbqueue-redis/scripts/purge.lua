-- Removes what nobody can see any more.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; how many rows at most, 1000 or fewer;
--   ids of documents that may go, because the directory no longer names them.
-- Result: how many rows were removed; 1 where there may be more to remove under these limits.
-- Atomic: Redis runs one script at a time. Entries are worked off in their order, so when a document's own
-- is reached, its older generations are gone.
local base, now, left = KEYS[1], ARGV[1], tonumber(ARGV[2])
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
-- Workers that gave no sign of life; one that was only slow comes back with its next renewal.
redis.call('ZREMRANGEBYSCORE', base .. ':workers', '-inf', now)
local may_go = {}
for i = 3, #ARGV do
    may_go[ARGV[i]] = true
end

local removed = 0
local function remove(kind, id, generation)
    local key = base .. ':' .. kind .. ':' .. id .. ':' .. generation
    if left > removed then
        removed = removed + redis.call('ZREMRANGEBYRANK', key, 0, left - removed - 1)
    end
end

-- An entry is: what, id, generation of pages, generation of chunks, and for a document also those seen by
-- its readers.
for _ = 1, left do
    local entry = redis.call('LINDEX', base .. ':obsolete', 0)
    if not entry then
        return { removed, 0 }
    end
    local part = {}
    for word in string.gmatch(entry, '%S+') do
        table.insert(part, word)
    end
    local what, id = part[1], part[2]
    if what == 'document' and not may_go[id] then
        return { removed, 1 }
    end
    if what ~= 'chunks' then
        remove('pages', id, part[3])
        remove('images', id, part[3])
    end
    if what ~= 'pages' then
        remove('chunks', id, part[4])
    end
    if what == 'document' then
        remove('pages', id, part[5])
        remove('images', id, part[5])
        remove('chunks', id, part[6])
    end
    -- Only with something left of the limit is it sure that all outputs of the entry are gone.
    if removed >= left then
        return { removed, 1 }
    end
    if what == 'document' then
        redis.call('HDEL', base .. ':lives', id)
        redis.call('HDEL', base .. ':histories', id)
        redis.call('HDEL', base .. ':documents', id)
        removed = removed + 1
    end
    redis.call('LPOP', base .. ':obsolete')
end
return { removed, 1 }
