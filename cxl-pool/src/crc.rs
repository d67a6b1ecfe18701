//! crc32c, the checksum of all bytes that move.
//!
//! Source: Castagnoli, Bräuer and Herrmann, Optimization of cyclic redundancy-check codes, 1993;
//! RFC 3720, section 12.1.

use crc_fast::{CrcAlgorithm, Digest, checksum, checksum_combine};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// Of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(ALGORITHM, bytes) as u32
}

/// Of bytes whose checksum is `crc` with `bytes` behind them; that of none is 0.
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(ALGORITHM, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// Of bytes with checksum `crc` and `len` bytes with checksum `behind` after them.
pub fn join(crc: u32, behind: u32, len: u64) -> u32 {
    checksum_combine(ALGORITHM, u64::from(crc), u64::from(behind), len) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Source: RFC 3720, appendix B.4.
    #[test]
    fn the_examples_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(&[]), 0);
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            at in 0..3000usize,
        ) {
            let (front, back) = bytes.split_at(at.min(bytes.len()));
            let whole = crc32c(&bytes);
            prop_assert_eq!(append(crc32c(front), back), whole);
            prop_assert_eq!(join(crc32c(front), crc32c(back), back.len() as u64), whole);
        }
    }
}
