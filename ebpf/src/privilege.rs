//! What this process may do, asked before it tries.
//!
//! | part | needs |
//! |---|---|
//! | maps, programs | `CAP_BPF` |
//! | BTF tracepoints, performance events | `CAP_PERFMON` |
//! | classic tracepoints | also a readable tracing file system |
//! | the mark `larder:block_touch` | `CAP_SYS_ADMIN` |
//! | pins | a writable bpf file system, `CAP_CHOWN` to give them to a group |
//! | claiming an array, reading | the mode of the pins, no capability |

use std::fs;

use crate::error::StartError;

/// Capabilities by number. Source: Linux, `include/uapi/linux/capability.h`.
const SYS_ADMIN: u32 = 21;
const NEEDED: [(u32, &str); 2] = [(39, "cap_bpf"), (38, "cap_perfmon")];

/// Refuses what the kernel would refuse later with less to say.
pub(crate) fn check() -> Result<(), StartError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing(&status);
    if !missing.is_empty() {
        return Err(StartError::Privilege {
            missing: missing.join(" and "),
        });
    }
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    match locked_down(&lockdown) {
        Some(mode) => Err(StartError::LockedDown { mode }),
        None => Ok(()),
    }
}

/// Names of needed capabilities that the effective set lacks.
fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let has = |number: u32| set.unwrap_or_default() >> number & 1 == 1;
    let lacking = NEEDED
        .iter()
        .filter(|(number, _)| !has(*number) && !has(SYS_ADMIN));
    lacking.map(|(_, name)| *name).collect()
}

/// The mode in force, if it keeps programs from reading kernel memory.
fn locked_down(modes: &str) -> Option<String> {
    let mode = modes.split(['[', ']']).nth(1)?;
    (mode == "confidentiality").then(|| mode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let of = |set: &str| missing(&format!("Name:\tx\nCapEff:\t{set}\n"));
        assert_eq!(of("000001ffffffffff"), [""; 0]);
        assert_eq!(of("0000000000000000"), ["cap_bpf", "cap_perfmon"]);
        assert_eq!(of("0000008000000000"), ["cap_perfmon"]);
        assert_eq!(of("0000000000200000"), [""; 0]);
        assert_eq!(missing(""), ["cap_bpf", "cap_perfmon"]);
    }

    #[test]
    fn only_confidentiality_is_in_the_way() {
        assert_eq!(locked_down("[none] integrity confidentiality\n"), None);
        assert_eq!(locked_down("none [integrity] confidentiality\n"), None);
        let locked = locked_down("none integrity [confidentiality]\n");
        assert_eq!(locked.as_deref(), Some("confidentiality"));
        assert_eq!(locked_down(""), None);
    }
}
