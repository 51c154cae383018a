//! Damage to files, made from a seed so that it is the same every time.
#![allow(dead_code, reason = "each test binary uses its own part")]

/// A small generator of numbers (splitmix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }
}

/// The first 30 to 98 % of the file.
pub(crate) fn truncated(bytes: &[u8], seeded: &mut Seeded) -> Vec<u8> {
    let percent = 30 + seeded.below(69);
    bytes[..bytes.len() * percent / 100].to_vec()
}

/// One of four kinds of damage: flipped bytes, a truncation, a deleted block, changed digits.
pub(crate) fn mutant(bytes: &[u8], seeded: &mut Seeded) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match seeded.below(4) {
        0 => {
            for _ in 0..=bytes.len() / 2000 {
                let at = seeded.below(out.len());
                out[at] ^= 1 << seeded.below(8);
            }
        }
        1 => out = truncated(bytes, seeded),
        2 => {
            let at = seeded.below(out.len());
            let end = (at + 1 + seeded.below(out.len() / 10)).min(out.len());
            out.drain(at..end);
        }
        _ => {
            let digits: Vec<_> = (0..out.len())
                .filter(|at| out[*at].is_ascii_digit())
                .collect();
            for _ in 0..30 {
                let at = digits[seeded.below(digits.len())];
                out[at] = b'0' + u8::try_from(seeded.below(10)).unwrap();
            }
        }
    }
    out
}
