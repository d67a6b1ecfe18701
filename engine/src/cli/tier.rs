//! Tier specifications: `NAME[=VALUE][,key=value]...`.

use super::size::{parse_rate, parse_size};
use crate::session::LowerTier;
use larder_pool::units::BytesPerSec;
use std::path::PathBuf;

/// Tiers that larder knows but this build has no driver for.
const ABSENT: [&str; 2] = ["cxl", "vfio"];

/// Port of a memory node when none is given.
pub(super) const NODE_PORT: u16 = 7311;

/// One `--tier`.
#[derive(Clone, Debug, PartialEq)]
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
    /// A simulated device: the fast tier.
    Hbm {
        bytes: u64,
        limit: Option<BytesPerSec>,
    },
    /// A tier below the fast one.
    Lower(LowerTier),
}

impl TierSpec {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Origin { .. } => "origin",
            Self::Dram { .. } => "dram",
            Self::Hbm { .. } => "hbm",
            Self::Lower(LowerTier::Nvme { .. }) => "nvme",
            Self::Lower(LowerTier::Remote { .. }) => "remote",
        }
    }
}

/// Reads one specification; shares are of what `whole` gives.
pub(super) fn parse_tier(text: &str, whole: impl FnOnce() -> u64) -> Result<TierSpec, String> {
    let wrong = |what: String| format!("--tier {text}: {what}");
    let mut fields = text.split(',');
    let head = fields.next().unwrap_or_default();
    let (name, value) = head
        .split_once('=')
        .map_or((head, None), |(n, v)| (n, Some(v)));
    if ABSENT.contains(&name) {
        return Err(format!(
            "--tier {name}: this build has no such tier yet; it has {TIERS}"
        ));
    }
    // The size of a tier may stand behind its place, without a key.
    let mut fields = fields.peekable();
    let second = fields.next_if(|field| !field.contains('=') && matches!(name, "nvme" | "hbm"));
    let given: Vec<(&str, &str)> = fields
        .map(|field| {
            let is_flag = ["force", "join"].contains(&field);
            let flag = is_flag.then_some((field, ""));
            let pair = flag.or_else(|| field.split_once('='));
            pair.ok_or_else(|| wrong(format!("'{field}' has no value")))
        })
        .collect::<Result<_, _>>()?;
    let spec = Spec {
        text,
        second,
        given,
    };
    match (name, value) {
        ("origin", None) => Ok(TierSpec::Origin {
            limit: spec.options(&["limit"])?.limit,
        }),
        ("origin", Some(_)) => Err(wrong("origin is the model files, no value".to_owned())),
        ("dram" | "hbm", value) => spec.fast(name, value, whole),
        ("nvme", folder) => spec.nvme(folder.unwrap_or_default()),
        ("remote", Some(place)) => spec.remote(place),
        _ => Err(wrong(format!("unknown tier '{name}'; known are {TIERS}"))),
    }
}

/// A specification, cut into its fields.
struct Spec<'a> {
    text: &'a str,
    /// The size behind the place.
    second: Option<&'a str>,
    given: Vec<(&'a str, &'a str)>,
}

