//! Loads, conversions and sums of sixteen lanes.

use super::{BF16, F16, F32};
use core::arch::x86_64::*;

/// Bytes of an element of a float type.
pub(super) const fn elem_bytes<const T: u8>() -> usize {
    if T == F32 { 4 } else { 2 }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn bf16_to_f32(x: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x)))
}

/// Sixteen elements as float32.
///
/// # Safety
/// `p` has 16 readable elements of type `T`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn load<const T: u8>(p: *const u8) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        match T {
            F32 => _mm512_loadu_ps(p.cast()),
            F16 => _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())),
            BF16 => bf16_to_f32(_mm256_loadu_si256(p.cast())),
            _ => unreachable!("three float types"),
        }
    }
}

/// The elements of `mask` as float32, zero elsewhere.
///
/// # Safety
/// The elements of `mask` at `p` are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn load_masked<const T: u8>(p: *const u8, mask: __mmask16) -> __m512 {
    // SAFETY: masked-out elements are not touched; the others are the caller's duty.
    unsafe {
        match T {
            F32 => _mm512_maskz_loadu_ps(mask, p.cast()),
            F16 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p.cast())),
            BF16 => bf16_to_f32(_mm256_maskz_loadu_epi16(mask, p.cast())),
            _ => unreachable!("three float types"),
        }
    }
}

/// Mask of the first `count` lanes; all of them from 16 up.
#[inline]
pub(super) fn first_lanes(count: usize) -> __mmask16 {
    if count >= 16 {
        0xffff
    } else {
        (1 << count) - 1
    }
}

/// Adds the lanes pairwise: halves, quarters, eighths, neighbours.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn sum(x: __m512) -> f32 {
    let x = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// Largest lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn max(x: __m512) -> f32 {
    let x = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
}

/// Sums of sixteen vectors, in the order of [`sum`], as the lanes of one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn sums(x: [__m512; 16]) -> __m512 {
    // halves: vector i keeps eight lanes of x[i] and eight of x[i + 8]
    let mut a = [_mm512_setzero_ps(); 8];
    for i in 0..8 {
        let low = _mm512_shuffle_f32x4::<0x44>(x[i], x[i + 8]);
        let high = _mm512_shuffle_f32x4::<0xee>(x[i], x[i + 8]);
        a[i] = _mm512_add_ps(low, high);
    }
    // quarters: four lanes each of i, i + 4, i + 8, i + 12
    let mut b = [_mm512_setzero_ps(); 4];
    for i in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x88>(a[i], a[i + 4]);
        let high = _mm512_shuffle_f32x4::<0xdd>(a[i], a[i + 4]);
        b[i] = _mm512_add_ps(low, high);
    }
    // eighths, then neighbours, inside each 128-bit lane
    let pairs = |x, y| {
        let low = _mm512_shuffle_ps::<0x44>(x, y);
        let high = _mm512_shuffle_ps::<0xee>(x, y);
        _mm512_add_ps(low, high)
    };
    let (c0, c1) = (pairs(b[0], b[1]), pairs(b[2], b[3]));
    let low = _mm512_shuffle_ps::<0x88>(c0, c1);
    let high = _mm512_shuffle_ps::<0xdd>(c0, c1);
    let x = _mm512_add_ps(low, high);
    // 128-bit lane L, element e now holds vector e + 4 * order[L]
    _mm512_shuffle_f32x4::<0b11_01_10_00>(x, x)
}

/// e to the x; zero below -104, infinity above 89.
///
/// Accuracy: within 2e-7, relative. Source: the Taylor series after reduction by ln 2.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn exp(x: __m512) -> __m512 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = _mm512_min_ps(
        _mm512_max_ps(x, _mm512_set1_ps(-110.0)),
        _mm512_set1_ps(100.0),
    );
    let n = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E));
    let n = _mm512_roundscale_ps::<0>(n);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2_HIGH), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2_LOW), r);
    let mut p = _mm512_set1_ps(1.0 / 5040.0);
    for factorial in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0 / factorial));
    }
    _mm512_scalef_ps(p, n)
}

/// Rows become columns: lane j of vector i moves to lane i of vector j.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn transpose(x: [__m512; 16]) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    // s[q][c], 128-bit lane L: rows 4q..4q + 4 of column 4L + c
    let mut s = [[zero; 4]; 4];
    for q in 0..4 {
        let [r0, r1, r2, r3] = [x[4 * q], x[4 * q + 1], x[4 * q + 2], x[4 * q + 3]];
        let (t0, t1) = (_mm512_unpacklo_ps(r0, r1), _mm512_unpackhi_ps(r0, r1));
        let (t2, t3) = (_mm512_unpacklo_ps(r2, r3), _mm512_unpackhi_ps(r2, r3));
        s[q] = [
            _mm512_shuffle_ps::<0x44>(t0, t2),
            _mm512_shuffle_ps::<0xee>(t0, t2),
            _mm512_shuffle_ps::<0x44>(t1, t3),
            _mm512_shuffle_ps::<0xee>(t1, t3),
        ];
    }
    let mut out = [zero; 16];
    for c in 0..4 {
        let even_low = _mm512_shuffle_f32x4::<0x88>(s[0][c], s[1][c]);
        let odd_low = _mm512_shuffle_f32x4::<0xdd>(s[0][c], s[1][c]);
        let even_high = _mm512_shuffle_f32x4::<0x88>(s[2][c], s[3][c]);
        let odd_high = _mm512_shuffle_f32x4::<0xdd>(s[2][c], s[3][c]);
        out[c] = _mm512_shuffle_f32x4::<0x88>(even_low, even_high);
        out[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high);
        out[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even_low, even_high);
        out[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn store(x: __m512) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: the array has room for 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) };
        out
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn checks() {
        let rows: [[f32; 16]; 16] =
            std::array::from_fn(|i| std::array::from_fn(|j| ((i * 37 + j * 11) as f32).sin()));
        // SAFETY: each row has 16 floats.
        let x = rows.map(|row| unsafe { _mm512_loadu_ps(row.as_ptr()) });
        let columns = transpose(x);
        for (j, column) in columns.into_iter().enumerate() {
            assert_eq!(store(column), std::array::from_fn(|i| rows[i][j]));
        }
        assert_eq!(store(sums(x)), x.map(|x| sum(x)));
        for (x, expected) in x.iter().zip(rows) {
            assert_eq!(sum(*x), crate::portable::lanes::sum(expected));
        }
        for i in -1100..900 {
            let x = i as f32 * 0.1;
            let found = f64::from(store(exp(_mm512_set1_ps(x)))[3]);
            let expected = f64::from(x).exp();
            let tolerance = expected * 2e-7 + 1e-44;
            assert!(
                found > 3e38 || (found - expected).abs() <= tolerance,
                "exp({x}) = {found}"
            );
        }
        assert_eq!(store(exp(_mm512_set1_ps(f32::NEG_INFINITY)))[0], 0.0);
    }

    #[test]
    fn shuffles_sums_and_exp() {
        if crate::Isa::Avx512.check().is_ok() {
            // SAFETY: the flags were just checked.
            unsafe { checks() };
        }
    }
}
