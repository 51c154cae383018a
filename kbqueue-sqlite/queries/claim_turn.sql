-- How many documents were ever dealt: each line's turn is the number of the last one it was dealt.
-- Result: one number.
-- Locking: inside BEGIN IMMEDIATE, so the next numbers are ours.
select coalesce(max(turn), 0) from kbqueue_lines