impl Spec<'_> {
    fn wrong(&self, what: impl std::fmt::Display) -> String {
        format!("--tier {}: {what}", self.text)
    }

    fn options(&self, known: &[&str]) -> Result<Options, String> {
        read_options(self.text, &self.given, known)
    }

    /// A tier where kernels read.
    fn fast(
        &self,
        name: &str,
        value: Option<&str>,
        whole: impl FnOnce() -> u64,
    ) -> Result<TierSpec, String> {
        let size = |text| parse_size(text, whole).map_err(|error| self.wrong(error));
        match (name, value, self.second) {
            ("dram", Some(value), _) => {
                let bytes = size(value)?;
                let Options { node, limit, .. } = self.options(&["node", "limit"])?;
                Ok(TierSpec::Dram { bytes, node, limit })
            }
            ("dram", None, _) => Err(self.wrong("give its size, dram=8GiB")),
            (_, Some("sim"), Some(second)) => {
                let bytes = size(second)?;
                let limit = self.options(&["limit"])?.limit;
                Ok(TierSpec::Hbm { bytes, limit })
            }
            (_, Some("sim"), None) => Err(self.wrong("give its size, hbm=sim,2GiB")),
            _ => {
                Err(self.wrong("this build has no CUDA; give hbm=sim,SIZE for a simulated device"))
            }
        }
    }

    fn nvme(&self, folder: &str) -> Result<TierSpec, String> {
        if folder.is_empty() {
            return Err(self.wrong("give its folder and size, nvme=/var/spill,8GiB"));
        }
        let size = self.second;
        let size = size.ok_or_else(|| self.wrong(format!("give its size, nvme={folder},8GiB")))?;
        let bytes = parse_size(size, || 0).map_err(|error| self.wrong(error))?;
        if bytes == 0 {
            return Err(self.wrong(format!("'{size}' is no size of a folder; give bytes")));
        }
        let (folder, limit) = (folder.into(), self.options(&["limit"])?.limit);
        Ok(TierSpec::Lower(LowerTier::Nvme {
            folder,
            bytes,
            limit,
        }))
    }

    fn remote(&self, place: &str) -> Result<TierSpec, String> {
        let address = parse_address(place).map_err(|error| self.wrong(error))?;
        let Options {
            token_file,
            is_forced,
            may_join,
            limit,
            ..
        } = self.options(&["token-file", "force", "join", "limit"])?;
        Ok(TierSpec::Lower(LowerTier::Remote {
            address,
            token_file,
            is_forced,
            may_join,
            limit,
        }))
    }
}

const TIERS: &str = "dram, hbm=sim, nvme, remote and origin";

/// HOST:PORT of `tcp://HOST[:PORT]`.
pub(super) fn parse_address(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("tcp://") else {
        return Err(format!("'{text}' is no node; give tcp://HOST:PORT"));
    };
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse::<u16>().is_ok()
            && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port {
        return Ok(rest.to_owned());
    }
    if rest.is_empty() || rest.contains(':') && !rest.ends_with(']') {
        return Err(format!("'{text}' is no node; give tcp://HOST:PORT"));
    }
    Ok(format!("{rest}:{NODE_PORT}"))
}

/// Options behind the name of a tier.
#[derive(Default)]
struct Options {
    node: Option<u32>,
    token_file: Option<PathBuf>,
    is_forced: bool,
    may_join: bool,
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
        match key {
            "node" => {
                let node = value
                    .parse()
                    .map_err(|_| format!("--tier {text}: '{value}' is no node"))?;
                options.node = Some(node);
            }
            "token-file" => options.token_file = Some(value.into()),
            "force" => options.is_forced = true,
            "join" => options.may_join = true,
            _ => {
                let rate = parse_rate(value).map_err(|error| format!("--tier {text}: {error}"))?;
                options.limit = BytesPerSec::new(rate);
            }
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
        assert_eq!(
            parse("nvme=/spill,1MiB,limit=20MB/s"),
            Ok(TierSpec::Lower(LowerTier::Nvme {
                folder: "/spill".into(),
                bytes: 1 << 20,
                limit
            }))
        );
        let remote = |address: &str| {
            TierSpec::Lower(LowerTier::Remote {
                address: address.to_owned(),
                token_file: None,
                is_forced: false,
                may_join: false,
                limit: None,
            })
        };
        assert_eq!(parse("remote=tcp://a:1"), Ok(remote("a:1")));
        assert_eq!(parse("remote=tcp://[::1]"), Ok(remote("[::1]:7311")));
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
            ("nvme=/x", "nvme=/x,8GiB"),
            ("nvme", "folder"),
            ("nvme=/x,50%", "no size"),
            ("hbm=auto", "hbm=sim"),
            ("hbm=sim", "size"),
            ("remote=host:1", "tcp://"),
            ("remote=tcp://", "tcp://"),
            ("remote=tcp://h:1,node=0", "node"),
            ("cxl=node2,1GiB", "no such tier"),
            ("tape=1", "tape"),
            ("origin,speed=1", "speed"),
            ("origin,limit", "no value"),
            ("origin,limit=1,limit=2", "twice"),
            ("dram", "dram=8GiB"),
            ("dram=x", "'x'"),
            ("dram=1,node=x", "'x'"),
            ("dram=1,speed=0", "node, limit"),
            ("dram=1,", "no value"),
            ("", "unknown"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
