//! Sizes, rates and lists of ids as people type and read them.

/// Units of a size, longest names first.
const UNITS: [(&str, f64); 12] = [
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("k", 1024.0),
    ("m", 1_048_576.0),
    ("g", 1_073_741_824.0),
    ("b", 1.0),
];

/// Bytes of `512KiB`, `8GiB`, `1.5GB`, `123456`, or `50%` of what `whole` gives.
pub(super) fn parse_size(text: &str, whole: impl FnOnce() -> u64) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let wrong = || format!("'{text}' is no size; write bytes, or 512KiB, 8GiB, 50%");
    let bytes = if let Some(share) = lower.strip_suffix('%') {
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        whole() as f64 * share / 100.0
    } else {
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(name, unit)| lower.strip_suffix(name).map(|number| (number, unit)))
            .unwrap_or((&lower, 1.0));
        number.trim().parse::<f64>().map_err(|_| wrong())? * unit
    };
    if bytes.is_finite() && (1.0..9e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// Bytes per second of `20MB/s`, `1GiB/s`, `20MB`.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let size = text.trim().strip_suffix("/s").unwrap_or(text);
    parse_size(size, || 0)
        .map(|bytes| bytes as f64)
        .map_err(|_| format!("'{text}' is no rate; write bytes per second, or 20MB/s, 1GiB/s"))
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
    while value >= 1024.0 && unit + 1 < units.len() {
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
    } else {
        format!("{:.1} MB/s", bytes_per_second / 1e6)
    }
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
        ] {
            assert_eq!(parse_size(text, || 1000), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-5", "0", "1e400", "NaN", "5 apples", "%"] {
            assert!(parse_size(text, || 1000).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_ids_are_read() {
        assert_eq!(parse_rate("20MB/s"), Ok(20e6));
        assert_eq!(parse_rate("1GiB/s"), Ok(1_073_741_824.0));
        assert!(parse_rate("fast").is_err());
        assert_eq!(parse_ids("1, 2,3"), Ok(vec![1, 2, 3]));
        assert!(parse_ids("1,,2").is_err());
        assert!(parse_ids("-1").is_err());
    }

    #[test]
    fn sizes_and_rates_are_written() {
        assert_eq!(memory(512), "512 B");
        assert_eq!(memory(1536), "1.5 KiB");
        assert_eq!(rate(20e6), "20.0 MB/s");
        assert_eq!(rate(1.25e9), "1.25 GB/s");
    }
}
