//! Finds room: numbers, and ranges of an arena or of counters.

use std::ops::Range;

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
