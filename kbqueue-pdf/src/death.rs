//! What a child died of, in words for the people who look after its document.

use std::time::Duration;

use rustix::process::Signal;

use crate::control::End;

/// A child's death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Death {
    /// Of what it read: a clause about "the process that read it".
    OfDocument(String),
    /// Of something that its document has no part in.
    Elsewhere(String),
}

impl Death {
    pub(crate) fn late(after: Duration) -> Self {
        Self::OfDocument(format!(
            "the process that read it was stopped after {} s without a result",
            after.as_secs_f64()
        ))
    }

    pub(crate) fn nonsense(what: &str) -> Self {
        Self::OfDocument(format!(
            "the process that read it gave an answer that makes no sense ({what}) and was stopped"
        ))
    }

    /// `memory_bytes`: what it was allowed.
    pub(crate) fn of(end: End, memory_bytes: u64) -> Self {
        if end.status == End::NEVER_BEGAN {
            return Self::Elsewhere("the system starts no further process".to_owned());
        }
        if libc::WIFEXITED(end.status) && libc::WEXITSTATUS(end.status) == End::UNPROTECTED {
            return Self::Elsewhere("the sandbox could not be put up around one".to_owned());
        }
        if libc::WIFEXITED(end.status) {
            return Self::OfDocument(match libc::WEXITSTATUS(end.status) {
                101 => "the process that read it met a defect of its own (a panic)".to_owned(),
                code => format!("the process that read it ended with exit code {code}"),
            });
        }
        let number = libc::WTERMSIG(end.status);
        let signal = Signal::from_named_raw(number);
        // Both libraries abort when they get no memory, and they also abort over failed checks. What
        // they had by then tells the two apart, as a buffer that grows takes half of the new size first.
        let much = end.peak_kib.saturating_mul(1024) >= memory_bytes / 4;
        let aborted = [Signal::ABORT, Signal::TRAP, Signal::ILL].map(Some);
        let mib = memory_bytes >> 20;
        let name = name(number);
        Self::OfDocument(if much && aborted.contains(&signal) {
            format!(
                "the process that read it ran out of memory, of which it may use {mib} MiB ({name})"
            )
        } else if signal == Some(Signal::SYS) {
            format!(
                "the process that read it was stopped by the sandbox over a forbidden call ({name})"
            )
        } else if signal == Some(Signal::XCPU) {
            format!("the process that read it used up its CPU time ({name})")
        } else if signal == Some(Signal::KILL) {
            format!(
                "the process that read it was killed from outside ({name}), most likely because the \
                 machine ran out of memory"
            )
        } else {
            format!("the process that read it crashed ({name})")
        })
    }
}

fn name(signal: i32) -> String {
    let name = match Signal::from_named_raw(signal) {
        Some(Signal::SEGV) => "SIGSEGV",
        Some(Signal::ABORT) => "SIGABRT",
        Some(Signal::TRAP) => "SIGTRAP",
        Some(Signal::BUS) => "SIGBUS",
        Some(Signal::ILL) => "SIGILL",
        Some(Signal::FPE) => "SIGFPE",
        Some(Signal::SYS) => "SIGSYS",
        Some(Signal::KILL) => "SIGKILL",
        Some(Signal::TERM) => "SIGTERM",
        Some(Signal::XCPU) => "SIGXCPU",
        Some(Signal::XFSZ) => "SIGXFSZ",
        Some(Signal::PIPE) => "SIGPIPE",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_document_is_to_blame_for_a_missing_wall() {
        let end = End {
            status: End::UNPROTECTED << 8,
            peak_kib: 0,
        };
        let death = Death::of(end, 1 << 30);
        assert!(
            matches!(&death, Death::Elsewhere(cause) if cause.contains("sandbox")),
            "{death:?}"
        );
    }
}
