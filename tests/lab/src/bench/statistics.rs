//! What many samples of one measure say together.

/// A measure over its samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The middle sample.
    pub(crate) median: f64,
    /// Half the distance between the quartiles, relative to the median: how far
    /// a typical sample is off. 0.1 is 10 %.
    pub(crate) spread: f64,
}

impl Summary {
    /// `None` without samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let median = quantile(&sorted, 0.5)?;
        let range = quantile(&sorted, 0.75)? - quantile(&sorted, 0.25)?;
        let spread = if median == 0.0 {
            0.0
        } else {
            range / 2.0 / median
        };
        Some(Self { median, spread })
    }
}

/// The value below which the given share of the sorted samples lies, interpolated.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (
        sorted.get(position.floor() as usize)?,
        sorted.get(position.ceil() as usize)?,
    );
    Some(below + (above - below) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier_and_the_spread_tells_of_it_only_a_little() {
        let summary = Summary::of(&[10.0, 11.0, 9.0, 10.0, 1000.0]).unwrap();
        assert_eq!(summary.median, 10.0);
        assert!(summary.spread < 0.1, "{summary:?}");
    }

    #[test]
    fn no_samples_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[f64::NAN]), None);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), Some(3.0));
    }
}
