//! Durations and sizes as text, both ways.

use std::time::Duration;

use bytesize::ByteSize;

/// Reads a duration such as `250ms`, `30s`, `24h`, `7d` or `1h30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    // humantime also reads "1M" as a month and "1 year"; here one spelling per unit is enough.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'd' | b'h' | b'm' | b's'));
    let has_unit = text.bytes().last().is_some_and(|byte| byte.is_ascii_lowercase());
    if plain && has_unit { humantime::parse_duration(text).ok() } else { None }
}

/// Reads a duration that stands on the command line.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("expected a duration such as \"250ms\", \"30s\" or \"24h\"")
}

/// Reads a size such as `512`, `64KiB`, `1MiB` or `2GB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let known = ["", "B", "kB", "KB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"].contains(&unit);
    if number.is_empty() || !known {
        return None;
    }
    text.parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// Shows a duration in the largest unit that is exact, as a file would have it.
pub fn show_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let millis = duration.as_millis();
    // "24h" rather than "1d", "60s" rather than "1m": from the second one on.
    match UNITS.iter().find(|(unit, _)| millis.is_multiple_of(*unit) && millis > *unit) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 1_000 => "1s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// Shows a size in the largest binary unit that is exact, as a file would have it.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "90", "0", "s", "1M", "1 h", "-1s", "1.5h", "1y", "99999999999999999999d", "1s5"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_with_or_without_a_unit() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2MB", 2_000_000)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1 MiB", "1mib", "1.5MiB", "-1", "1M", "1MiBs", "99999999999999999999"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["250ms", "1s", "60s", "65s", "24h", "7d", "90m"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["512B", "64KiB", "1MiB", "3GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
