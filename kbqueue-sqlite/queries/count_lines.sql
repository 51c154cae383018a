-- Moves the ready counts of lines, and the turns of those that were served.
-- ?3: JSON array of [line, difference of ready, new turn or 0].
-- Locking: inside BEGIN IMMEDIATE, together with the documents counted.
with n as materialized (select value as v from json_each(?3))
update kbqueue_lines as l
set ready = ready + (n.v ->> 1), turn = max(turn, n.v ->> 2)
from n
where l.id = n.v ->> 0
