//! For the tests of this package: children that do what they please, behind layers of choice.

use std::env;
use std::fs::File;

use kbqueue_core::ExtractError;

use crate::child::repair::repair;
pub use crate::child::serve::Pages;
use crate::child::source::Source;
use crate::child::template;
use crate::isolation::Layers;
use crate::{PdfOptions, control, protocol};

/// One layer of the sandbox, all of them, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walls {
    /// As ever.
    All,
    /// Limits of memory, CPU time, files and processes alone.
    Limits,
    /// Landlock alone.
    Landlock,
    /// The filter of system calls alone.
    Seccomp,
    /// A process and nothing more.
    None,
}

/// Puts only these walls around children.
pub fn set_walls(options: &mut PdfOptions, walls: Walls) {
    options.layers = match walls {
        Walls::All => Layers::ALL,
        Walls::Limits => Layers::LIMITS,
        Walls::Landlock => Layers::LANDLOCK,
        Walls::Seccomp => Layers::SECCOMP,
        Walls::None => Layers::NONE,
    };
}

/// As [`init`](crate::init), with something else than pdfium in the children.
pub fn init_with(open: fn(File, u64) -> Result<Box<dyn Pages>, ExtractError>) {
    if let Some((setup, host)) = control::Setup::from_args(env::args_os().skip(1))
        && control::has_host()
    {
        template::run(setup, host, |_| {
            Ok(Box::new(move |file, size_bytes, _| open(file, size_bytes)))
        });
    }
    crate::set_initialised();
}

/// Repairs a damaged file. Panics if that does what it must not.
pub fn check_repair(file: &[u8]) {
    let empty = File::open("/dev/null").expect("every Unix has it");
    let source = Source::new(empty, 0).followed_by(file.to_vec());
    let repaired = repair(source).expect("it lies in memory");
    if let Some(repaired) = repaired {
        let written = repaired.bytes(0, usize::MAX).expect("it lies in memory");
        let has = |mark: &[u8]| written.windows(mark.len()).any(|found| found == mark);
        assert!(has(b"/Pages") && has(b"startxref"), "it leads to a page");
    }
}

/// Decodes a message of a child. Panics if that does what it must not.
pub fn check_frame(message: &[u8]) {
    protocol::check(message);
}
