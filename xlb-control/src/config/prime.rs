//! Primes, which the sizes of Maglev rings must be.

/// Whether a number is prime. By division: a ring has about a million slots at most.
pub(super) fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor: &u32| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// The nearest prime below a number and the nearest above, within bounds.
pub(super) fn neighbours(
    number: u32,
    bounds: &std::ops::RangeInclusive<u32>,
) -> (Option<u32>, Option<u32>) {
    let below = (*bounds.start()..number)
        .rev()
        .find(|&candidate| is_prime(candidate));
    let above = (number..=*bounds.end())
        .skip(1)
        .find(|&candidate| is_prime(candidate));
    (below, above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limits::{DEFAULT_RING_SLOTS, RING_SLOTS};

    #[test]
    fn the_default_and_the_bounds_are_prime() {
        assert!(is_prime(DEFAULT_RING_SLOTS));
        assert!(is_prime(*RING_SLOTS.start()) && is_prime(*RING_SLOTS.end()));
        assert!(!is_prime(0) && !is_prime(1) && is_prime(2) && !is_prime(65_535));
    }

    #[test]
    fn neighbours_are_the_nearest_within_bounds() {
        assert_eq!(
            neighbours(16_384, &RING_SLOTS),
            (Some(16_381), Some(16_411))
        );
        assert_eq!(neighbours(252, &RING_SLOTS), (Some(251), Some(257)));
        assert_eq!(neighbours(1_048_573, &RING_SLOTS), (Some(1_048_571), None));
    }
}
