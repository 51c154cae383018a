-- Removes an endpoint with its deliveries.
-- KEYS[1]: the queue's base.
-- ARGV: endpoint; every kind of event.
-- Result: 1 where it was there.
-- Atomic: Redis runs one script at a time, so no delivery is written for it any more. Memory is given back
-- in the background.
local base, id = KEYS[1], ARGV[1]
for i = 2, #ARGV do
    redis.call('SREM', base .. ':wanting:' .. ARGV[i], id)
end
redis.call('HDEL', base .. ':claimed', id)
local key = base .. ':deliveries:' .. id
redis.call('UNLINK', key)
for _, part in ipairs({ 'pending', 'delivered', 'dead', 'ended', 'due', 'sending' }) do
    redis.call('UNLINK', key .. ':' .. part)
end
return redis.call('HDEL', base .. ':endpoints', id)
