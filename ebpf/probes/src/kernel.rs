//! Reading what the kernel hands to a program.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::TracePointContext;

/// A value that every bit pattern is one of, so that reading it never gives a wrong one.
///
/// # Safety
///
/// Implemented for integers and raw pointers only.
pub(crate) unsafe trait Field: Copy {}

// SAFETY: an integer.
unsafe impl Field for u32 {}
// SAFETY: an integer.
unsafe impl Field for u64 {}
// SAFETY: a raw pointer.
unsafe impl Field for *const u8 {}

/// The field at `offset` of the kernel struct at `base`.
///
/// `base` is an argument of a BTF tracepoint or was read so from one: the verifier knows its type,
/// refuses offsets that hold no such field, and turns a fault of the load into zero.
#[inline(always)]
pub(crate) fn field<T: Field>(base: *const u8, offset: u32) -> T {
    // SAFETY: see above; without that proof of the verifier the program does not load. Volatile
    // keeps the load in one piece, which the verifier asks for.
    unsafe { base.add(offset as usize).cast::<T>().read_volatile() }
}

/// The field at `offset` of the record of a classic tracepoint; zero if it cannot be read.
#[inline(always)]
pub(crate) fn record<T: Field + Default>(context: &TracePointContext, offset: u32) -> T {
    // SAFETY: the helper checks the address and reports a fault; any bytes are a value.
    unsafe { bpf_probe_read_kernel(context.as_ptr().add(offset as usize).cast()) }
        .unwrap_or_default()
}
