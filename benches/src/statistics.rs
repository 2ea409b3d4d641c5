//! Numbers of several runs: what stands for them.

use anyhow::{Result, ensure};

/// The middle one, or the mean of the two in the middle.
///
/// # Errors
/// Where there is none, or one that is no number.
pub(crate) fn median(numbers: &[f64]) -> Result<f64> {
    ensure!(!numbers.is_empty(), "there is no median of nothing");
    ensure!(numbers.iter().all(|number| number.is_finite()), "no median of {numbers:?}");
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    Ok((sorted[lower] + sorted[upper]) / 2.0)
}

/// The median of one quantity over runs.
///
/// # Errors
/// As [`median`].
pub(crate) fn median_of<T>(runs: &[T], quantity: impl Fn(&T) -> f64) -> Result<f64> {
    median(&runs.iter().map(quantity).collect::<Vec<_>>())
}

/// The median of the ratios of runs that were made one after the other: what slows a machine down slows both.
///
/// # Errors
/// Where the runs are no pairs, or as [`median`].
pub(crate) fn paired<T>(ours: &[T], theirs: &[T], quantity: impl Fn(&T) -> f64) -> Result<f64> {
    ensure!(ours.len() == theirs.len(), "{} runs and {}: no pairs", ours.len(), theirs.len());
    let ratios: Vec<f64> =
        ours.iter().zip(theirs).map(|(ours, theirs)| quantity(ours) / quantity(theirs)).collect();
    median(&ratios)
}

/// `12.3 (11.9-14.0)`: median, smallest and largest; the median alone where there is one run.
///
/// # Errors
/// As [`median`].
pub(crate) fn spread<T>(runs: &[T], quantity: impl Fn(&T) -> f64) -> Result<String> {
    let numbers: Vec<f64> = runs.iter().map(quantity).collect();
    let middle = median(&numbers)?;
    if numbers.len() == 1 {
        return Ok(format!("{middle:.2}"));
    }
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(format!("{middle:.2} ({least:.2}-{most:.2})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_move_with_one_bad_run() {
        assert_eq!(median(&[3.0, 1.0, 900.0]).unwrap(), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5);
        assert_eq!(median(&[7.0]).unwrap(), 7.0);
    }

    #[test]
    fn what_was_not_measured_has_no_median() {
        assert!(median(&[]).is_err());
        assert!(median(&[1.0, f64::NAN]).is_err());
        assert!(paired(&[1.0], &[1.0, 2.0], |x| *x).is_err());
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The machine was ten times slower during the second pair.
        let ratio = paired(&[2.0, 20.0, 2.2], &[1.0, 10.0, 1.0], |x| *x).unwrap();
        assert_eq!(ratio, 2.0);
        // Nothing divided by nothing is an error, not a good result.
        assert!(paired(&[0.0], &[0.0], |x| *x).is_err());
    }

    #[test]
    fn a_spread_names_the_extremes() {
        assert_eq!(spread(&[2.0, 1.0, 4.0], |x| *x).unwrap(), "2.00 (1.00-4.00)");
        assert_eq!(spread(&[2.0], |x| *x).unwrap(), "2.00");
    }
}
