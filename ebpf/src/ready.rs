//! Whether probes could start here, asked of the kernel without leaving anything behind.

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};

use crate::error::StartError;
use crate::pins::Pins;
use crate::privilege;

/// What the kernel would let `start` do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Kinds of programs that it takes.
    pub taken: Vec<&'static str>,
    /// Kinds that it refuses; probes of these are skipped or take another form.
    pub refused: Vec<&'static str>,
    /// Maps are pinned there already, by a start that is still in force or was stopped with its
    /// maps kept.
    pub is_pinned: bool,
}

/// Those that can be tried with an empty program; `tp_btf` cannot, it needs a tracepoint to type
/// its arguments by.
const KINDS: [(&str, ProgramType); 3] = [
    ("perf", ProgramType::PerfEvent),
    ("tracepoint", ProgramType::TracePoint),
    ("uprobe", ProgramType::KProbe),
];

/// Checks privileges, lockdown and the place of the pins, then loads a map and a program of each
/// kind that probes have, and drops them.
pub fn ready(pins: &Pins) -> Result<Ready, StartError> {
    privilege::check()?;
    let mut ready = Ready {
        taken: Vec::new(),
        refused: Vec::new(),
        is_pinned: match pins.check_place() {
            Ok(()) => false,
            Err(StartError::Running { .. }) => true,
            Err(error) => return Err(error),
        },
    };
    if let Err(error) = is_map_supported(MapType::Array) {
        return Err(StartError::Load {
            reason: crate::error::one_line(&error),
        });
    }
    for (name, kind) in KINDS {
        match is_program_supported(kind) {
            Ok(true) => ready.taken.push(name),
            _ => ready.refused.push(name),
        }
    }
    Ok(ready)
}
