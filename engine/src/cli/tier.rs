//! Tier specifications: `NAME[=VALUE][,key=value]...`.

use super::size::{parse_rate, parse_size};
use larder_pool::units::BytesPerSec;

/// Tiers that larder knows but this build has no driver for.
const ABSENT: [&str; 5] = ["cxl", "remote", "vfio", "nvme", "hbm"];

/// One `--tier`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TierSpec {
    /// The model files; only their link can be limited.
    Origin { limit: Option<BytesPerSec> },
    /// Local memory: the fast tier.
    Dram {
        bytes: u64,
        /// NUMA node that the memory is bound to.
        node: Option<u32>,
        limit: Option<BytesPerSec>,
    },
}

impl TierSpec {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Origin { .. } => "origin",
            Self::Dram { .. } => "dram",
        }
    }
}

/// Reads one specification; shares are of what `whole` gives.
pub(super) fn parse_tier(text: &str, whole: impl FnOnce() -> u64) -> Result<TierSpec, String> {
    let mut fields = text.split(',');
    let head = fields.next().unwrap_or_default();
    let (name, value) = head
        .split_once('=')
        .map_or((head, None), |(n, v)| (n, Some(v)));
    if ABSENT.contains(&name) {
        return Err(format!(
            "--tier {name}: this build has no such tier yet; it has dram and origin"
        ));
    }
    let options: Vec<(&str, &str)> = fields
        .map(|field| {
            field
                .split_once('=')
                .ok_or_else(|| format!("--tier {text}: '{field}' has no value"))
        })
        .collect::<Result<_, _>>()?;
    match (name, value) {
        ("origin", None) => Ok(TierSpec::Origin {
            limit: read_options(text, &options, &["limit"])?.limit,
        }),
        ("origin", Some(_)) => Err(format!(
            "--tier {text}: origin is the model files, no value"
        )),
        ("dram", Some(value)) => {
            let bytes =
                parse_size(value, whole).map_err(|error| format!("--tier {text}: {error}"))?;
            let Options { node, limit } = read_options(text, &options, &["node", "limit"])?;
            Ok(TierSpec::Dram { bytes, node, limit })
        }
        ("dram", None) => Err(format!("--tier {text}: give its size, dram=8GiB")),
        _ => Err(format!(
            "--tier {text}: unknown tier '{name}'; known are dram and origin"
        )),
    }
}

/// Options behind the name of a tier.
#[derive(Default)]
struct Options {
    node: Option<u32>,
    /// The rate that the tier's paths are held to.
    limit: Option<BytesPerSec>,
}

/// Reads the options that a tier knows, each at most once.
fn read_options(text: &str, given: &[(&str, &str)], known: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    for (at, &(key, value)) in given.iter().enumerate() {
        if !known.contains(&key) {
            let known = known.join(", ");
            return Err(format!(
                "--tier {text}: unknown option '{key}'; known: {known}"
            ));
        }
        if given[..at].iter().any(|&(before, _)| before == key) {
            return Err(format!("--tier {text}: {key} is given twice"));
        }
        if key == "node" {
            let node = value
                .parse()
                .map_err(|_| format!("--tier {text}: '{value}' is no node"))?;
            options.node = Some(node);
        } else {
            let rate = parse_rate(value).map_err(|error| format!("--tier {text}: {error}"))?;
            options.limit = BytesPerSec::new(rate);
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TierSpec, String> {
        parse_tier(text, || 1000)
    }

    #[test]
    fn specifications_are_read() {
        let limit = BytesPerSec::new(20e6);
        assert_eq!(parse("origin,limit=20MB/s"), Ok(TierSpec::Origin { limit }));
        assert_eq!(parse("origin"), Ok(TierSpec::Origin { limit: None }));
        assert_eq!(
            parse("dram=1MiB"),
            Ok(TierSpec::Dram {
                bytes: 1 << 20,
                node: None,
                limit: None
            })
        );
        let node = Some(2);
        assert_eq!(
            parse("dram=50%,node=2,limit=20MB/s"),
            Ok(TierSpec::Dram {
                bytes: 500,
                node,
                limit
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
            ("dram=x", "'x'"),
            ("dram=1,node=x", "'x'"),
            ("dram=1,speed=0", "node, limit"),
            ("nvme=/x,2GiB", "no such tier"),
            ("dram=1,", "no value"),
            ("", "unknown"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
