//! Byte offsets of struct members, out of the running kernel's own type information.
//!
//! ```text
//! magic u16 | version u8 | flags u8 | header bytes u32 | types at, bytes | strings at, bytes
//! type: name u32 | info u32 (kind in bits 24-28, count in 0-15, bit 31) | size or type u32 | ...
//! ```
//!
//! Source: Linux, `Documentation/bpf/btf.rst`. Types count from 1.

use std::collections::HashMap;

const MAGIC: u32 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// Bytes behind the three words of a type: fixed, and per member. By kind, from 1.
const BEHIND: [(usize, usize); 19] = [
    (4, 0),
    (0, 0),
    (12, 0),
    (0, 12),
    (0, 12),
    (0, 8),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 8),
    (4, 0),
    (0, 12),
    (0, 0),
    (4, 0),
    (0, 0),
    (0, 12),
];

/// Anonymous structs inside structs, at most.
const NESTING_MAX: usize = 16;

/// Structs of a kernel by name.
#[derive(Debug)]
pub(crate) struct Structs<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Where each type stands; the first is type 1.
    types: Vec<usize>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Structs<'a> {
    /// Reads type information such as `/sys/kernel/btf/vmlinux`; `None` if it is none.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if word(bytes, 0)? & 0xffff != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let mut at = header.checked_add(word(bytes, 8)? as usize)?;
        let end = at.checked_add(word(bytes, 12)? as usize)?;
        let strings = header.checked_add(word(bytes, 16)? as usize)?;
        let mut structs = Self {
            bytes,
            strings,
            types: Vec::new(),
            by_name: HashMap::new(),
        };
        while at < end {
            let info = word(bytes, at + 4)?;
            let kind = kind(info);
            let (fixed, each) = BEHIND.get((kind as usize).checked_sub(1)?)?;
            if kind == STRUCT {
                let name = structs.name(word(bytes, at)?)?;
                structs.by_name.entry(name).or_insert(at);
            }
            structs.types.push(at);
            at += 12 + fixed + each * count(info);
        }
        Some(structs)
    }

    /// Offset of `member` in struct `name`, also where it stands in an anonymous part of it.
    pub(crate) fn offset(&self, name: &str, member: &str) -> Option<u32> {
        self.member(*self.by_name.get(name)?, member, 0)
    }

    fn member(&self, at: usize, wanted: &str, depth: usize) -> Option<u32> {
        if depth > NESTING_MAX {
            return None;
        }
        let info = word(self.bytes, at + 4)?;
        for index in 0..count(info) {
            let entry = at + 12 + 12 * index;
            let name = self.name(word(self.bytes, entry)?)?;
            let bits = word(self.bytes, entry + 8)?;
            // With bit 31 of `info` the high byte is the width of a bit field.
            let bits = if info >> 31 == 1 {
                bits & 0x00ff_ffff
            } else {
                bits
            };
            if name == wanted {
                return (bits % 8 == 0).then_some(bits / 8);
            }
            if name.is_empty() {
                let inner = self.type_at(word(self.bytes, entry + 4)?)?;
                if let Some(offset) = self.member(inner, wanted, depth + 1) {
                    return Some(bits / 8 + offset);
                }
            }
        }
        None
    }

    /// Where struct or union `id` stands.
    fn type_at(&self, id: u32) -> Option<usize> {
        let at = *self.types.get((id as usize).checked_sub(1)?)?;
        let kind = kind(word(self.bytes, at + 4)?);
        (kind == STRUCT || kind == UNION).then_some(at)
    }

    fn name(&self, at: u32) -> Option<&'a str> {
        let text = self.bytes.get(self.strings.checked_add(at as usize)?..)?;
        let end = text.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&text[..end]).ok()
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn count(info: u32) -> usize {
    (info & 0xffff) as usize
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct `a { int b; struct { int c; }; }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0a\0b\0c\0int\0";
        let types = [
            [7, 1 << 24, 4, 32].as_slice(),
            &[0, STRUCT << 24 | 1, 4, 5, 1, 0],
            &[1, STRUCT << 24 | 2, 8, 3, 1, 0, 0, 2, 32],
        ]
        .concat();
        let bytes = 4 * types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, bytes, bytes, strings.len() as u32];
        let words = header
            .iter()
            .chain(&types)
            .flat_map(|word| word.to_le_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn members_are_found_also_in_anonymous_parts() {
        let bytes = sample();
        let structs = Structs::parse(&bytes).expect("sound");
        assert_eq!(structs.offset("a", "b"), Some(0));
        assert_eq!(structs.offset("a", "c"), Some(4));
        assert_eq!(structs.offset("a", "d"), None);
        assert_eq!(structs.offset("x", "b"), None);
    }

    #[test]
    fn broken_information_is_no_panic() {
        let bytes = sample();
        for end in 0..bytes.len() {
            if let Some(structs) = Structs::parse(&bytes[..end]) {
                let _ = structs.offset("a", "c");
            }
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0xff;
            if let Some(structs) = Structs::parse(&broken) {
                let _ = structs.offset("a", "c");
            }
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: the kernel has no type information");
            return;
        };
        let structs = Structs::parse(&bytes).expect("the kernel's own");
        assert_eq!(structs.offset("list_head", "next"), Some(0));
        assert_eq!(structs.offset("list_head", "prev"), Some(8));
        assert!(structs.offset("mm_struct", "total_vm").is_some());
    }
}
