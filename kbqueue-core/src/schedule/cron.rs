//! Cron expressions, read in a time zone.

use std::cmp::Ordering;
use std::str::FromStr;

use croner::errors::CronError;
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

use crate::error::BoxError;

/// Tells when a cron expression ticks.
///
/// Where a clock is set back, fixed times (`30 2 * * *`) tick once in the doubled hour, the first time
/// round, and every-so-often ones (`*/10 * * * *`) go on ticking; where it is set forward, fixed times
/// that are left out tick at the first instant after the gap.
#[derive(Debug, Clone)]
pub struct Cron {
    cron: croner::Cron,
    time_zone: TimeZone,
}

/// Why a cron expression or its time zone is of no use.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what:?} is no schedule: use five cron fields (or six, seconds first) and an IANA time zone"
)]
pub struct InvalidCron {
    what: String,
    source: BoxError,
}

impl Cron {
    /// Reads a cron expression, such as `0 3 * * MON-FRI`, and the name of a time zone, such as
    /// `Europe/Berlin`.
    ///
    /// # Errors
    /// [`InvalidCron`].
    pub fn parse(cron: &str, time_zone: &str) -> Result<Self, InvalidCron> {
        let invalid = |what: &str, source: BoxError| InvalidCron {
            what: what.to_owned(),
            source,
        };
        Ok(Self {
            cron: croner::Cron::from_str(cron).map_err(|error| invalid(cron, error.into()))?,
            time_zone: TimeZone::get(time_zone)
                .map_err(|error| invalid(time_zone, error.into()))?,
        })
    }

    /// The first tick after `now`.
    ///
    /// # Errors
    /// [`InvalidCron`] where there is none, such as on 30 February.
    pub fn after(&self, now: Timestamp) -> Result<Timestamp, InvalidCron> {
        let now = Moment(now.to_zoned_datetime(self.time_zone.clone()));
        let next = self.cron.find_next_occurrence(&now, false);
        let next = next.map_err(|error| InvalidCron {
            what: self.cron.as_str().to_owned(),
            source: error.into(),
        })?;
        Ok(next.0.timestamp())
    }
}

/// An instant in a time zone, as croner asks about it.
#[derive(Debug, Clone)]
struct Moment(ZonedDateTime);

impl CronDateTime for Moment {
    fn to_civil(&self) -> CivilDateTime {
        let at = self.0.datetime();
        let part = |part: i8| u32::from(part.unsigned_abs());
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(at.year().into(), part(at.month()), part(at.day())),
            CivilTime::from_parts_unchecked(part(at.hour()), part(at.minute()), part(at.second())),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let day = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(day.unsigned_abs().into())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidDate);
        let at = DateTime::new(
            i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?,
            part(civil.month())?,
            part(civil.day())?,
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
            0,
        );
        let at = at.map_err(|_| CronError::InvalidDate)?;
        let found = self.0.time_zone().to_ambiguous_zoned_datetime(at);
        let moment = |zoned: Result<ZonedDateTime, jiff::Error>| match zoned {
            Ok(zoned) => Ok(Self(zoned)),
            Err(_) => Err(CronError::InvalidTime),
        };
        Ok(match found.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(moment(found.unambiguous())?),
            AmbiguousOffset::Fold { .. } => {
                let earlier = moment(found.clone().earlier())?;
                Resolution::Ambiguous(earlier, moment(found.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let later = self.0.checked_add(SignedDuration::from_secs(seconds));
        later.ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(cron: &str, time_zone: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron, time_zone).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let next = || {
            at = cron.after(at).unwrap();
            at.to_string()
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn a_fixed_time_ticks_once_when_the_clock_is_set_back() {
        // 2026-10-25 03:00 CEST becomes 02:00 CET.
        let got = ticks("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3);
        let expected = [
            "2026-10-24T00:30:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-26T01:30:00Z",
        ];
        assert_eq!(got, expected);
        // Asked in the middle of the doubled hour: it has ticked.
        let got = ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
        assert_eq!(got, ["2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn a_fixed_time_that_is_left_out_ticks_after_the_gap() {
        // 2026-03-29 02:00 CET becomes 03:00 CEST.
        let got = ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(got, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn every_so_often_goes_on_through_a_change_of_the_clock() {
        let got = ticks("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4);
        let expected = ["00:30", "01:00", "01:30", "02:00"].map(|t| format!("2026-10-25T{t}:00Z"));
        assert_eq!(got, expected);
    }

    #[test]
    fn what_cannot_be_read_or_never_comes_is_refused() {
        for (cron, time_zone) in [
            ("* *", "UTC"),
            ("61 * * * *", "UTC"),
            ("* * * * *", "Mars/Base"),
        ] {
            let error = Cron::parse(cron, time_zone).unwrap_err();
            assert!(std::error::Error::source(&error).is_some(), "{error}");
        }
        let never = Cron::parse("0 0 30 2 *", "UTC").unwrap();
        assert!(never.after(Timestamp::UNIX_EPOCH).is_err());
    }
}
