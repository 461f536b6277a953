//! Samples in, a table of ratios (or JSON rows) out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::statistics::Summary;

/// What was measured and in which unit. Names are stable: others script against them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Measure {
    /// Name, such as `saturation_requests`.
    pub(crate) name: &'static str,
    /// Unit, such as `1/s`.
    pub(crate) unit: &'static str,
}

/// The unit of times.
const TIME: &str = "us";

/// One line of `cargo xtask bench --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    measure: &'static str,
    mode: &'static str,
    median: f64,
    spread: f64,
    unit: &'static str,
}

/// All samples of a run.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Names of the modes, Weft last: it is compared with the others.
    modes: Vec<&'static str>,
    /// Measures in the order in which they first came.
    measures: Vec<Measure>,
    values: BTreeMap<(Measure, &'static str), Vec<f64>>,
}

impl Samples {
    /// No samples yet, of those modes.
    pub(crate) fn new(modes: Vec<&'static str>) -> Self {
        Self {
            modes,
            measures: Vec::new(),
            values: BTreeMap::new(),
        }
    }

    /// Adds one sample.
    pub(crate) fn add(&mut self, measure: Measure, mode: &'static str, value: f64) {
        if !self.measures.contains(&measure) {
            self.measures.push(measure);
        }
        self.values.entry((measure, mode)).or_default().push(value);
    }

    fn summary(&self, measure: Measure, mode: &'static str) -> Option<Summary> {
        Summary::of(self.values.get(&(measure, mode))?)
    }

    /// The rows for scripts.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for measure in &self.measures {
            for mode in &self.modes {
                let Some(Summary { median, spread }) = self.summary(*measure, mode) else {
                    continue;
                };
                rows.push(Row {
                    measure: measure.name,
                    mode,
                    median,
                    spread,
                    unit: measure.unit,
                });
            }
        }
        rows
    }

    /// The table for people: medians with their spread, and the last mode's ratio to
    /// each of the others; of times the difference, too.
    pub(crate) fn table(&self) -> String {
        let Some((subject, others)) = self.modes.split_last() else {
            return String::new();
        };
        let mut table = format!("{:<28}{:>8}", "measure", "unit");
        for mode in &self.modes {
            let _ = write!(table, "{mode:>18}");
        }
        for other in others {
            let _ = write!(table, "{:>16}", format!("{subject}/{other}"));
        }
        for measure in &self.measures {
            let _ = write!(table, "\n{:<28}{:>8}", measure.name, measure.unit);
            for mode in &self.modes {
                let cell = self
                    .summary(*measure, mode)
                    .map_or("-".to_owned(), |summary| {
                        format!("{} ±{:.0}%", short(summary.median), summary.spread * 100.0)
                    });
                let _ = write!(table, "{cell:>18}");
            }
            for other in others {
                let compared = self.compared(*measure, subject, other);
                let compared = compared.unwrap_or_else(|| "-".to_owned());
                let _ = write!(table, "{compared:>16}");
            }
        }
        table
    }

    /// A mode beside another, such as `1.20x +150` of microseconds.
    fn compared(
        &self,
        measure: Measure,
        mode: &'static str,
        other: &'static str,
    ) -> Option<String> {
        let mode = self.summary(measure, mode)?.median;
        let other = self.summary(measure, other)?.median;
        let ratio = (other != 0.0).then(|| format!("{:.2}x", mode / other))?;
        Some(match measure.unit {
            TIME => format!("{ratio} {:+.0}", mode - other),
            _ => ratio,
        })
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        x if x >= 1000.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Measure = Measure {
        name: "rate",
        unit: "1/s",
    };

    #[test]
    fn the_table_compares_the_last_mode_with_the_others() {
        let mut samples = Samples::new(vec!["direct", "weft"]);
        [1.0, 2.0, 3.0]
            .into_iter()
            .for_each(|x| samples.add(RATE, "direct", x));
        samples.add(RATE, "weft", 4.0);
        let table = samples.table();
        assert!(
            table.contains("weft/direct") && table.contains("2.00x"),
            "{table}"
        );
    }

    #[test]
    fn of_times_the_table_says_the_difference_too() {
        let latency = Measure {
            name: "p50",
            unit: TIME,
        };
        let mut samples = Samples::new(vec!["direct", "weft"]);
        samples.add(latency, "direct", 500.0);
        samples.add(latency, "weft", 650.0);
        let table = samples.table();
        assert!(table.ends_with("1.30x +150"), "{table}");
    }

    #[test]
    fn a_mode_without_samples_is_no_row() {
        let mut samples = Samples::new(vec!["direct", "weft"]);
        samples.add(RATE, "weft", 4.0);
        assert_eq!(samples.rows().len(), 1);
    }
}
