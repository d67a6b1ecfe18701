//! The mark `larder:block_touch`, which tracers find by the note in the binary.
//!
//! A process that uses blocks and maps no heat array passes here; a probe on the mark counts for
//! it. Without a probe the mark is a `nop` of five bytes, which the kernel replaces by a call at
//! little cost; arguments stand in the registers of a function's first three, so that the probe
//! needs no table of places.
//!
//! Source: SystemTap's user-space probes, `<sys/sdt.h>`, note version 3.

/// Tells tracers that block `block` of the model whose manifest hash starts with `manifest` was
/// used `uses` times.
#[inline(never)]
pub fn block_touch(manifest: u64, block: u64, uses: u64) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    // SAFETY: the instructions do nothing, read three registers and leave all of them and memory
    // as they are; what else stands here goes to sections that are never executed.
    unsafe {
        core::arch::asm!(
            "990: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00",
            ".pushsection .note.stapsdt, \"?\", \"note\"",
            ".balign 4",
            ".4byte 992f - 991f, 994f - 993f, 3",
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b, _.stapsdt.base, 0",
            ".asciz \"larder\"",
            ".asciz \"block_touch\"",
            ".asciz \"8@%rdi 8@%rsi 8@%rdx\"",
            "994: .balign 4",
            ".popsection",
            ".ifndef _.stapsdt.base",
            ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat",
            ".weak _.stapsdt.base",
            ".hidden _.stapsdt.base",
            "_.stapsdt.base: .space 1",
            ".size _.stapsdt.base, 1",
            ".popsection",
            ".endif",
            in("rdi") manifest,
            in("rsi") block,
            in("rdx") uses,
            options(att_syntax, nomem, nostack, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let _ = (manifest, block, uses);
}
