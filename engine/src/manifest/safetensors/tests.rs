//! Headers of safetensors files: read back, bent, and cut short.

use super::super::testing::{Llama, safetensors_file};
use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Vec<StoredTensor>, HeaderError> {
    read_header(bytes, bytes.len() as u64)
}

fn check(expected: &str, json: &str) {
    let message = read(&safetensors_file(json, 64))
        .expect_err(expected)
        .to_string();
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    assert!(!message.contains('\n'));
}

/// A header with one tensor `t`.
fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn tensors_read_back_in_the_order_of_their_offsets() {
    let json = r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[40,52]},
        "__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
        "new":{"dtype":"Q77","shape":[9],"data_offsets":[4,40]}}"#;
    let tensors = read(&safetensors_file(json, 52)).expect("a right file");
    let start = 8 + json.len() as u64;
    let seen: Vec<_> = tensors
        .iter()
        .map(|t| (&*t.name, &*t.type_name, t.offset, t.len))
        .collect();
    let expected = [
        ("a", "F32", start, 4),
        ("new", "dtype Q77", start + 4, 36),
        ("b", "BF16", start + 40, 12),
    ];
    assert_eq!(seen, expected);
    assert_eq!(tensors[2].shape.as_slice(), [2, 3]);
}

#[test]
fn wrong_headers_are_refused() {
    check("safetensors header at byte 8", "[]");
    check("safetensors header at byte 8", "{");
    check("safetensors header at byte 8", &"[".repeat(10_000));
    check("missing field", r#"{"t":{"dtype":"F32","shape":[1]}}"#);
    check("takes 8 bytes, expected 4", &one("F32", "[1]", "[0,8]"));
    check("takes 0 bytes, expected 4", &one("F32", "[1]", "[8,0]"));
    check("but the file ends at byte", &one("F32", "[17]", "[0,68]"));
    check(
        "but the file ends at byte",
        &one("F32", "[1]", "[18446744073709551611,18446744073709551615]"),
    );
    check("but the file ends at byte", &one("Q77", "[1]", "[4,4]"));
    check("invalid value", &one("F32", "[-1]", "[0,4]"));
    check("dimension of zero", &one("F32", "[0]", "[0,0]"));
    check(
        "multiply to more",
        &one("F32", "[4294967296,4294967296]", "[0,0]"),
    );
    check(
        "multiply to more",
        &one("F32", "[9223372036854775807]", "[0,0]"),
    );
    check(
        "has 9 dimensions",
        &one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"),
    );
    let entry = r#""t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    check(
        "tensor \"t\" appears a second time",
        &format!("{{{entry},{entry}}}"),
    );
    let other = entry.replace("\"t\"", "\"u\"");
    check("inside tensor", &format!("{{{entry},{other}}}"));
}

#[test]
fn lengths_beyond_the_file_or_the_limit_are_refused() {
    for len in [57_u64, 1 << 20, 100_000_000, 100_000_001, u64::MAX] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.resize(64, b' ');
        let error = read(&bytes).expect_err("claims too much");
        let limit = matches!(error, HeaderError::TooMany { .. });
        assert_eq!(limit, len > 100_000_000, "{error}");
    }
}

#[test]
fn every_prefix_is_refused() {
    let bytes = Llama::SMALL.safetensors(|_| true);
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
    }
    assert!(read(&bytes).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec(any::<(usize, u8)>(), 1..5)) {
        let mut bytes = Llama { layers: 1, tied: true, ..Llama::SMALL }.safetensors(|_| true);
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        crate::manifest::fuzz::safetensors_header(&bytes);
    }
}
