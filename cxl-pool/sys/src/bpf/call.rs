//! The one door to bpf(2).

use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Words of the longest attribute that we fill; what follows in the kernel's union is zero to it.
const WORDS: usize = 16;

/// Commands of bpf(2).
#[derive(Clone, Copy)]
#[repr(i32)]
pub(super) enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapNextKey = 4,
    ObjPin = 6,
    ObjGet = 7,
    ObjInfo = 15,
    LinkCreate = 28,
}

/// Two halves of an attribute's word. Little-endian: the low half comes first.
pub(super) fn halves(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// Calls bpf(2) with `words` at the start of its attribute.
///
/// # Safety
///
/// Addresses in `words` point to memory that `command` may read or write for the whole call, with
/// the sizes that the command gives them.
pub(super) unsafe fn bpf<const N: usize>(command: Command, words: [u64; N]) -> Result<i32, Errno> {
    let mut attribute = [0u64; WORDS];
    attribute[..N].copy_from_slice(&words);
    // SAFETY: the attribute outlives the call and its size is the one given; what it points to is
    // the caller's duty.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i32,
            attribute.as_mut_ptr(),
            size_of_val(&attribute),
        )
    };
    Errno::result(result).map(|result| result as i32)
}

/// Like [`bpf`], for commands that return a new descriptor.
///
/// # Safety
///
/// As for [`bpf`].
pub(super) unsafe fn bpf_fd<const N: usize>(
    command: Command,
    words: [u64; N],
) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller's duty is passed on.
    let fd: RawFd = unsafe { bpf(command, words) }?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A path as the kernel takes it.
pub(super) fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}
