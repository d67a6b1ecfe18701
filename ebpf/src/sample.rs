//! The event that `larder_sample` hangs on: loads with the address of their data where the
//! processor has such and lets us, else page faults.
//!
//! Source: Linux, `tools/perf/util/mem-events.c`.

use std::fs;
use std::path::Path;

use larder_sys::bpf::{PerfEvent, PerfScope, perf_event};

/// Where the kernel lists the units that count.
const UNITS: &str = "/sys/bus/event_source/devices";

/// Loads between two samples; no multiple of a loop's length.
const LOADS_PER_SAMPLE: u64 = 20_011;
/// The same in operations, of which IBS takes multiples of 16.
const OPERATIONS_PER_SAMPLE: u64 = 0x4_0000;

/// The best event that opens here; page faults always stand in.
pub(crate) fn event(faults_per_sample: u32) -> PerfEvent {
    let units = Path::new(UNITS);
    let mut best = [intel_loads(units), amd_operations(units)]
        .into_iter()
        .flatten();
    // A virtual machine may list what it does not have, so each is tried.
    let opens = |event: &PerfEvent| perf_event(*event, PerfScope::Processor(0)).is_ok();
    let faults = PerfEvent::page_faults(u64::from(faults_per_sample.max(1)));
    best.find(opens).unwrap_or(faults)
}

/// PEBS: loads that took longer than a few cycles.
fn intel_loads(units: &Path) -> Option<PerfEvent> {
    let loads = fs::read_to_string(units.join("cpu/events/mem-loads")).ok()?;
    let field = |name: &str| {
        let mut fields = loads
            .trim()
            .split(',')
            .filter_map(|field| field.split_once('='));
        let digits = fields.find(|(key, _)| *key == name)?.1.trim();
        let hexadecimal = digits
            .strip_prefix("0x")
            .map(|digits| u64::from_str_radix(digits, 16));
        hexadecimal.unwrap_or_else(|| digits.parse()).ok()
    };
    Some(PerfEvent {
        kind: number(&units.join("cpu/type"))?,
        config: field("event")? | field("umask").unwrap_or_default() << 8,
        config1: field("ldlat").unwrap_or(3),
        period: LOADS_PER_SAMPLE,
        precise: 2,
        is_user_only: true,
    })
}

/// IBS: any operation, with an address if it has one. It cannot leave the kernel's out.
fn amd_operations(units: &Path) -> Option<PerfEvent> {
    Some(PerfEvent {
        kind: number(&units.join("ibs_op/type"))?,
        config: 0,
        config1: 0,
        period: OPERATIONS_PER_SAMPLE,
        precise: 0,
        is_user_only: false,
    })
}

fn number(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_kernel_lists_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let units = folder.path();
        assert_eq!((intel_loads(units), amd_operations(units)), (None, None));
        for (file, text) in [
            ("cpu/type", "4\n"),
            ("cpu/events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n"),
            ("ibs_op/type", "11\n"),
        ] {
            let path = units.join(file);
            fs::create_dir_all(path.parent().expect("a folder above")).expect("created");
            fs::write(path, text).expect("written");
        }
        let loads = intel_loads(units).expect("listed");
        assert_eq!((loads.kind, loads.config, loads.config1), (4, 0x1cd, 3));
        assert_eq!(amd_operations(units).expect("listed").kind, 11);
    }
}
