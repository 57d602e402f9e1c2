//! Statistics of noisy samples: medians, and an interval for a median that assumes no distribution.

use serde::Serialize;

/// The confidence that an interval should have.
const CONFIDENCE: f64 = 0.95;

/// What is told of some samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of these samples; `None` of none.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        Some(Self {
            min: samples.iter().copied().reduce(f64::min)?,
            median: median(samples)?,
            max: samples.iter().copied().reduce(f64::max)?,
        })
    }

    /// Each figure multiplied by `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            min: self.min * factor,
            median: self.median * factor,
            max: self.max * factor,
        }
    }
}

/// The median; `None` of no samples.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let sorted = sorted(samples);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
}

/// An interval in which the median lies that the samples were drawn around.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The chance that such an interval holds the median: at least 0.95, where the samples are
    /// enough for that, which takes six.
    pub confidence: f64,
}

impl Interval {
    /// The narrowest pair of samples, as many below as above it, that holds the median with 95 %
    /// confidence, or, where there are too few for that, the smallest and the largest.
    ///
    /// Each sample is below the median with a chance of one half, so the confidence is a sum of
    /// binomial terms, whatever the distribution (Conover, Practical Nonparametric Statistics, 3.2).
    #[must_use]
    pub fn of_median(samples: &[f64]) -> Option<Self> {
        let sorted = sorted(samples);
        let n = sorted.len();
        let mut outside = (0..n.div_ceil(2)).rev();
        let skipped = outside
            .find(|&skipped| confidence(n, skipped) >= CONFIDENCE)
            .unwrap_or(0);
        Some(Self {
            low: *sorted.get(skipped)?,
            high: *sorted.get(n - 1 - skipped)?,
            confidence: confidence(n, skipped),
        })
    }
}

/// The chance that the median of the distribution lies between the sample that has `skipped` smaller
/// ones and the one that has `skipped` larger ones, of `n` samples.
fn confidence(n: usize, skipped: usize) -> f64 {
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut tail = 0.0;
    for below in 0..=skipped {
        tail += term;
        // From C(n, below) to C(n, below + 1).
        term *= (n - below) as f64 / (below + 1) as f64;
    }
    2.0_f64.mul_add(-tail, 1.0).max(0.0)
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 4.0, 5.0]), Some(4.5));
    }

    #[test]
    fn a_summary_has_the_extremes() {
        let summary = Summary::of(&[2.0, 8.0, 3.0]).expect("of samples");
        let expected = Summary {
            min: 2.0,
            median: 3.0,
            max: 8.0,
        };
        assert_eq!(summary, expected);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn seven_samples_are_enough_for_all_of_them_to_be_the_interval() {
        let samples = [7.0, 1.0, 3.0, 2.0, 5.0, 4.0, 6.0];
        let interval = Interval::of_median(&samples).expect("of samples");
        assert_eq!((interval.low, interval.high), (1.0, 7.0));
        // Outside only if all seven fall on one side: 2 / 2^7.
        assert!((interval.confidence - (1.0 - 2.0 / 128.0)).abs() < 1e-12);
    }

    #[test]
    fn of_twenty_samples_five_are_left_out_on_each_side() {
        // The sign test's table: n = 20, 5 % on both sides together.
        let samples: Vec<f64> = (1..=20).map(f64::from).collect();
        let interval = Interval::of_median(&samples).expect("of samples");
        assert_eq!((interval.low, interval.high), (6.0, 15.0));
        assert!((interval.confidence - 0.958_61).abs() < 1e-5);
    }

    #[test]
    fn too_few_samples_say_how_little_they_are() {
        let interval = Interval::of_median(&[1.0, 2.0, 4.0]).expect("of samples");
        assert_eq!((interval.low, interval.high), (1.0, 4.0));
        assert!((interval.confidence - 0.75).abs() < 1e-12);
        let one = Interval::of_median(&[5.0]).expect("of a sample");
        assert_eq!((one.low, one.high, one.confidence), (5.0, 5.0, 0.0));
    }
}
