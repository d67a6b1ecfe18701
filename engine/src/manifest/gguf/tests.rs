//! Headers: read back, bent in every way we refuse, cut short, and claiming too much.

use super::super::testing::{GgufFile, Llama, array, string};
use super::*;
use proptest::prelude::*;

fn read(file: &GgufFile) -> Result<Header, HeaderError> {
    let (_, bytes) = file.bytes();
    Header::read(bytes.as_slice(), bytes.len() as u64)
}

/// Bends a small model and expects a refusal whose message has `expected` in it.
fn check(expected: &str, bend: impl FnOnce(&mut GgufFile)) {
    let mut file = Llama::SMALL.gguf();
    bend(&mut file);
    let message = read(&file).expect_err(expected).to_string();
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    assert!(!message.contains('\n'));
}

#[test]
fn every_kind_of_value_reads_back() {
    let mut file = GgufFile::new();
    file.key("u8", 0, &[200])
        .key("i8", 1, &[200])
        .key("u16", 2, &[0, 200])
        .key("i16", 3, &[0, 200])
        .key_u32("u32", u32::MAX)
        .key("i32", 5, &[255; 4])
        .key_f32("f32", -0.5)
        .key("bool", 7, &[1])
        .key_str("str", "grüß\n")
        .key("latin1", 8, &[&1_u64.to_le_bytes()[..], &[0xfc]].concat())
        .key("u64", 10, &[255; 8])
        .key("i64", 11, &[255; 8])
        .key("f64", 12, &0.25_f64.to_le_bytes())
        .key_strings("strings", &["a", "", "bc"])
        .key("f32s", 9, &array(6, 2, &[0, 0, 128, 63, 0, 0, 0, 64]))
        .key("i8s", 9, &array(1, 2, &[1, 255]))
        .key("none", 9, &array(4, 0, &[]))
        .key("nested", 9, &array(9, 1, &array(8, 1, &string("deep"))));
    let metadata = read(&file).expect("a file without tensors").metadata;
    assert_eq!(metadata.iter().count(), 18);
    assert_eq!(metadata.u32("u8"), Some(200));
    assert_eq!(metadata.get("i8"), Some(&Value::Signed(-56)));
    assert_eq!(metadata.u32("u16"), Some(51_200));
    assert_eq!(metadata.get("i16"), Some(&Value::Signed(-14_336)));
    assert_eq!(
        (metadata.u32("u32"), metadata.u32("i32")),
        (Some(u32::MAX), None)
    );
    assert_eq!(
        (metadata.f32("f32"), metadata.f32("f64")),
        (Some(-0.5), Some(0.25))
    );
    assert_eq!(
        (metadata.bool("bool"), metadata.bool("u8")),
        (Some(true), None)
    );
    assert_eq!(metadata.str("str"), Some("grüß\n"));
    assert_eq!(metadata.str("latin1"), Some("\u{fffd}"));
    assert_eq!(
        (metadata.u64("u64"), metadata.u64("i64")),
        (Some(u64::MAX), None)
    );
    let strings = metadata.strings("strings").expect("is an array of strings");
    assert_eq!(strings.iter().collect::<Vec<_>>(), ["a", "", "bc"]);
    assert_eq!(
        (strings.get(2), strings.get(3), strings.len()),
        (Some("bc"), None, 3)
    );
    assert_eq!(metadata.f32s("f32s"), Some(vec![1.0, 2.0]));
    assert_eq!(metadata.i32s("i8s"), Some(vec![1, -1]));
    assert_eq!((metadata.u32s("i8s"), metadata.f32s("i8s")), (None, None));
    assert_eq!(metadata.bytes("i8s"), Some(&[1, 255][..]));
    assert_eq!(metadata.u32s("none"), Some(vec![]));
    assert_eq!(metadata.get("nested"), Some(&Value::Nested));
    assert_eq!(
        (metadata.get("absent"), metadata.str("absent")),
        (None, None)
    );
}

#[test]
fn tensors_read_back_with_offsets_of_the_file() {
    for alignment in [8, 32, 4096] {
        let mut file = GgufFile::new();
        file.alignment = alignment;
        file.version = 2;
        file.key_u32("general.alignment", alignment as u32);
        file.tensor("a", &[3, 5], 0, vec![1; 60])
            .tensor("b", &[64], 8, vec![2; 68]);
        let (data_start, _) = file.bytes();
        let header = read(&file).expect("a right file");
        let [a, b] = &header.tensors[..] else {
            panic!("two tensors")
        };
        assert_eq!(
            (a.shape.as_slice(), &*a.type_name, a.len),
            (&[5, 3][..], "F32", 60)
        );
        assert_eq!(
            (b.shape.as_slice(), &*b.type_name, b.len),
            (&[64][..], "Q8_0", 68)
        );
        assert_eq!(a.offset, data_start as u64);
        assert_eq!(
            b.offset,
            (data_start + 60_usize.next_multiple_of(alignment)) as u64
        );
    }
}

