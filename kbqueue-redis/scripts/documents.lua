-- A page of documents, newest id first.
-- KEYS[1]: the queue's base.
-- ARGV: ids below this one, or ''; how many; the states to list. Processing documents are no more than there
--   are slots, and found by their leases.
-- Result: at most so many ids, lives, histories and fixed parts.
-- Atomic: Redis runs one script at a time, so nothing is listed in two states.
local base, after, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local max = after == '' and '+' or '(' .. after
local ids = {}
for i = 3, #ARGV do
    local found
    if ARGV[i] == 'processing' then
        found = redis.call('ZRANGE', base .. ':leases', 0, -1)
    else
        local key = base .. ':state:' .. ARGV[i]
        found = redis.call('ZREVRANGEBYLEX', key, max, '-', 'LIMIT', 0, limit)
    end
    for _, id in ipairs(found) do
        if after == '' or id < after then
            table.insert(ids, id)
        end
    end
end
table.sort(ids, function(a, b)
    return a > b
end)
local answer = { {}, {}, {}, {} }
for first = 1, math.min(#ids, limit), 1000 do
    local last = math.min(first + 999, #ids, limit)
    local lives = redis.call('HMGET', base .. ':lives', unpack(ids, first, last))
    local histories = redis.call('HMGET', base .. ':histories', unpack(ids, first, last))
    local fixed = redis.call('HMGET', base .. ':documents', unpack(ids, first, last))
    for i = first, last do
        answer[1][i] = ids[i]
        answer[2][i] = lives[i - first + 1]
        answer[3][i] = histories[i - first + 1]
        answer[4][i] = fixed[i - first + 1]
    end
end
return answer
