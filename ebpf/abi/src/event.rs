//! Rare events, told one by one through the ring buffer `events`.

use crate::plain::plain;

/// A device lists an address as poisoned.
pub const EVENT_POISON: u32 = 1;
/// A device reports an error of its media.
pub const EVENT_MEDIA_ERROR: u32 = 2;
/// A task waited for memory longer than `Settings::stall_ns`.
pub const EVENT_STALL: u32 = 3;

plain! {
    pub struct Event {
        /// Monotonic clock.
        pub at_ns: u64,
        /// One of `EVENT_`.
        pub kind: u32,
        /// Process that was running, which need not be the cause.
        pub tgid: u32,
        /// Physical address on the host, or all ones where the device does not tell it.
        pub address: u64,
        /// Address on the device of an error, nanoseconds of a stall.
        pub detail: u64,
        /// Heat array and entry of the block at the address, all ones if there is none.
        pub array: u32,
        pub entry: u32,
    }
}
