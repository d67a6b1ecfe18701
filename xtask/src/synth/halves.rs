//! Rounding to the 16-bit types.

/// Bits of the nearest bfloat16, ties to even.
pub(crate) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let odd = (bits >> 16) & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

/// Bits of the nearest half-precision number, ties to even, for values below 65,504.
pub(crate) fn f16_bits(value: f32) -> u16 {
    assert!(
        value.abs() < 65_504.0,
        "{value} does not fit into half precision"
    );
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = value.abs();
    if magnitude < 2f32.powi(-14) {
        // Subnormal: a multiple of 2^-24. The largest rounds up into the first normal number.
        return sign | (magnitude * 2f32.powi(24)).round_ties_even() as u16;
    }
    let bits = magnitude.to_bits();
    let odd = (bits >> 13) & 1;
    // The exponent of 1.0 is 127 in single and 15 in half precision.
    sign | (((bits + 0xfff + odd) >> 13) - ((127 - 15) << 10)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_to_even() {
        for (value, bits) in [
            (0.0, 0x0000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (0.333_251_95, 0x3555),
            (1.0 + 0.000_488_281_25, 0x3c00),
            (1.0 + 3.0 * 0.000_488_281_25, 0x3c02),
            (5.960_464_5e-8, 0x0001),
            (6.103_515_6e-5, 0x0400),
            (6.102e-5, 0x0400),
            (6.097_555e-5, 0x03ff),
        ] {
            assert_eq!(f16_bits(value), bits, "{value}");
        }
        assert_eq!(
            [1.0, -1.0, 1.003_906_2, 1.011_718_8].map(bf16_bits),
            [0x3f80, 0xbf80, 0x3f80, 0x3f82]
        );
    }
}
