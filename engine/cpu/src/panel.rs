//! What a kernel of products computes in one call, and how much memory it needs.

use crate::kernels::Class;
use crate::matrix::{Matrix, Rows};

/// Dot products that one call of a kernel computes.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) class: Class,
    pub(crate) w: &'a Matrix<'a>,
    /// First weight row, and how many.
    pub(crate) w0: usize,
    pub(crate) wn: usize,
    pub(crate) x: &'a Rows<'a>,
    /// First activation row, and how many.
    pub(crate) x0: usize,
    pub(crate) xn: usize,
    /// The weights are prefetched before they are loaded.
    pub(crate) prefetches: bool,
    pub(crate) ahead: Ahead,
}

/// Where the line stands that is prefetched with a load: some bytes on, or, if that is behind the
/// end of the panel, in the weights that are read next. Panels of gate and up alternate: what
/// stands behind one is not what comes next, so it would be read for nothing.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    distance: usize,
    /// Address behind the panel.
    end: usize,
    /// Bytes from there to what is read next.
    jump: usize,
}

impl Ahead {
    /// Of a panel whose weights are `panel`, `distance` bytes on; `next` are those behind it, if
    /// they are known.
    pub(crate) fn new(distance: usize, panel: &[u8], next: Option<&[u8]>) -> Self {
        let end = panel.as_ptr_range().end.addr();
        let next = next.map_or(end, |next| next.as_ptr().addr());
        Self {
            distance,
            end,
            jump: next.wrapping_sub(end),
        }
    }

    /// The address for a load at `at`; it may be outside of all weights.
    #[inline]
    pub(crate) fn of(self, at: *const u8) -> *const u8 {
        let ahead = at.wrapping_add(self.distance);
        if ahead.addr() < self.end {
            ahead
        } else {
            ahead.wrapping_add(self.jump)
        }
    }
}

/// Floats of work memory of `step_f32`.
pub(crate) const STEP_WORK: usize = 2048;
/// Columns of activations that `gemm_f32` packs at a time.
pub(crate) const GEMM_K: usize = 256;
/// Floats of work memory of `gemm_f32`: the packed panel and a copy of fourteen activation rows.
pub(crate) const GEMM_WORK: usize = GEMM_N * GEMM_K + 14 * (GEMM_K + 16);
/// Weight rows of a panel of `gemm_f32`.
pub(crate) const GEMM_N: usize = 128;
/// Step rows up to which weights are unpacked in registers rather than into work memory.
pub(crate) const DIRECT_ROWS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: usize = 4096;

    #[test]
    fn what_is_ahead_goes_on_in_the_next_panel() {
        let bytes = vec![0; 8 * AHEAD];
        let at = |offset: usize| bytes.as_ptr().wrapping_add(offset);
        let (panel, next) = (&bytes[..2 * AHEAD], &bytes[5 * AHEAD..]);
        for (next, behind) in [(Some(next), 5 * AHEAD), (None, 2 * AHEAD)] {
            let ahead = Ahead::new(AHEAD, panel, next);
            assert_eq!(ahead.of(at(0)), at(AHEAD));
            assert_eq!(ahead.of(at(AHEAD - 1)), at(2 * AHEAD - 1));
            assert_eq!(ahead.of(at(AHEAD)), at(behind));
            assert_eq!(ahead.of(at(2 * AHEAD - 64)), at(behind + AHEAD - 64));
        }
        // What comes next may stand in front.
        let ahead = Ahead::new(AHEAD, &bytes[2 * AHEAD..4 * AHEAD], Some(&bytes[..AHEAD]));
        assert_eq!(ahead.of(at(3 * AHEAD)), at(0));
    }
}
