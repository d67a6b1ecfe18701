//! Tier specifications: `NAME[=VALUE][,key=value]...`.

use super::size::{parse_rate, parse_size};
use larder_pool::sys::limits::available_bytes;
use larder_pool::units::BytesPerSec;

/// Tiers that larder knows but this build has no driver for.
const ABSENT: [&str; 5] = ["cxl", "remote", "vfio", "nvme", "hbm"];

/// One `--tier`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TierSpec {
    /// The model files; only their link can be limited.
    Origin { limit: Option<BytesPerSec> },
    /// Local memory: the fast tier.
    Dram { bytes: u64, node: Option<u32> },
}

/// Reads one specification.
pub(super) fn parse_tier(text: &str) -> Result<TierSpec, String> {
    let mut fields = text.split(',');
    let head = fields.next().unwrap_or_default();
    let (name, value) = head
        .split_once('=')
        .map_or((head, None), |(n, v)| (n, Some(v)));
    let options: Vec<(&str, &str)> = fields
        .map(|field| {
            field
                .split_once('=')
                .ok_or_else(|| format!("--tier {text}: '{field}' has no value"))
        })
        .collect::<Result<_, _>>()?;
    if ABSENT.contains(&name) {
        return Err(format!(
            "--tier {name}: this build has no such tier yet; it has dram and origin"
        ));
    }
    match (name, value) {
        ("origin", None) => Ok(TierSpec::Origin {
            limit: limit(text, &options)?,
        }),
        ("origin", Some(_)) => Err(format!(
            "--tier {text}: origin is the model files, no value"
        )),
        ("dram", Some(value)) => {
            let bytes =
                parse_size(value, available_bytes).map_err(|e| format!("--tier {text}: {e}"))?;
            Ok(TierSpec::Dram {
                bytes,
                node: node(text, &options)?,
            })
        }
        ("dram", None) => Err(format!("--tier {text}: give its size, dram=8GiB")),
        _ => Err(format!(
            "--tier {text}: unknown tier '{name}'; known are dram and origin"
        )),
    }
}

fn node(text: &str, options: &[(&str, &str)]) -> Result<Option<u32>, String> {
    match options {
        [] => Ok(None),
        [("node", value)] => {
            let node = value
                .parse()
                .map_err(|_| format!("--tier {text}: '{value}' is no node"))?;
            Ok(Some(node))
        }
        [("node", _), ..] => Err(format!("--tier {text}: dram takes node once, nothing else")),
        [(key, _), ..] => Err(format!(
            "--tier {text}: unknown option '{key}'; known is node"
        )),
    }
}

fn limit(text: &str, options: &[(&str, &str)]) -> Result<Option<BytesPerSec>, String> {
    let mut limit = None;
    for &(key, value) in options {
        if key != "limit" {
            return Err(format!(
                "--tier {text}: unknown option '{key}'; known is limit"
            ));
        }
        if limit.is_some() {
            return Err(format!("--tier {text}: limit is given twice"));
        }
        let rate = parse_rate(value).map_err(|error| format!("--tier {text}: {error}"))?;
        limit = BytesPerSec::new(rate);
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read() {
        let limit = BytesPerSec::new(20e6);
        assert_eq!(
            parse_tier("origin,limit=20MB/s"),
            Ok(TierSpec::Origin { limit })
        );
        assert_eq!(parse_tier("origin"), Ok(TierSpec::Origin { limit: None }));
        assert_eq!(
            parse_tier("dram=1MiB"),
            Ok(TierSpec::Dram {
                bytes: 1 << 20,
                node: None
            })
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("nvme=/x,1GiB", "nvme"),
            ("tape=1", "tape"),
            ("origin,speed=1", "speed"),
            ("origin,limit", "no value"),
            ("origin,limit=1,limit=2", "twice"),
            ("dram", "dram=8GiB"),
            ("dram=1GiB,node=x", "'x'"),
            ("dram=1GiB,limit=5", "limit"),
            ("dram=x", "'x'"),
            ("", "unknown"),
        ] {
            let error = parse_tier(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
