//! Whose turn it is when a claim serves several lines of documents, one line for each (queue, tenant).
//!
//! Lines are served round robin, the least recently served first. A store keeps a `turn` for each
//! line (0 before its first service) and a counter of all documents ever dealt; it orders the lines
//! that have claimable documents by (turn, queue, tenant), [`deal`]s the free slots to them, and gives
//! each line served the counter's value at its last document as its new turn.

/// Deals `slots` to lines that can use `claimable[i]` each: the line of each slot, in serving order.
///
/// A line that turns out to hold less than was thought is dealt again with the true number.
#[must_use]
pub fn deal(slots: usize, claimable: &[u64]) -> Vec<usize> {
    let mut dealt = Vec::with_capacity(slots);
    for round in 0.. {
        let before = dealt.len();
        for (line, available) in claimable.iter().enumerate() {
            if *available > round && dealt.len() < slots {
                dealt.push(line);
            }
        }
        if dealt.len() == before {
            break;
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::deal;

    #[test]
    fn slots_go_round_until_they_or_the_documents_run_out() {
        assert_eq!(deal(5, &[9, 9, 9]), [0, 1, 2, 0, 1]);
        assert_eq!(deal(8, &[1, 9, 9]), [0, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(deal(9, &[1, 0, 2]), [0, 2, 2]);
        assert_eq!(deal(0, &[1]), [] as [usize; 0]);
        assert_eq!(deal(3, &[]), [] as [usize; 0]);
    }
}
