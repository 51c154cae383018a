//! What stands between a hostile document and everything else.

use std::fmt;

/// A set of layers of the sandbox around children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Layers(u8);

impl Layers {
    /// Ends with its parent, gains no privileges, cannot be looked into.
    pub(crate) const BASICS: Self = Self(1);
    /// Limits of memory, CPU time, files and processes.
    pub(crate) const LIMITS: Self = Self(2);
    /// Landlock: no files.
    pub(crate) const LANDLOCK: Self = Self(4);
    /// Landlock in full: beside files, no network and no signals to others.
    pub(crate) const LANDLOCK_FULL: Self = Self(8);
    /// A filter of system calls.
    pub(crate) const SECCOMP: Self = Self(16);

    pub(crate) const ALL: Self = Self(31);
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn has(self, layer: Self) -> bool {
        self.0 & layer.0 != 0
    }

    pub(crate) fn add(&mut self, layer: Self) {
        self.0 |= layer.0;
    }
}

/// Which layers are around the processes that read documents. Each always is a process of its own.
///
/// Displayed, it is a line for a log: `limits, landlock (files, network, signals), seccomp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Isolation {
    /// They are limited in memory and CPU time, open no further file and start no process.
    pub limits: bool,
    /// Landlock keeps them from every file.
    pub landlock_files: bool,
    /// Landlock keeps them from TCP and from sending signals to other processes as well.
    pub landlock_full: bool,
    /// System calls other than a few for reading, memory and answering are refused.
    pub seccomp: bool,
}

impl Isolation {
    pub(crate) fn new(layers: Layers) -> Self {
        Self {
            limits: layers.has(Layers::LIMITS),
            landlock_files: layers.has(Layers::LANDLOCK),
            landlock_full: layers.has(Layers::LANDLOCK_FULL),
            seccomp: layers.has(Layers::SECCOMP),
        }
    }

    /// Whether every layer is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.limits && self.landlock_files && self.landlock_full && self.seccomp
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let landlock = match (self.landlock_files, self.landlock_full) {
            (_, true) => Some("landlock (files, network, signals)"),
            (true, false) => Some("landlock (files)"),
            (false, false) => None,
        };
        let mut layers = [
            self.limits.then_some("limits"),
            landlock,
            self.seccomp.then_some("seccomp"),
        ]
        .into_iter()
        .flatten();
        let Some(first) = layers.next() else {
            return f.write_str("processes alone");
        };
        f.write_str(first)?;
        layers.try_for_each(|layer| write!(f, ", {layer}"))
    }
}
