//! Documents, times and sizes as people read them.

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::{Document, State};

/// A moment, in words.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// For programs.
    pub(crate) iso: String,
    /// For people who want to know exactly.
    pub(crate) full: String,
    /// Seen from now.
    pub(crate) ago: String,
}

impl Moment {
    pub(crate) fn of(at: Timestamp, now: Timestamp) -> Self {
        let seconds = now.as_second() - at.as_second();
        let ago = match seconds {
            -4..=4 => "just now".to_owned(),
            5.. => format!("{} ago", span(seconds.unsigned_abs())),
            _ => format!("in {}", span(seconds.unsigned_abs())),
        };
        Self {
            iso: at.to_string(),
            full: at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            ago,
        }
    }
}

/// A length of time in its largest unit, or in its two largest where that matters.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something took.
pub(crate) fn lasted(from: Timestamp, to: Timestamp) -> String {
    let took = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    match took.as_secs() {
        0 => format!("{} ms", took.as_millis()),
        1..60 => format!("{:.1} s", took.as_secs_f64()),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes, with three digits at most.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            // Narrow, and no place to break the line.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number of things.
pub(crate) fn counted(number: u32, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number.into()))
}

/// A document as pages show it.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    pub(crate) document: Document,
    now: Timestamp,
}

impl Card {
    pub(crate) fn new(document: Document, now: Timestamp) -> Self {
        Self { document, now }
    }

    pub(crate) fn id(&self) -> String {
        self.document.id.to_string()
    }

    /// Enough of the id to tell documents apart: the end, because ids begin with the time.
    pub(crate) fn short_id(&self) -> String {
        let id = self.id();
        id[id.len() - 8..].to_owned()
    }

    pub(crate) fn name(&self) -> &str {
        &self.document.filename
    }

    pub(crate) fn state(&self) -> &'static str {
        self.document.lifecycle.state.as_str()
    }

    /// The state in words, with what is special about it.
    pub(crate) fn label(&self) -> &'static str {
        let life = &self.document.lifecycle;
        match life.state {
            State::Queued if life.retry_count > 0 => "Retrying",
            State::Queued if life.available_at > self.now => "Scheduled",
            State::Queued => "Queued",
            State::Processing if life.cancel_requested_at.is_some() => "Cancelling",
            State::Processing => "Processing",
            State::Completed if !self.document.failed_pages.is_empty() => "Completed in part",
            State::Completed => "Completed",
            State::Failed if life.quarantined => "Quarantined",
            State::Failed => "Failed",
            State::Cancelled => "Cancelled",
        }
    }

    pub(crate) fn is_processing(&self) -> bool {
        self.document.lifecycle.state == State::Processing
    }

    pub(crate) fn percent(&self) -> u8 {
        self.document.lifecycle.progress.percent
    }

    /// "Page 3 of 10", or what it has in the end.
    pub(crate) fn pages(&self) -> String {
        let progress = &self.document.lifecycle.progress;
        match progress.total_pages {
            None if self.is_processing() => "Opening".to_owned(),
            None => String::new(),
            Some(total) if self.document.lifecycle.state == State::Completed => {
                counted(total, "page")
            }
            Some(total) => format!(
                "Page {} of {}",
                grouped(progress.current_page.into()),
                grouped(total.into())
            ),
        }
    }

    /// "4 of about 20 chunks", or what it has in the end.
    pub(crate) fn chunks(&self) -> String {
        let progress = &self.document.lifecycle.progress;
        if self.is_processing() && progress.total_chunks > 0 {
            let current = grouped(progress.current_chunk.into());
            return format!("{current} of {}", counted(progress.total_chunks, "chunk"));
        }
        if progress.current_chunk == 0 && self.document.lifecycle.state != State::Completed {
            return String::new();
        }
        counted(progress.current_chunk, "chunk")
    }

    pub(crate) fn eta(&self) -> Option<String> {
        let eta_ms = self.document.lifecycle.progress.eta_ms?;
        self.is_processing()
            .then(|| format!("about {} left", span(eta_ms.div_ceil(1000))))
    }

    pub(crate) fn worker(&self) -> Option<&str> {
        let lease = self.document.lifecycle.lease.as_ref()?;
        Some(&lease.worker)
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.document.lifecycle.attempt
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.document.lifecycle.error.as_deref()
    }

    pub(crate) fn size(&self) -> String {
        size(self.document.blob.size_bytes)
    }

    pub(crate) fn created(&self) -> Moment {
        Moment::of(self.document.created_at, self.now)
    }

    /// When it reached its state, as far as that is known.
    pub(crate) fn since(&self) -> Moment {
        let life = &self.document.lifecycle;
        let at = match life.state {
            State::Processing => life.started_at,
            State::Completed | State::Failed | State::Cancelled => life.completed_at,
            State::Queued => None,
        };
        Moment::of(at.unwrap_or(self.document.created_at), self.now)
    }

    pub(crate) fn can_cancel(&self) -> bool {
        let life = &self.document.lifecycle;
        !life.state.is_terminal() && life.cancel_requested_at.is_none()
    }

    pub(crate) fn can_retry(&self) -> bool {
        self.document.lifecycle.state.is_terminal()
    }

    pub(crate) fn can_delete(&self) -> bool {
        !self.is_processing()
    }

    pub(crate) fn can_rechunk(&self) -> bool {
        self.document.lifecycle.state == State::Completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (offset, text) in [
            (0, "just now"),
            (-42, "42 s ago"),
            (-150, "2 min ago"),
            (-7300, "2 h ago"),
            (-200_000, "2 d ago"),
            (90, "in 1 min"),
        ] {
            let at = Timestamp::from_second(1_000_000 + offset).unwrap();
            assert_eq!(Moment::of(at, now).ago, text);
        }
    }

    #[test]
    fn sizes_and_numbers_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1234, "1.2 kB"),
            (999_600, "1.0 MB"),
            (25_000_000, "25 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(counted(1, "page"), "1 page");
    }
}
