//! Tokenizers against small vocabularies of our own.

use super::*;
use crate::manifest::gguf::{Header, Metadata};

/// A GGUF file that holds a vocabulary only.
struct Writer {
    bytes: Vec<u8>,
    keys: u64,
}

impl Writer {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            keys: 0,
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend((text.len() as u64).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn key(&mut self, key: &str, ty: u32) {
        self.keys += 1;
        self.text(key);
        self.bytes.extend(ty.to_le_bytes());
    }

    fn string(mut self, key: &str, value: &str) -> Self {
        self.key(key, 8);
        self.text(value);
        self
    }

    fn array(&mut self, key: &str, ty: u32, count: usize) {
        self.key(key, 9);
        self.bytes.extend(ty.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn strings(mut self, key: &str, values: &[&str]) -> Self {
        self.array(key, 8, values.len());
        for value in values {
            self.text(value);
        }
        self
    }

    fn floats(mut self, key: &str, values: &[f32]) -> Self {
        self.array(key, 6, values.len());
        for value in values {
            self.bytes.extend(value.to_le_bytes());
        }
        self
    }

    fn ints(mut self, key: &str, values: &[i32]) -> Self {
        self.array(key, 5, values.len());
        for value in values {
            self.bytes.extend(value.to_le_bytes());
        }
        self
    }

    fn metadata(self) -> Metadata {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(self.bytes);
        let len = file.len() as u64;
        Header::read(file.as_slice(), len)
            .expect("a whole header")
            .metadata
    }
}

fn special() -> SpecialTokens {
    SpecialTokens {
        bos: Some(1),
        eos: vec![2],
    }
}

/// Specials, two byte tokens, letters and a few merges.
fn spm() -> Tokenizer {
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    tokens.extend(bytes.iter().map(String::as_str));
    tokens.extend(["\u{2581}", "a", "b", "ab", "\u{2581}ab", "ba", "<user>"]);
    let mut types = vec![2, 3, 3];
    types.extend([6; 256]);
    types.extend([1, 1, 1, 1, 1, 1, 4]);
    let mut scores = vec![0.0; 259];
    scores.extend([-9.0, -9.0, -9.0, -1.0, -2.0, -0.5, 0.0]);
    let metadata = Writer::new()
        .strings("tokenizer.ggml.tokens", &tokens)
        .floats("tokenizer.ggml.scores", &scores)
        .ints("tokenizer.ggml.token_type", &types)
        .metadata();
    super::spm::open(&metadata, special()).expect("a good vocabulary")
}

#[test]
fn the_highest_score_merges_first() {
    let spm = spm();
    // "▁abab": "ba" (-0.5) first, then nothing joins "▁", "a", "ba", "b".
    assert_eq!(
        spm.encode("abab", true).expect("encodes"),
        [1, 259, 260, 264, 261]
    );
    assert_eq!(spm.encode("ab", false).expect("encodes"), [263]);
    assert_eq!(spm.encode("", true).expect("encodes"), [1]);
}

#[test]
fn what_no_piece_has_becomes_bytes_and_comes_back() {
    let spm = spm();
    for text in [
        "ab é ba",
        "  a",
        "日本\n語",
        "<s> is no control token",
        "x<user>y",
    ] {
        let ids = spm.encode(text, false).expect("encodes");
        assert_eq!(spm.decode(&ids).expect("decodes"), text);
        assert!(!ids.contains(&1));
    }
    assert!(
        spm.encode("x<user>y", false)
            .expect("encodes")
            .contains(&265)
    );
}

#[test]
fn a_stream_never_cuts_a_character() {
    let spm = spm();
    let text = "a 日本 é";
    let mut stream = spm.stream(true);
    let mut whole = String::new();
    for id in spm.encode(text, true).expect("encodes") {
        let piece = stream.push(id);
        assert!(!piece.contains(char::REPLACEMENT_CHARACTER));
        whole.push_str(&piece);
    }
    assert_eq!(whole + &stream.finish(), text);
    let mut stream = spm.stream(false);
    assert_eq!(stream.push(263), " ab");
    assert_eq!(stream.push(3 + 0xE6), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    // A token that pads the model's vocabulary.
    assert_eq!(stream.push(9999), "");
    assert!(spm.decode(&[9999]).is_err());
}

#[test]
fn a_megabyte_of_one_letter_is_quick() {
    let start = std::time::Instant::now();
    let ids = spm().encode(&"a".repeat(1 << 20), false).expect("encodes");
    assert_eq!(ids.len(), (1 << 20) + 1);
    assert!(start.elapsed().as_secs() < 10);
}

#[test]
fn broken_vocabularies_are_refused() {
    let open = |writer: Writer| super::spm::open(&writer.metadata(), special()).err();
    let tokens = |values: &[&str]| Writer::new().strings("tokenizer.ggml.tokens", values);
    for writer in [
        Writer::new(),
        tokens(&[]),
        tokens(&["a"]),
        tokens(&["a", "b"]).floats("tokenizer.ggml.scores", &[0.0]),
        tokens(&["a"]).floats("tokenizer.ggml.scores", &[f32::NAN]),
    ] {
        assert!(open(writer).is_some());
    }
    let all = byte_tokens(&["ab"]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let bpe = |pre: &str, merges: &[&str]| {
        let writer = tokens(&all)
            .strings("tokenizer.ggml.merges", merges)
            .string("tokenizer.ggml.pre", pre);
        super::bpe::open(&writer.metadata(), special())
    };
    assert!(bpe("qwen2", &["a b"]).is_ok());
    assert!(bpe("qwen2", &["a"]).is_err());
    assert!(bpe("qwen2", &["a c"]).is_err());
    assert!(bpe("qwen2", &["a bb"]).is_err());
    let few = tokens(&["a", "b"]).strings("tokenizer.ggml.merges", &[]);
    let few = few.string("tokenizer.ggml.pre", "qwen2").metadata();
    assert!(
        super::bpe::open(&few, special()).is_err(),
        "bytes without a token"
    );
    let unknown = bpe("some-new-thing", &["a b"]).err().expect("unknown");
    assert!(unknown.to_string().contains("some-new-thing"), "{unknown}");
    assert!(unknown.to_string().contains("llama-bpe"), "{unknown}");
}

/// One token for each byte, in order, and `more`.
fn byte_tokens(more: &[&str]) -> Vec<String> {
    let bytes = (0..=255).map(|byte| super::bpe::char_of(byte).to_string());
    bytes
        .chain(more.iter().map(|&token| token.to_owned()))
        .collect()
}

#[test]
fn byte_level_pieces_merge_and_come_back() {
    let tokens = byte_tokens(&["\u{120}a", "ab", "<|im_end|>"]);
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut types = vec![1; 258];
    types.push(3);
    let metadata = Writer::new()
        .strings("tokenizer.ggml.tokens", &tokens)
        .strings("tokenizer.ggml.merges", &["\u{120} a", "a b"])
        .ints("tokenizer.ggml.token_type", &types)
        .string("tokenizer.ggml.pre", "gpt-2")
        .metadata();
    let bpe = super::bpe::open(&metadata, special()).expect("a good vocabulary");
    let ids = bpe.encode("ab a", true).expect("encodes");
    assert_eq!(ids, [257, 256]);
    assert_eq!(bpe.decode(&ids).expect("decodes"), "ab a");
    let text = "<|im_end|> \u{e9}\u{65e5}";
    let ids = bpe.encode(text, false).expect("encodes");
    assert!(!ids.contains(&258), "text never becomes a control token");
    assert_eq!(bpe.decode(&ids).expect("decodes"), text);
    assert!(bpe.eos().contains(&258), "a well-known ending");
}
