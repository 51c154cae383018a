-- Documents whose leases ran out, oldest expiry first.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; how many to pass over; how many at
--   most, 1000 or fewer.
-- Result: now; ids, lives and histories of these documents.
-- Atomic: only a look; `commit` compares again, so that a renewal comes before it or finds the lease lost.
local base, now = KEYS[1], ARGV[1]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local ids = redis.call('ZRANGEBYSCORE', base .. ':leases', '-inf', now, 'LIMIT', ARGV[2], ARGV[3])
if #ids == 0 then
    return { now, {}, {}, {} }
end
return {
    now,
    ids,
    redis.call('HMGET', base .. ':lives', unpack(ids)),
    redis.call('HMGET', base .. ':histories', unpack(ids)),
}
