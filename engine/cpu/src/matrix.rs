//! Operands of the products: weight rows as stored, activation rows, output columns.

use crate::weight::WeightType;
use std::fmt;

/// Weight rows in the file's own bytes.
///
/// Shapes: `rows` × `cols`, row-major, no padding; any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    ty: WeightType,
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
}

/// A shape that does not fit its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatrixError {
    /// A row is not a whole number of blocks, or is empty.
    Cols { ty: WeightType, cols: usize },
    /// `found` is not `rows` × bytes of a row.
    Bytes { expected: usize, found: usize },
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cols { ty, cols } => {
                let elems = ty.block_elems();
                write!(
                    f,
                    "row of {cols} elements is no multiple of {elems} ({})",
                    ty.name()
                )
            }
            Self::Bytes { expected, found } => {
                write!(f, "matrix has {found} bytes, expected {expected}")
            }
        }
    }
}

impl std::error::Error for MatrixError {}

impl<'a> Matrix<'a> {
    /// Checks that `bytes` holds exactly `rows` rows of `cols` elements.
    pub fn new(
        ty: WeightType,
        rows: usize,
        cols: usize,
        bytes: &'a [u8],
    ) -> Result<Self, MatrixError> {
        if cols == 0 || !cols.is_multiple_of(ty.block_elems()) {
            return Err(MatrixError::Cols { ty, cols });
        }
        let expected = ty.row_bytes(cols).saturating_mul(rows);
        if bytes.len() != expected {
            return Err(MatrixError::Bytes {
                expected,
                found: bytes.len(),
            });
        }
        Ok(Self {
            ty,
            rows,
            cols,
            bytes,
        })
    }

    /// Type of the elements.
    pub fn ty(&self) -> WeightType {
        self.ty
    }

    /// Number of rows: elements of an output row that this matrix makes.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.ty.row_bytes(self.cols)
    }

    /// Bytes of row `row`.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let bytes = self.row_bytes();
        &self.bytes[row * bytes..][..bytes]
    }
}

/// Activation rows, and their quantised copy where the kernels want one.
///
/// Shapes: `f32` (rows, cols); `q8` (rows, `Kernels::quantised_bytes(cols)`), 64-byte aligned.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Always given; the kernels of unquantised weights read it, fastest from 64-byte aligned
    /// rows.
    pub f32: &'a [f32],
    /// Output of `Kernels::quantise`; needed where `Kernels::quantises` says so.
    pub q8: Option<&'a [u8]>,
    pub rows: usize,
    pub cols: usize,
}

/// What an operation does with what is in the output already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Overwrite.
    Store,
    /// Add to it.
    Add,
}

/// Where a row block of a weight tensor writes: some columns of every output row.
///
/// Shapes: element (r, j) is `data[r * stride + col0 + j]`.
#[derive(Debug)]
pub struct Out<'a> {
    pub data: &'a mut [f32],
    /// Elements from one output row to the next.
    pub stride: usize,
    /// First column; the weight rows of one block become neighbouring columns.
    pub col0: usize,
    pub mode: Mode,
}

/// An [`Out`] that many tasks write, each its own columns.
#[derive(Clone, Copy)]
pub(crate) struct SharedOut {
    data: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
}

// SAFETY: tasks reach the data only through `row`, whose contract forbids overlap.
unsafe impl Send for SharedOut {}
// SAFETY: as above.
unsafe impl Sync for SharedOut {}

impl SharedOut {
    /// Checks that `rows` × `cols` elements lie inside.
    pub(crate) fn new(out: &mut Out<'_>, rows: usize, cols: usize) -> Self {
        assert!(
            out.col0 + cols <= out.stride,
            "columns {}..{} exceed the output stride {}",
            out.col0,
            out.col0 + cols,
            out.stride
        );
        let needs = if rows == 0 {
            0
        } else {
            (rows - 1) * out.stride + out.col0 + cols
        };
        assert!(
            out.data.len() >= needs,
            "output has {} of {needs} elements",
            out.data.len()
        );
        let first = out.col0.min(out.data.len());
        let data = out.data[first..].as_mut_ptr();
        Self {
            data,
            stride: out.stride,
            rows,
            cols,
        }
    }

    /// Elements `col..col + cols` of row `row`.
    ///
    /// # Safety
    /// 1. No other slice of an overlapping range is alive.
    /// 2. The [`Out`] this was made from is still borrowed.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's duty")]
    pub(crate) unsafe fn row(&self, row: usize, col: usize, cols: usize) -> &mut [f32] {
        assert!(
            row < self.rows && col + cols <= self.cols,
            "tile outside of the output"
        );
        // SAFETY: `new` checked that all rows × cols elements lie inside the borrowed data, the
        // assertion keeps us among them, and the caller excludes overlap.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + col), cols) }
    }
}
