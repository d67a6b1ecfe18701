//! BPF maps and links by descriptor, as far as a loader library does not offer them: opening pins
//! with less than all rights, mapping arrays, performance events with data addresses.
//!
//! Key types: [`Map`] is an open map, [`ArrayWords`] an array in this process's memory, and
//! [`PerfEvent`] says what `perf` opens. Who may do what is decided by the file mode of the pin
//! and by capabilities; every refusal is the kernel's error number.
//!
//! Source: bpf(2), perf_event_open(2), Linux `include/uapi/linux/bpf.h`.

mod call;
mod words;

mod map;
mod perf;

pub use map::{Access, Map, MapInfo, pin};
pub use perf::{PerfEvent, PerfScope, link_perf, perf_event};
pub use words::ArrayWords;
