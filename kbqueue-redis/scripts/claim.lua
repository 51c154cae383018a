-- Makes ready what fell due, and reads the fronts of the lines whose turn it is.
-- KEYS[1]: the queue's base.
-- ARGV: now in epoch microseconds, or '' for the server's own clock; the claimer's audience; its grace in
--   microseconds; slots; how many documents to make ready at most, in each audience; how many lines to read
--   at most, each as far as its even share of the slots; or 0, and then the lines to read, each with how
--   many documents of each audience.
-- Result: now; 'paused', 'more' (call again: not all that is due is ready yet) or 'front'; then
--   1 where there may be more lines that are everybody's, and where there may be more of the audience;
--   lines, each: name, turn, ready documents, 1 where all of them were read that are everybody's, and that
--   are the audience's, its processing documents (where the queue is limited), and of those read the
--   entries, lives, fixed parts and histories, in up to 1000 at a time;
--   first entries that are not due, of the claimer's audience and of all; and of other audiences, which
--   are left to others for the grace;
--   the settings, and how many documents are processing.
-- Where the queue is limited, each line is read as far as the slots, and not only as far as its even share.
-- Atomic: it moves entries between sets that only say where to look. Whether a document may be claimed is
-- for the specification to say, and `commit` compares what was read here.
-- An entry is priority (4 digits), time (16), id (32), line; in this order documents are claimed.
local base, now, own = KEYS[1], ARGV[1], ARGV[2]
local grace, slots = tonumber(ARGV[3]), tonumber(ARGV[4])
local batch, most_lines = tonumber(ARGV[5]), tonumber(ARGV[6])
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
local settings = redis.call('HMGET', base .. ':settings', 'token', 'json', 'full_at', 'paused', 'limited')
local limited = table.remove(settings)
if settings[4] == '1' then
    return { now, 'paused', { 0, 0 }, {}, {}, {}, settings, 0 }
end

local function ready(audience, line)
    return base .. ':ready:' .. audience .. ':' .. line
end

-- As in `commit`.
local function list(audience, line)
    local key = base .. ':lines:' .. audience
    if redis.call('EXISTS', ready(audience, line)) == 1 then
        local turn = redis.call('HGET', base .. ':turns', line) or '0'
        redis.call('ZADD', key, turn, line)
    else
        redis.call('ZREM', key, line)
    end
end

-- Moves entries with their scores out of one set, each into the ready set of its line.
local function move(entries, from, audience)
    local members, by_line = {}, {}
    for i = 1, #entries, 2 do
        local entry = entries[i]
        local line = string.sub(entry, 53)
        members[#members + 1] = entry
        by_line[line] = by_line[line] or {}
        table.insert(by_line[line], entry)
    end
    redis.call('ZREM', from, unpack(members))
    for line, of_line in pairs(by_line) do
        local pairs_of_line = {}
        for _, entry in ipairs(of_line) do
            table.insert(pairs_of_line, 0)
            table.insert(pairs_of_line, entry)
        end
        redis.call('ZADD', ready(audience, line), unpack(pairs_of_line))
        list(audience, line)
    end
end

local more = false
local function due(key, at)
    local entries = redis.call('ZRANGEBYSCORE', key, '-inf', at, 'WITHSCORES', 'LIMIT', 0, batch)
    more = more or #entries == 2 * batch
    return entries
end

local function promote(audience)
    local key = base .. ':waiting:' .. audience
    local entries = due(key, now)
    if #entries > 0 then
        move(entries, key, audience)
        if audience ~= '*' then
            local scored = {}
            for i = 1, #entries, 2 do
                table.insert(scored, entries[i + 1])
                table.insert(scored, entries[i])
            end
            redis.call('ZADD', base .. ':reserved:' .. audience, unpack(scored))
        end
    end
end

-- What was left to others for long enough is everybody's. It stays ready for them, too: their going on
-- with it must not wait behind what everybody may only start.
local function open(audience)
    local key = base .. ':reserved:' .. audience
    local entries = due(key, string.format('%.0f', tonumber(now) - grace))
    if #entries > 0 then
        move(entries, key, '*')
    end
end

local function first(key)
    return redis.call('ZRANGE', key, 0, 0)[1]
end

promote('*')
local own_first, other_first = {}, {}
for _, audience in ipairs(redis.call('SMEMBERS', base .. ':audiences')) do
    promote(audience)
    local waiting, reserved = base .. ':waiting:' .. audience, base .. ':reserved:' .. audience
    if audience == own then
        table.insert(own_first, first(waiting))
    else
        open(audience)
        table.insert(other_first, first(waiting))
        table.insert(other_first, first(reserved))
    end
    if redis.call('EXISTS', waiting, reserved, base .. ':lines:' .. audience) == 0 then
        redis.call('SREM', base .. ':audiences', audience)
    end
end
table.insert(own_first, first(base .. ':waiting:*'))
if more then
    return { now, 'more', { 0, 0 }, {}, {}, {}, settings, 0 }
end

local names, turns, most, full = {}, {}, {}, { 0, 0 }
for i = 7, #ARGV, 2 do
    local name = ARGV[i]
    table.insert(names, name)
    turns[name], most[name] = redis.call('HGET', base .. ':turns', name) or '0', tonumber(ARGV[i + 1])
end
if most_lines > 0 then
    for part, audience in ipairs({ '*', own }) do
        local key = base .. ':lines:' .. audience
        local found = redis.call('ZRANGE', key, 0, most_lines - 1, 'WITHSCORES')
        if #found == 2 * most_lines then
            full[part] = 1
        end
        for i = 1, #found, 2 do
            if not turns[found[i]] then
                table.insert(names, found[i])
                turns[found[i]] = found[i + 1]
            end
        end
    end
end

-- How many documents of each line are processing: there are no more than slots in all processes.
local processing = {}
if limited == 'tenant' then
    local ids = redis.call('ZRANGE', base .. ':leases', 0, -1)
    for start = 1, #ids, 1000 do
        local some = redis.call('HMGET', base .. ':lives', unpack(ids, start, math.min(start + 999, #ids)))
        for _, life in ipairs(some) do
            local tenant = life and cjson.decode(string.sub(life, 17)).tenant
            local line = tenant and 't' .. tenant or 'n'
            processing[line] = (processing[line] or 0) + 1
        end
    end
end

local lines = {}
for _, name in ipairs(names) do
    local line = { name, turns[name], 0, 1, 1, processing[name] or 0, {} }
    local share = limited and slots or math.ceil(slots / #names)
    local last = (most[name] or share) - 1
    for part, audience in ipairs({ '*', own }) do
        local key = ready(audience, name)
        line[3] = line[3] + redis.call('ZCARD', key)
        for start = 0, last, 1000 do
            local stop = math.min(start + 999, last)
            local entries = redis.call('ZRANGE', key, start, stop)
            if #entries > 0 then
                local ids = {}
                for i, entry in ipairs(entries) do
                    ids[i] = string.sub(entry, 21, 52)
                end
                table.insert(line[7], {
                    entries,
                    redis.call('HMGET', base .. ':lives', unpack(ids)),
                    redis.call('HMGET', base .. ':documents', unpack(ids)),
                    redis.call('HMGET', base .. ':histories', unpack(ids)),
                })
            end
            if #entries < stop - start + 1 then
                break
            end
            if stop == last then
                line[3 + part] = 0
            end
        end
    end
    table.insert(lines, line)
end
return { now, 'front', full, lines, own_first, other_first, settings, redis.call('ZCARD', base .. ':leases') }
