-- Reads the deliveries whose turn it may be.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; slots; how many of one endpoint may be
--   under lease.
-- Result: now; enabled endpoints, each: id, its value, the token of the last claim (nil for none), heads under
--   lease, when the next head falls due (nil for never), keys and values of heads that are due, by time.
-- Atomic: only a look; `commit` compares again.
local base, now, slots, most = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local answer = {}
local endpoints = redis.call('HGETALL', base .. ':endpoints')
for i = 1, #endpoints, 2 do
    local id, value = endpoints[i], endpoints[i + 1]
    if string.sub(value, 17, 17) == '1' then
        local key = base .. ':deliveries:' .. id
        local leased = redis.call('ZCOUNT', key .. ':sending', '(' .. now, '+inf')
        local next = redis.call('ZRANGEBYSCORE', key .. ':due', '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
        local room = math.min(slots, 1000, math.max(most - leased, 0))
        local due = redis.call('ZRANGEBYSCORE', key .. ':due', '-inf', now, 'LIMIT', 0, room)
        local keys, values = {}, {}
        for n, document in ipairs(due) do
            local range = { '[' .. document, '(' .. document .. '~', 'LIMIT', 0, 1 }
            keys[n] = redis.call('ZRANGEBYLEX', key .. ':pending', unpack(range))[1]
            values[n] = redis.call('HGET', key, keys[n])
        end
        local claimed = redis.call('HGET', base .. ':claimed', id)
        table.insert(answer, { id, value, claimed, leased, next or false, keys, values })
    end
end
return { now, answer }
