//! What this process may do. Source: capabilities(7).

use super::HostTree;

/// A capability that a part of larder needs, and which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    pub name: &'static str,
    number: u32,
    pub needed_for: &'static str,
}

/// Those that matter here.
const CAPABILITIES: [Capability; 6] = [
    capability("cap_bpf", 39, "probes"),
    capability("cap_perfmon", 38, "probes"),
    capability(
        "cap_sys_admin",
        21,
        "the probe of marks, cxl and vfio set-up",
    ),
    capability("cap_ipc_lock", 14, "registered buffers above memlock"),
    capability("cap_chown", 0, "pins for a group"),
    capability("cap_sys_ptrace", 19, "heat follow of others' processes"),
];

const fn capability(name: &'static str, number: u32, needed_for: &'static str) -> Capability {
    Capability {
        name,
        number,
        needed_for,
    }
}

/// The effective set, divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    pub is_root: bool,
    pub held: Vec<Capability>,
    pub missing: Vec<Capability>,
}

impl Privileges {
    pub fn read(tree: &HostTree) -> Self {
        let status = tree.text("/proc/self/status").unwrap_or_default();
        let field = |key| status.lines().find_map(|line| line.strip_prefix(key));
        let set = field("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        let set = set.unwrap_or(0);
        let user = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1));
        let has = |capability: &Capability| set >> capability.number & 1 == 1;
        let (held, missing) = CAPABILITIES.into_iter().partition(has);
        Self {
            is_root: user == Some("0"),
            held,
            missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::made_up::host;
    use super::*;

    #[test]
    fn the_effective_set_is_divided() {
        let of = |text: &str| Privileges::read(&host(&[("/proc/self/status", text)]).1);
        let root = of("Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n");
        assert!(root.is_root && root.missing.is_empty());
        let some = of("Uid:\t7\t7\t7\t7\nCapEff:\t0000008000000000\n");
        assert!(!some.is_root);
        assert_eq!(some.held.len(), 1);
        assert_eq!(some.held[0].name, "cap_bpf");
        assert_eq!(of("").held.len(), 0);
    }
}
