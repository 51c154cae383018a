//! Figures with their medians, side by side.

use std::fmt::Write as _;

use serde::Serialize;

/// All figures of a run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    store: String,
    measure: String,
    unit: &'static str,
    ours: Spread,
    against: &'static str,
    other: Spread,
    /// Ours through the other, of the medians.
    ratio: f64,
}

/// The least, the middle and the greatest of some runs.
#[derive(Serialize, Clone, Copy)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Report {
    /// Adds a figure of ours beside another one, each from several runs.
    pub(crate) fn add(
        &mut self,
        store: &str,
        measure: &str,
        unit: &'static str,
        ours: &[f64],
        (against, other): (&'static str, &[f64]),
    ) {
        let (ours, other) = (spread(ours), spread(other));
        let row = Row {
            store: store.to_owned(),
            measure: measure.to_owned(),
            unit,
            ours,
            against,
            other,
            ratio: ours.median / other.median,
        };
        eprintln!("{} | {} | ratio {:.2}", row.store, row.measure, row.ratio);
        self.rows.push(row);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| store | measure | ours: median (min–max) | beside | median (min–max) | ratio |\n\
                        | --- | --- | --: | --- | --: | --: |\n"
                .to_owned();
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.2} |",
                row.store,
                row.measure,
                shown(row.ours, row.unit),
                row.against,
                shown(row.other, row.unit),
                row.ratio
            );
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is JSON")
    }
}

/// The `q`-quantile of some values, by the nearest rank.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = ((sorted.len() - 1) as f64 * q).round() as usize;
    sorted[rank]
}

fn spread(values: &[f64]) -> Spread {
    Spread {
        min: quantile(values, 0.0),
        median: quantile(values, 0.5),
        max: quantile(values, 1.0),
    }
}

fn shown(spread: Spread, unit: &str) -> String {
    let digits = if spread.median < 100.0 { 2 } else { 0 };
    let Spread { min, median, max } = spread;
    format!("{median:.digits$} {unit} ({min:.digits$}–{max:.digits$})")
}
