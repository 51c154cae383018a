-- The one script that changes documents: compares what was read, and only then writes.
-- KEYS[1]: the queue's base; every other key is made of it, so all are in one slot.
-- ARGV: token, then
--   the number of comparisons, each: hash, n, n fields, n values that they have to begin with ('' for a
--   field that must not be there);
--   the number of writes, each: command, key, n, n arguments;
--   the number of lines whose ready documents changed, each: audience, line, new turn or '';
--   the number of events, each: kind, key of its deliveries, their value;
--   the number of documents whose deliveries changed, each: endpoint, document;
--   channel, message.
-- The first comparison is of a value that begins with the token once it is written: of a document's life, or
-- of the record of what else changes.
-- Result: 1 where it is written, now or by an earlier run under the same token; 0 where something is no
-- longer as it was read, and then nothing is written.
-- Atomic: Redis runs one script at a time. Every write of a document gives it a fresh random token, so
-- what still has the token that was read is as it was read, the lease and its expiry included: that is
-- the fence, and no script can make a document that was not there without saying so ('').
-- No slice of ARGV that is unpacked is longer than 1000: Lua's stack ends at 8000.
local base = KEYS[1]
local at = 1
local function take()
    at = at + 1
    return ARGV[at - 1]
end

local token = take()
local first = true
for _ = 1, tonumber(take()) do
    local key, n = base .. take(), tonumber(take())
    local found = redis.call('HMGET', key, unpack(ARGV, at, at + n - 1))
    if first and found[1] and string.sub(found[1], 1, #token) == token then
        return 1
    end
    first = false
    for i = 1, n do
        local value, expected = found[i], ARGV[at + n + i - 1]
        if expected == '' then
            if value then
                return 0
            end
        elseif not value or string.sub(value, 1, #expected) ~= expected then
            return 0
        end
    end
    at = at + 2 * n
end

for _ = 1, tonumber(take()) do
    local command, key, n = take(), base .. take(), tonumber(take())
    redis.call(command, key, unpack(ARGV, at, at + n - 1))
    at = at + n
end

-- A line is listed, by its turn, in every audience in which it has ready documents.
local function list(audience, line)
    local key = base .. ':lines:' .. audience
    if redis.call('EXISTS', base .. ':ready:' .. audience .. ':' .. line) == 1 then
        local turn = redis.call('HGET', base .. ':turns', line) or '0'
        redis.call('ZADD', key, turn, line)
    else
        redis.call('ZREM', key, line)
    end
end
local audiences
for _ = 1, tonumber(take()) do
    local audience, line, turn = take(), take(), take()
    if turn == '' then
        list(audience, line)
    else
        redis.call('HSET', base .. ':turns', line, turn)
        audiences = audiences or redis.call('SMEMBERS', base .. ':audiences')
        list('*', line)
        for _, other in ipairs(audiences) do
            list(other, line)
        end
    end
end

-- Keeps the time of a document's first pending delivery, which alone is claimed, and the end of its lease.
local function head(endpoint, document)
    local key = base .. ':deliveries:' .. endpoint
    local range = { '[' .. document, '(' .. document .. '~', 'LIMIT', 0, 1 }
    local first = redis.call('ZRANGEBYLEX', key .. ':pending', unpack(range))[1]
    if not first then
        redis.call('ZREM', key .. ':due', document)
        redis.call('ZREM', key .. ':sending', document)
        return
    end
    local due, leased = string.match(redis.call('HGET', key, first), '^(%-?%d+) (%d) ', 17)
    redis.call('ZADD', key .. ':due', due, document)
    if leased == '1' then
        redis.call('ZADD', key .. ':sending', due, document)
    else
        redis.call('ZREM', key .. ':sending', document)
    end
end
-- An event is written down for each endpoint that wants its kind now.
local wanting = {}
for _ = 1, tonumber(take()) do
    local kind, delivery, value = take(), take(), take()
    wanting[kind] = wanting[kind] or redis.call('SMEMBERS', base .. ':wanting:' .. kind)
    for _, endpoint in ipairs(wanting[kind]) do
        local key = base .. ':deliveries:' .. endpoint
        -- Of a document of the same id that is purged, if there are any.
        for _, part in ipairs({ 'delivered', 'dead', 'ended' }) do
            redis.call('ZREM', key .. ':' .. part, delivery)
        end
        redis.call('HSET', key, delivery, value)
        redis.call('ZADD', key .. ':pending', 0, delivery)
        head(endpoint, string.sub(delivery, 1, 32))
    end
end
for _ = 1, tonumber(take()) do
    local endpoint, document = take(), take()
    head(endpoint, document)
end

local channel, message = take(), take()
if message ~= '' then
    redis.call('PUBLISH', channel, message)
end
return 1
