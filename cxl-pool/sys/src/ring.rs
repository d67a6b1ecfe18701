//! Whether the kernel gives this process an io_uring that works.

use io_uring::{IoUring, opcode};
use std::io;

/// Sets up a ring and sends one operation, which does nothing, through it.
///
/// Errors: those of io_uring_setup(2) and io_uring_enter(2). A container's seccomp filter and
/// `kernel.io_uring_disabled` refuse with `EPERM`, a kernel without io_uring with `ENOSYS`.
pub fn try_ring() -> io::Result<()> {
    const MARK: u64 = 7;
    let mut ring = IoUring::new(8)?;
    let nop = opcode::Nop::new().build().user_data(MARK);
    // SAFETY: the operation names no memory and no file.
    let pushed = unsafe { ring.submission().push(&nop) };
    assert!(pushed.is_ok(), "a new queue has room for one entry");
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(done) if done.user_data() == MARK && done.result() == 0 => Ok(()),
        _ => Err(io::Error::other("an operation came back wrong")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_ring_works_or_says_why_not() {
        match super::try_ring() {
            Ok(()) => {}
            Err(error) if error.raw_os_error().is_some() => {
                println!("skipped: this host has no io_uring ({error})");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
