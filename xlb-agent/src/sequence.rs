//! The order in which backends take turns under `round-robin`.

use crate::ring::common_divisor;

/// Numbers of backends, each as often as its weight says, its turns as far apart as can be. Of
/// weights that have no common divisor it has as many entries as they sum up to, or about `most`
/// with shares that are rounded. Empty if nobody has weight.
///
/// The turns of each member are laid out evenly over the unit interval, and the members' turns then
/// taken in the order of their places.
#[must_use]
pub fn build(members: &[(u16, u16)], most: u32) -> Vec<u16> {
    let weighty = || members.iter().filter(|(_, weight)| *weight > 0);
    let divisor = weighty().fold(0, |divisor, &(_, weight)| {
        common_divisor(divisor, u32::from(weight))
    });
    if divisor == 0 {
        return Vec::new();
    }
    let total: u64 = weighty()
        .map(|&(_, weight)| u64::from(u32::from(weight) / divisor))
        .sum();
    let count = weighty().count() as u64;
    let turns = |weight: u16| {
        let weight = u64::from(u32::from(weight) / divisor);
        if total <= u64::from(most) {
            weight
        } else {
            // At least one each; the rest by weight.
            1 + weight * u64::from(most).saturating_sub(count) / total
        }
    };
    let mut order: Vec<(u64, u16)> = Vec::new();
    for (place, &(number, weight)) in (1u32..).zip(weighty()) {
        let turns = turns(weight);
        // Members of equal weight begin at places of their own.
        let phase = u64::from(place.reverse_bits());
        order.extend((0..turns).map(|turn| (((turn << 32) + phase) / turns, number)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(sequence: &[u16], number: u16) -> usize {
        sequence.iter().filter(|&&entry| entry == number).count()
    }

    #[test]
    fn equal_weights_take_one_turn_each() {
        let mut sequence = build(&[(1, 100), (2, 100), (3, 100)], 1000);
        assert_eq!(sequence.len(), 3);
        sequence.sort_unstable();
        assert_eq!(sequence, [1, 2, 3]);
    }

    #[test]
    fn turns_of_a_heavy_backend_are_apart() {
        let sequence = build(&[(1, 5), (2, 1), (3, 1)], 1000);
        assert_eq!(sequence.len(), 7);
        assert_eq!(count(&sequence, 1), 5);
        let at = |number| sequence.iter().position(|&entry| entry == number).unwrap();
        assert!(at(2).abs_diff(at(3)) >= 2, "{sequence:?}");
    }

    #[test]
    fn who_has_no_weight_has_no_turn() {
        assert!(build(&[], 1000).is_empty());
        assert!(build(&[(1, 0)], 1000).is_empty());
        assert_eq!(build(&[(1, 0), (2, 7)], 1000), [2]);
    }

    #[test]
    fn weights_that_are_far_apart_are_rounded() {
        let sequence = build(&[(1, 65_535), (2, 1), (3, 32_767)], 1021);
        assert!(sequence.len() <= 1021 && sequence.len() > 1000);
        assert_eq!(count(&sequence, 2), 1);
        let share = count(&sequence, 1) as f64 / sequence.len() as f64;
        assert!((share - 2.0 / 3.0).abs() < 0.01, "{share}");
    }

    proptest! {
        #[test]
        fn turns_come_evenly(weights in prop::collection::vec(1_u16..40, 1..12)) {
            let members: Vec<(u16, u16)> = (1..).zip(weights.iter().copied()).collect();
            let sequence = build(&members, 10_000);
            let total: usize = weights.iter().copied().map(usize::from).sum();
            for &(number, weight) in &members {
                let weight = usize::from(weight);
                prop_assert_eq!(count(&sequence, number) * total, sequence.len() * weight);
                for end in 0..=sequence.len() {
                    let had = count(&sequence[..end], number) * total;
                    // Up to any place in the interval, each has its turns but for one, and so
                    // have all together but for one each.
                    prop_assert!(had.abs_diff(end * weight) <= total + members.len() * weight);
                }
            }
        }
    }
}
