//! What a start wants to know of this host: the time, and groups by name.

use nix::time::{ClockId, clock_gettime};

/// The monotonic clock, in nanoseconds, as probes read it.
pub fn monotonic_ns() -> u64 {
    // Every Linux has that clock.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    })
}

/// Number of the group `name`, if there is one.
pub fn group_id(name: &str) -> Option<u32> {
    let group = nix::unistd::Group::from_name(name).ok()??;
    Some(group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_groups_have_numbers() {
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("none of these"), None);
    }
}
