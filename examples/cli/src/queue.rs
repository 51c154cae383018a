//! `kbq pause`, `kbq resume` and `kbq limits`.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::str::FromStr;

use clap::Args;
use kbqueue::queue::QueueSettings;
use kbqueue::{QueueName, Rate};

use crate::{Failure, Place};

#[derive(Args)]
#[command(
    after_help = "Limits hold for each queue, in all processes together.\n\n\
                  Examples:\n  kbq limits\n  kbq limits --rate 100/3600 --burst 5\n  \
                  kbq limits --max-processing 8 --max-processing-per-tenant 2\n  \
                  kbq limits --queue slow --max-queued off"
)]
pub(crate) struct Options {
    /// Documents that may start in a time in seconds, or `off`
    #[arg(long, value_name = "DOCUMENTS/SECONDS|off")]
    rate: Option<Setting<Pace>>,

    /// Documents that may start at once after a quiet time [default: 1]
    #[arg(long, value_name = "N")]
    burst: Option<NonZeroU32>,

    /// Documents that may be processing at once, or `off`
    #[arg(long, value_name = "N|off")]
    max_processing: Option<Setting<u32>>,

    /// Documents of one tenant that may be processing at once, or `off`
    #[arg(long, value_name = "N|off")]
    max_processing_per_tenant: Option<Setting<u32>>,

    /// Documents that may wait; more are refused. Or `off`
    #[arg(long, value_name = "N|off")]
    max_queued: Option<Setting<u64>>,
}

/// A value, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting<T>(Option<T>);

/// `DOCUMENTS/SECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace(NonZeroU32, NonZeroU32);

impl<T: FromStr> FromStr for Setting<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        let value = text.parse().map_err(|_| "use whole numbers, or `off`")?;
        Ok(Self(Some(value)))
    }
}

impl FromStr for Pace {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (documents, seconds) = text.split_once('/').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self(number(documents)?, number(seconds)?))
    }
}

pub(crate) async fn pause(place: &Place, paused: bool) -> Result<(), Failure> {
    change(place, |settings| {
        settings.paused = paused;
        Ok(())
    })
    .await
}

pub(crate) async fn limits(place: &Place, options: &Options) -> Result<(), Failure> {
    change(place, |settings| options.apply(settings)).await
}

/// Changes the settings of each queue where that is a change, and shows them.
async fn change(
    place: &Place,
    change: impl Fn(&mut QueueSettings) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let store = place.store().await?;
    for queue in &place.queue {
        let before = store.stats(queue).await?.settings;
        let mut settings = before;
        change(&mut settings)?;
        if settings != before {
            store.configure(queue, settings).await?;
        }
        print(queue, &settings)?;
    }
    Ok(())
}

impl Options {
    fn apply(&self, settings: &mut QueueSettings) -> Result<(), Failure> {
        if let Some(Setting(pace)) = self.rate {
            settings.rate = pace.map(|Pace(documents, per_seconds)| Rate {
                documents,
                per_seconds,
                burst: NonZeroU32::MIN,
            });
        }
        if let Some(burst) = self.burst {
            let none = || Failure::Told("there is no rate to burst: set --rate, too".to_owned());
            settings.rate.as_mut().ok_or_else(none)?.burst = burst;
        }
        if let Some(Setting(most)) = self.max_processing {
            settings.max_processing = most;
        }
        if let Some(Setting(most)) = self.max_processing_per_tenant {
            settings.max_processing_per_tenant = most;
        }
        if let Some(Setting(most)) = self.max_queued {
            settings.max_queued = most;
        }
        Ok(())
    }
}

fn print(queue: &QueueName, settings: &QueueSettings) -> io::Result<()> {
    let rate = settings.rate.map(|rate| {
        let (documents, seconds) = (rate.documents, rate.per_seconds);
        format!("{documents}/{seconds} (burst {})", rate.burst)
    });
    let shown = |limit: Option<String>| limit.unwrap_or_else(|| "off".to_owned());
    writeln!(
        io::stdout(),
        "{queue}  {}  rate {}  max-processing {}  max-processing-per-tenant {}  max-queued {}",
        if settings.paused { "paused" } else { "open" },
        shown(rate),
        shown(settings.max_processing.map(|n| n.to_string())),
        shown(settings.max_processing_per_tenant.map(|n| n.to_string())),
        shown(settings.max_queued.map(|n| n.to_string())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_off() {
        let pace: Setting<Pace> = "100/3600".parse().unwrap();
        let number = |n| NonZeroU32::new(n).unwrap();
        assert_eq!(pace, Setting(Some(Pace(number(100), number(3600)))));
        assert_eq!("off".parse(), Ok(Setting::<u32>(None)));
        assert_eq!("7".parse(), Ok(Setting(Some(7_u32))));
        for wrong in ["", "100", "0/5", "5/0", "1/2/3", "-1/5", "OFF"] {
            assert!(wrong.parse::<Setting<Pace>>().is_err(), "{wrong}");
        }
    }
}
