//! Finds room: numbers, and ranges of an arena or of counters.

use std::{collections::BTreeSet, ops::Range};

/// Numbers of backends that are taken.
#[derive(Clone, Debug)]
pub struct Numbers {
    taken: BTreeSet<u16>,
    /// No number below is free.
    lowest_free: u16,
}

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

impl Numbers {
    /// All are free.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            taken: BTreeSet::new(),
            lowest_free: 1,
        }
    }

    /// Takes a number that is known.
    pub fn insert(&mut self, number: u16) {
        self.taken.insert(number);
    }

    /// Whether the number is taken.
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        self.taken.contains(&number)
    }

    /// Takes the lowest number that is free, up to `last`.
    pub fn take(&mut self, last: u32) -> Option<u16> {
        let mut next = self.lowest_free;
        for &number in self.taken.range(next..) {
            if number > next {
                break;
            }
            next = number.checked_add(1)?;
        }
        if u32::from(next) > last {
            return None;
        }
        self.taken.insert(next);
        self.lowest_free = next;
        Some(next)
    }

    /// Gives a number back.
    pub fn give_back(&mut self, number: u16) {
        if self.taken.remove(&number) {
            self.lowest_free = self.lowest_free.min(number);
        }
    }
}

/// The lowest number from 1 to `last` that is not taken; `taken` is sorted and each is named once.
#[must_use]
pub fn number(taken: impl Iterator<Item = u32>, last: u32) -> Option<u32> {
    let mut next = 1;
    for number in taken {
        if number > next {
            break;
        }
        next = number + 1;
    }
    (next <= last).then_some(next)
}

/// The start of the first gap of `length` between ranges, below `end`.
#[must_use]
pub fn range(mut taken: Vec<Range<u32>>, length: u32, end: u32) -> Option<u32> {
    taken.sort_by_key(|range| range.start);
    let mut start = 0u32;
    for range in taken {
        if range.start >= start && range.start - start >= length {
            break;
        }
        start = start.max(range.end);
    }
    (start.checked_add(length)? <= end).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_and_given_back() {
        let mut numbers = Numbers::new();
        numbers.insert(2);
        assert_eq!(numbers.take(4), Some(1));
        assert_eq!(numbers.take(4), Some(3));
        assert_eq!(numbers.take(4), Some(4));
        assert_eq!(numbers.take(4), None);
        numbers.give_back(3);
        numbers.give_back(2);
        assert_eq!(numbers.take(4), Some(2));
        assert_eq!(numbers.take(4), Some(3));
        assert_eq!(numbers.take(4), None);
        assert!(numbers.contains(3) && !numbers.contains(5));
        numbers.insert(u16::MAX);
        assert_eq!(numbers.take(u32::MAX), Some(5));
    }

    #[test]
    fn the_lowest_number_that_is_free() {
        assert_eq!(number([].into_iter(), 3), Some(1));
        assert_eq!(number([1, 2].into_iter(), 3), Some(3));
        assert_eq!(number([1, 3].into_iter(), 3), Some(2));
        assert_eq!(number([1, 2, 3].into_iter(), 3), None);
    }

    #[test]
    fn the_first_gap_that_is_long_enough() {
        assert_eq!(range(vec![], 10, 10), Some(0));
        assert_eq!(range(vec![], 11, 10), None);
        assert_eq!(range(vec![20..30, 0..10], 10, 100), Some(10));
        assert_eq!(range(vec![20..30, 0..10], 11, 100), Some(30));
        assert_eq!(range(vec![20..30, 0..10], 71, 100), None);
    }
}
