//! A bound on how often something that goes wrong with every probe is logged.

use std::time::{Duration, Instant};

/// Time between two lines of the log about the same trouble.
const QUIET: Duration = Duration::from_secs(10);

/// Lets one line through in each [`QUIET`], and counts the rest.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// Whether to log now: how many were kept back since the last line, or `None` to keep this one
    /// back too.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < QUIET)
        {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_each_quiet_time() {
        let start = Instant::now();
        let mut limit = LogLimit::default();
        assert_eq!(limit.admit(start), Some(0));
        assert_eq!(limit.admit(start + Duration::from_secs(1)), None);
        assert_eq!(limit.admit(start + Duration::from_millis(9_999)), None);
        assert_eq!(limit.admit(start + QUIET), Some(2));
        assert_eq!(limit.admit(start + QUIET), None);
        assert_eq!(limit.admit(start + QUIET * 2), Some(1));
    }
}
