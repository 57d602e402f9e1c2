//! Numbers as people read them.

/// A count: exact below 10,000, then with one decimal and `k`, `M`, `G`, `T`.
pub(super) fn count(n: u64) -> String {
    if n < 10_000 {
        return n.to_string();
    }
    scaled(n, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// A size in bytes, with binary units.
pub(super) fn bytes(n: u64) -> String {
    scaled(
        n,
        1024,
        &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"],
    )
}

/// Scales by the largest power of `base` that fits, and cuts off (never rounds up to a unit's end).
fn scaled(n: u64, base: u64, suffixes: &[&str]) -> String {
    let mut power = 0;
    let mut divisor = 1;
    while n / divisor >= base && power + 1 < suffixes.len() {
        divisor *= base;
        power += 1;
    }
    let suffix = suffixes[power];
    if power == 0 {
        return format!("{n}{suffix}");
    }
    let whole = n / divisor;
    let tenths = u128::from(n % divisor) * 10 / u128::from(divisor);
    format!("{whole}.{tenths}{suffix}")
}

/// A duration in its two largest units: `3m12s`, `2h0m`, `5d7h`.
pub(super) fn duration_s(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours}h")
    } else if hours > 0 {
        format!("{hours}h{minutes}m")
    } else if minutes > 0 {
        format!("{minutes}m{}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// A short time: microseconds below one millisecond, then milliseconds, then seconds.
pub(super) fn latency_us(us: u64) -> String {
    if us < 1000 {
        format!("{us}us")
    } else if us < 1_000_000 {
        format!("{}.{}ms", us / 1000, us % 1000 / 100)
    } else {
        format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000)
    }
}

/// A part of a whole, in per cent; `-` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!(count(0), "0");
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(12_345), "12.3k");
        assert_eq!(count(999_999), "999.9k");
        assert_eq!(count(1_000_000), "1.0M");
        assert_eq!(count(u64::MAX), "18.4E");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn durations() {
        assert_eq!(duration_s(0), "0s");
        assert_eq!(duration_s(192), "3m12s");
        assert_eq!(duration_s(7200), "2h0m");
        assert_eq!(duration_s(5 * 86_400 + 7 * 3600 + 59), "5d7h");
    }

    #[test]
    fn latencies() {
        assert_eq!(latency_us(850), "850us");
        assert_eq!(latency_us(1_340), "1.3ms");
        assert_eq!(latency_us(2_500_000), "2.5s");
    }

    #[test]
    fn parts() {
        assert_eq!(percent(1, 3), "33.3%");
        assert_eq!(percent(5, 5), "100.0%");
        assert_eq!(percent(0, 0), "-");
    }
}
