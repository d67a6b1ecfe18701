//! Memory of one worker for unpacked panels and tiles, aligned for the widest load.

/// Upper limit of one worker's scratch.
pub(crate) const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Grows on demand, never shrinks, starts empty. On cache lines of its own: each worker locks its
/// own for every task, and must not wait for the line of its neighbour's.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Scratch {
    lines: Vec<Line>,
}

impl Scratch {
    /// At least `floats` elements, 64-byte aligned, with whatever was left in them.
    pub(crate) fn floats(&mut self, floats: usize) -> &mut [f32] {
        let lines = floats.div_ceil(16);
        debug_assert!(lines * 64 <= SCRATCH_BYTES_MAX + (SCRATCH_BYTES_MAX >> 1));
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        // SAFETY: `Line` is `repr(C)` around 16 floats without padding, and the vector owns
        // `self.lines.len()` of them.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), lines * 16) }
    }
}

/// A slice that many tasks write, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct SharedSlice<T> {
    data: *mut T,
    len: usize,
}

// SAFETY: tasks reach the data only through `part`, whose contract forbids overlap.
unsafe impl<T: Send> Send for SharedSlice<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedSlice<T> {}

impl<T> SharedSlice<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self {
            data: slice.as_mut_ptr(),
            len: slice.len(),
        }
    }

    /// Elements `first..first + count`.
    ///
    /// # Safety
    /// 1. No other slice of an overlapping range is alive.
    /// 2. The slice this was made from is still borrowed.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's duty")]
    pub(crate) unsafe fn part(&self, first: usize, count: usize) -> &mut [T] {
        assert!(first + count <= self.len, "part outside of the slice");
        // SAFETY: the range lies inside the borrowed slice and the caller excludes overlap.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), count) }
    }
}
