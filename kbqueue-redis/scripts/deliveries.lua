-- A page of deliveries of an endpoint.
-- KEYS[1]: the queue's base.
-- ARGV: endpoint; keys above this one, or ''; how many, at most 1000; the states to list.
-- Result: keys, and their values.
-- Atomic: Redis runs one script at a time, so nothing is listed in two states.
local key, after, limit = KEYS[1] .. ':deliveries:' .. ARGV[1], ARGV[2], tonumber(ARGV[3])
local min = after == '' and '-' or '(' .. after
local found = {}
for i = 4, #ARGV do
    local some = redis.call('ZRANGEBYLEX', key .. ':' .. ARGV[i], min, '+', 'LIMIT', 0, limit)
    for _, one in ipairs(some) do
        table.insert(found, one)
    end
end
table.sort(found)
local keys = { unpack(found, 1, math.min(#found, limit)) }
if #keys == 0 then
    return { {}, {} }
end
return { keys, redis.call('HMGET', key, unpack(keys)) }