#[test]
fn types_without_a_name_are_listed_up_to_the_next_tensor() {
    let mut file = GgufFile::new();
    file.tensor("new", &[7, 3], 777, vec![0; 50])
        .tensor("old", &[3], 0, vec![0; 12]);
    file.tensor("last", &[7], 778, vec![0; 5]);
    let tensors = read(&file).expect("an open table of types").tensors;
    assert_eq!(
        (&*tensors[0].type_name, tensors[0].len),
        ("ggml type 777", 64)
    );
    assert_eq!(
        (&*tensors[2].type_name, tensors[2].len),
        ("ggml type 778", 5)
    );
    assert_eq!(tensors[0].weight_type(), None);
}

#[test]
fn wrong_files_are_refused() {
    check("not a GGUF file", |file| file.magic = *b"GGML");
    check("version 1, expected 2 or 3", |file| file.version = 1);
    check("version 4, expected 2 or 3", |file| file.version = 4);
    check("big-endian", |file| file.version = 3_u32.swap_bytes());
    check("value type 13 at byte", |file| {
        _ = file.key("bad", 13, &[0; 8]);
    });
    check("is not UTF-8", |file| {
        file.key(
            "bad",
            9,
            &array(8, 1, &[&1_u64.to_le_bytes()[..], &[0xff]].concat()),
        );
    });
    check("key \"twice\" appears a second time", |file| {
        file.keys.push(("twice".to_owned(), vec![0, 0, 0, 0, 1]));
        file.keys.push(("twice".to_owned(), vec![0, 0, 0, 0, 1]));
    });
    check("nesting of arrays", |file| {
        let mut deep = array(4, 0, &[]);
        for _ in 0..6 {
            deep = array(9, 1, &deep);
        }
        file.key("deep", 9, &deep);
    });
    for found in [0_u32, 3, 48, 1 << 30] {
        check(&format!("general.alignment is {found}"), |file| {
            file.key_u32("general.alignment", found);
        });
    }
    check("general.alignment is \"32\"", |file| {
        _ = file.key_str("general.alignment", "32");
    });
}

#[test]
fn wrong_tensors_are_refused() {
    const NAME: &str = "blk.1.attn_v.weight";
    check("appears a second time", |file| {
        file.named(NAME).name = "output.weight".to_owned();
    });
    check("has 5 dimensions", |file| {
        file.named(NAME).dims = vec![1; 5];
    });
    check("dimension of zero", |file| {
        file.named(NAME).dims = vec![8, 0];
    });
    check("multiply to more", |file| {
        file.named(NAME).dims = vec![1 << 40, 1 << 40];
    });
    check("multiply to more", |file| {
        file.named(NAME).dims = vec![1 << 61, 2];
    });
    check("multiply to more", |file| {
        file.named(NAME).dims = vec![1 << 62];
    });
    check("a multiple of 32 for type Q8_0", |file| {
        file.named(NAME).ty = 8;
    });
    check("offset 33 is not a multiple of the alignment 32", |file| {
        file.named(NAME).offset = 33;
    });
    check("but the file ends at byte", |file| {
        file.named(NAME).offset = 1 << 40;
    });
    check("but the file ends at byte", |file| {
        file.named(NAME).offset = u64::MAX - 31;
    });
    check("but the file ends at byte", |file| {
        file.named(NAME).dims = vec![1 << 40];
    });
    check("inside tensor", |file| file.named(NAME).offset = 0);
    check("inside tensor", |file| file.named(NAME).offset = 32);
    check("tensor name at byte", |file| {
        file.named(NAME).name = "n".repeat(2000);
    });
}

#[test]
fn counts_beyond_the_file_are_refused_at_once() {
    for off in [1 << 17, 1 << 32, 1 << 60, u64::MAX / 2] {
        check("tensor count at byte 8 is", |file| file.counts_off[0] = off);
        check("key count at byte 16 is", |file| file.counts_off[1] = off);
    }
    check("at byte", |file| file.counts_off[0] = 3);
    check("at byte", |file| file.counts_off[1] = 3);
    for count in [10_000, 1 << 40, u64::MAX] {
        for code in [0, 4, 8, 9, 10] {
            check("array at byte", |file| {
                _ = file.key("huge", 9, &array(code, count, &[]));
            });
        }
        check("string at byte", |file| {
            _ = file.key("huge", 8, &count.to_le_bytes());
        });
    }
}

#[test]
fn a_header_never_exceeds_its_limit() {
    let (_, bytes) = GgufFile::new()
        .key("huge", 9, &array(0, 1 << 40, &[]))
        .bytes();
    let error = Header::read(bytes.as_slice(), 1 << 41).expect_err("claims a terabyte");
    assert!(
        matches!(
            error,
            HeaderError::TooMany {
                what: "header size",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn every_prefix_is_refused() {
    let (_, bytes) = Llama::SMALL.gguf().bytes();
    for len in 0..bytes.len() {
        // Cut before it was opened, and while it is read.
        for claimed in [len, bytes.len()] {
            let read = Header::read(&bytes[..len], claimed as u64);
            assert!(
                read.is_err() || claimed == bytes.len(),
                "{len} of {}",
                bytes.len()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec(any::<(usize, u8)>(), 1..9)) {
        let (header, mut bytes) = Llama::SMALL.gguf().bytes();
        for (at, bit) in flips {
            bytes[at % header] ^= 1 << (bit % 8);
        }
        crate::manifest::fuzz::gguf(&bytes);
    }
}
