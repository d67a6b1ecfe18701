//! Names that the kernel takes as BTF. It wants C identifiers, and none at all on pointers, arrays
//! and the like; rustc writes `HashMap<a::B, 3>` and `*const T`. Lengths stay, so nothing moves.
//!
//! ```text
//! magic u16 | version u8 | flags u8 | header bytes u32 | types at, bytes | strings at, bytes
//! type: name u32 | info u32 (kind in bits 24-28, count in 0-15) | size or type u32 | by kind
//! ```
//!
//! Source: Linux, `Documentation/bpf/btf.rst`.

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u64 = 0xeb9f;

/// What comes behind the three words of a type, and what its name has to be.
struct Kind {
    fixed: usize,
    per_member: usize,
    name: Name,
}

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Absent,
    Identifier,
    Any,
}

/// Kinds by number, from 1.
const KINDS: [Kind; 19] = [
    kind(4, 0, Name::Identifier),  // int
    kind(0, 0, Name::Absent),      // pointer
    kind(12, 0, Name::Absent),     // array
    kind(0, 12, Name::Identifier), // struct
    kind(0, 12, Name::Identifier), // union
    kind(0, 8, Name::Identifier),  // enum
    kind(0, 0, Name::Identifier),  // forward
    kind(0, 0, Name::Identifier),  // typedef
    kind(0, 0, Name::Absent),      // volatile
    kind(0, 0, Name::Absent),      // const
    kind(0, 0, Name::Absent),      // restrict
    kind(0, 0, Name::Identifier),  // function
    kind(0, 8, Name::Absent),      // prototype
    kind(4, 0, Name::Any),         // variable
    kind(0, 12, Name::Any),        // section
    kind(0, 0, Name::Identifier),  // float
    kind(4, 0, Name::Any),         // declaration tag
    kind(0, 0, Name::Any),         // type tag
    kind(0, 12, Name::Identifier), // 64-bit enum
];

const fn kind(fixed: usize, per_member: usize, name: Name) -> Kind {
    Kind {
        fixed,
        per_member,
        name,
    }
}

/// Cleans the contents of a section `.BTF`.
pub(crate) fn clean(btf: &mut [u8]) -> Result<()> {
    ensure!(number(btf, 0, 2)? == MAGIC, "no BTF of this byte order");
    let header = number(btf, 4, 4)? as usize;
    let types = header + number(btf, 8, 4)? as usize;
    let end = types + number(btf, 12, 4)? as usize;
    let strings = header + number(btf, 16, 4)? as usize;
    let mut at = types;
    while at < end {
        let name = number(btf, at, 4)? as usize;
        let info = number(btf, at + 4, 4)?;
        let (number, members) = ((info >> 24 & 0x1f) as usize, (info & 0xffff) as usize);
        let Some(kind) = number.checked_sub(1).and_then(|index| KINDS.get(index)) else {
            bail!("type of unknown kind {number} at byte {at}");
        };
        match kind.name {
            Name::Absent => btf[at..at + 4].fill(0),
            Name::Identifier => clean_name(btf.get_mut(strings + name..).context("a name")?),
            Name::Any => {
                let text = btf.get(strings + name..).context("a name")?;
                ensure!(
                    !text.starts_with(b"_R"),
                    "a static with a mangled name, which differs between machines: no_mangle it"
                );
            }
        }
        at += 12 + kind.fixed + kind.per_member * members;
    }
    Ok(())
}

/// Replaces what no identifier may hold, up to the end of the string.
fn clean_name(text: &mut [u8]) {
    for byte in text.iter_mut().take_while(|byte| **byte != 0) {
        if !byte.is_ascii_alphanumeric() {
            *byte = b'_';
        }
    }
}

fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64> {
    let bytes = bytes
        .get(at..at + width)
        .context("the section ends early")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let bytes = 4 * types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, bytes, bytes, strings.len() as u32];
        let words = header
            .iter()
            .chain(types)
            .flat_map(|word| word.to_le_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn names_become_identifiers_and_pointers_lose_theirs() {
        // A struct `A<b>` of one member and a pointer `*const A` to it.
        let strings = b"\0A<b>\0*const A\0m\0";
        let mut btf = section(&[1, 4 << 24 | 1, 8, 15, 2, 0, 6, 2 << 24, 1], strings);
        clean(&mut btf).expect("sound BTF");
        let want = section(
            &[1, 4 << 24 | 1, 8, 15, 2, 0, 0, 2 << 24, 1],
            b"\0A_b_\0*const A\0m\0",
        );
        assert_eq!(btf, want);
    }

    #[test]
    fn broken_sections_are_refused() {
        let good = section(&[1, 4 << 24 | 1, 8, 3, 2, 0], b"\0A\0m\0");
        assert!(clean(&mut good.clone()).is_ok());
        assert!(clean(&mut good[..30].to_vec()).is_err());
        assert!(clean(&mut section(&[0, 25 << 24, 0], b"\0")).is_err());
        assert!(clean(&mut section(&[99, 1 << 24, 0, 0], b"\0")).is_err());
    }
}
