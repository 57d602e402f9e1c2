//! Slow start: a backend that comes back takes up new connections step by step.

/// Steps until a backend has its whole share.
pub(super) const STEPS: u32 = 10;

/// The steps that a backend has come, of [`STEPS`], and when the next one is due. `since_s`: when it
/// began to serve; 0: it has its whole share.
pub(super) fn steps(since_s: u32, slow_start_s: u32, now_s: u32) -> (u32, Option<u32>) {
    let age_s = now_s.saturating_sub(since_s);
    if since_s == 0 || age_s >= slow_start_s {
        return (STEPS, None);
    }
    // The first step is there at once, or the backend would get nothing.
    let come = u64::from(age_s) * u64::from(STEPS) / u64::from(slow_start_s);
    let next_s = ((come + 1) * u64::from(slow_start_s)).div_ceil(u64::from(STEPS));
    (
        (come as u32).max(1),
        Some(since_s.saturating_add(next_s as u32)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_comes_step_by_step() {
        assert_eq!(steps(100, 30, 100), (1, Some(103)));
        assert_eq!(steps(100, 30, 103), (1, Some(106)));
        assert_eq!(steps(100, 30, 106), (2, Some(109)));
        assert_eq!(steps(100, 30, 129), (9, Some(130)));
        assert_eq!(steps(100, 30, 130), (STEPS, None));
        assert_eq!(steps(0, 30, 10), (STEPS, None));
        assert_eq!(steps(100, 0, 100), (STEPS, None));
        // Less than a second a step.
        assert_eq!(steps(100, 3, 100), (1, Some(101)));
        assert_eq!(steps(100, 3, 101), (3, Some(102)));
        assert_eq!(steps(u32::MAX - 1, 30, u32::MAX - 1), (1, Some(u32::MAX)));
    }

    #[test]
    fn every_step_is_later_and_not_smaller() {
        for slow_start_s in 1..200 {
            let (mut now_s, mut last) = (1, 0);
            while let (come, Some(next_s)) = steps(1, slow_start_s, now_s) {
                assert!(come >= last && next_s > now_s, "{slow_start_s} {now_s}");
                (now_s, last) = (next_s, come);
            }
            assert_eq!(now_s, 1 + slow_start_s);
        }
    }
}
