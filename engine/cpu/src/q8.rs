//! Quantised activation rows ("q8 rows"): what the kernels of quantised weights multiply with.
//!
//! Each 32 elements share a float32 scale `d = amax / 127`; the values are `round(x / d)`.
//! Sixteen such blocks form a group of 640 bytes; a row is padded to whole groups with zeros:
//!
//! ```text
//! offset 0    512 bytes  values, int8: vector k (0..8), lane b (0..16), 4 bytes:
//!                        dword (b - k) mod 8 of block b of the group
//! offset 512   64 bytes  int32 per block: -128 × sum of its values
//! offset 576   64 bytes  float32 per block: the scale
//! ```
//!
//! Lane b of every vector belongs to block b, so eight dot-product instructions leave the exact
//! integer sums of sixteen blocks in one register. The dwords of a block lie on a diagonal,
//! because blends and one rotation per vector bring stored weights into that order, while a full
//! transpose would need three times as many shuffles. The sums undo the bias of 128 that makes
//! signed weights unsigned, and serve the minimums of the K types.

/// Elements that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Blocks of a group: lanes of the widest vector.
pub(crate) const GROUP_BLOCKS: usize = 16;
/// Elements of a group.
pub(crate) const GROUP: usize = BLOCK * GROUP_BLOCKS;
/// Bytes of a group.
pub(crate) const GROUP_BYTES: usize = SCALES_AT + 64;
/// Offset of the sums in a group.
pub(crate) const SUMS_AT: usize = GROUP;
/// Offset of the scales in a group.
pub(crate) const SCALES_AT: usize = GROUP + 64;

/// Blocks whose largest magnitude is below this become zeros: 127 / amax would overflow.
pub(crate) const AMAX_MIN: f32 = 1e-35;

/// Offset in a group of dword `dword` (0..8) of block `block` (0..16).
pub(crate) const fn dword_at(block: usize, dword: usize) -> usize {
    let vector = (block + 8 - dword) % 8;
    vector * 64 + block * 4
}

/// Bytes of one quantised row of `cols` elements.
pub(crate) const fn row_bytes(cols: usize) -> usize {
    cols.div_ceil(GROUP) * GROUP_BYTES
}

/// Checks the alignment that the kernels' loads rely on.
pub(crate) fn assert_aligned(q8: &[u8]) {
    assert!(
        q8.is_empty() || q8.as_ptr().addr().is_multiple_of(64),
        "q8 rows lie 64-byte aligned"
    );
}
