//! Sizes, rates and lists of ids as people type and read them.

/// Units of a size, longest names first.
const UNITS: [(&str, u64); 12] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("b", 1),
];

/// No size is larger, in bytes.
const SIZE_MAX: u64 = 1 << 62;

/// Bytes of `512KiB`, `8GiB`, `1.5GB`, `123456`, or `50%` of what `whole` gives.
pub(super) fn parse_size(text: &str, whole: impl FnOnce() -> u64) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let wrong = || format!("'{text}' is no size; write bytes, or 512KiB, 8GiB, 20MB, 50%");
    let bytes = if let Some(share) = lower.strip_suffix('%') {
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        if share > 100.0 {
            return Err(format!("'{text}' is more than all; write 100% or less"));
        }
        Some((whole() as f64 * share / 100.0) as u64)
    } else {
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(name, unit)| lower.strip_suffix(name).map(|number| (number, unit)))
            .unwrap_or((&lower, 1));
        scaled(number.trim(), unit)
    };
    bytes
        .filter(|bytes| (1..=SIZE_MAX).contains(bytes))
        .ok_or_else(wrong)
}

/// A number of units; whole numbers are exact, however large.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    // Too large or infinite saturates, negative and NaN become zero: the caller refuses both.
    number
        .parse::<f64>()
        .ok()
        .map(|parts| (parts * unit as f64) as u64)
}

/// Bytes per second of `20MB/s`, `1GiB/s`, `20MB`.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is no rate; write bytes per second, or 20MB/s, 1GiB/s");
    let lower = text.trim().to_ascii_lowercase();
    let size = lower.strip_suffix("/s").unwrap_or(&lower);
    if size.ends_with('%') {
        return Err(wrong());
    }
    parse_size(size, || 0)
        .map(|bytes| bytes as f64)
        .map_err(|_| wrong())
}

/// Ids of `1,2,3`.
pub(super) fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    text.split(',')
        .map(|id| {
            id.trim()
                .parse()
                .map_err(|_| format!("'{id}' is no token id; write 1,2,3"))
        })
        .collect()
}

/// A size of memory, in binary units.
pub(super) fn memory(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be written as 1024.0 is 1.0 of the next unit.
    while (value >= 1024.0 || unit > 0 && value >= 1023.95) && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A rate of a link, in decimal units.
pub(super) fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second >= 1e9 {
        format!("{:.2} GB/s", bytes_per_second / 1e9)
    } else if bytes_per_second >= 1e6 {
        format!("{:.1} MB/s", bytes_per_second / 1e6)
    } else {
        format!("{:.1} KB/s", bytes_per_second / 1e3)
    }
}

/// A speed of text.
pub(super) fn speed(tok_s: f64) -> String {
    format!("{tok_s:.2} tok/s")
}

/// A share or a ratio.
pub(super) fn share(share: f64) -> String {
    format!("{share:.2}")
}

/// A time that may be short.
pub(super) fn time(milliseconds: f64) -> String {
    let digits = usize::from(milliseconds < 10.0);
    format!("{milliseconds:.digits$} ms")
}

/// What a run may not be able to say.
pub(super) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or("-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("123456", 123_456),
            ("512KiB", 524_288),
            ("8GiB", 8 << 30),
            ("1.5 MB", 1_500_000),
            ("2g", 2 << 30),
            ("50%", 500),
            ("9007199254740993", 9_007_199_254_740_993),
            ("100%", 1000),
        ] {
            assert_eq!(parse_size(text, || 1000), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "x",
            "-5",
            "0",
            "0%",
            "-1%",
            "101%",
            "1e400",
            "inf",
            "NaN",
            "NaN%",
            "5 apples",
            "%",
            "99999999999GiB",
            "99999999999999999999",
        ] {
            let error = parse_size(text, || 1000).expect_err(text);
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }

    #[test]
    fn rates_and_ids_are_read() {
        assert_eq!(parse_rate("20MB/s"), Ok(20e6));
        assert_eq!(parse_rate("1GiB/s"), Ok(1_073_741_824.0));
        assert_eq!(parse_rate(" 5 kb/S "), Ok(5000.0));
        for text in ["fast", "50%", "50%/s", "0", "/s"] {
            let error = parse_rate(text).expect_err(text);
            assert!(error.contains("20MB/s"), "{error}");
        }
        assert_eq!(parse_ids("1, 2,3"), Ok(vec![1, 2, 3]));
        assert!(parse_ids("1,,2").is_err());
        assert!(parse_ids("-1").is_err());
    }

    #[test]
    fn sizes_and_rates_are_written() {
        assert_eq!(memory(512), "512 B");
        assert_eq!(memory(1536), "1.5 KiB");
        assert_eq!(memory(1023), "1023 B");
        assert_eq!(memory((1 << 20) - 1), "1.0 MiB");
        assert_eq!(rate(2500.0), "2.5 KB/s");
        assert_eq!(rate(20e6), "20.0 MB/s");
        assert_eq!(rate(1.25e9), "1.25 GB/s");
        assert_eq!(
            (time(0.04), time(12.3)),
            ("0.0 ms".to_owned(), "12 ms".to_owned())
        );
        assert_eq!(or_dash(Some(0.876), share), "0.88");
        assert_eq!(or_dash(None, speed), "-");
    }
}
