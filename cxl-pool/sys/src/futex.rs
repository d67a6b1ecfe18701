//! Futex: sleeping on the low half of an `AtomicU64`.
//!
//! Source: futex(2). The low half is the futex word, so the high half (pin counts) may change
//! without waking anybody. Little-endian targets only: there the low half is at the same address.

use crate::sync::AtomicU64;
use std::time::Duration;

#[cfg(not(target_endian = "little"))]
compile_error!("the futex word is the low half of the slot word: little-endian targets only");

/// Sleeps while the low half of `word` equals `expected`, at most `timeout`.
///
/// Returns on a wake, a changed word, a signal or the timeout: the caller looks again.
#[cfg(not(all(test, feature = "explore")))]
pub(crate) fn wait(word: &AtomicU64, expected: u32, timeout: Duration) {
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: `word` is a live, 8-byte aligned word for the whole call, and `time` outlives it.
    // FUTEX_WAIT reads four bytes at the address and never writes.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            &raw const time,
        );
    }
}

/// Wakes everyone who sleeps on the low half of `word`.
#[cfg(not(all(test, feature = "explore")))]
pub(crate) fn wake_all(word: &AtomicU64) {
    // SAFETY: FUTEX_WAKE uses the address as a key only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX,
        );
    }
}

/// As above; without a timeout, so that a lost wake is seen.
#[cfg(all(test, feature = "explore"))]
pub(crate) fn wait(word: &AtomicU64, expected: u32, _: Duration) {
    word.sleep_while(expected);
}

/// As above.
#[cfg(all(test, feature = "explore"))]
pub(crate) fn wake_all(word: &AtomicU64) {
    word.wake_sleepers();
}
