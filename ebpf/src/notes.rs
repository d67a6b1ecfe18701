//! Marks in a binary, by the notes that it carries.
//!
//! ```text
//! note: name bytes u32 | desc bytes u32 | type u32 (3) | "stapsdt\0" | desc, both padded to 4
//! desc: address u64 | base u64 | semaphore u64 | provider\0 | name\0 | arguments\0
//! ```
//!
//! Source: SystemTap, "User Space Probe Implementation". Addresses are those of link time: if the
//! section `.stapsdt.base` has moved since, they have moved by as much.

use object::{Object, ObjectSection, ObjectSegment};

/// Offsets in the file of all marks `provider:name`.
pub(crate) fn marks(elf: &[u8], provider: &str, name: &str) -> Vec<u64> {
    let Ok(file) = object::File::parse(elf) else {
        return Vec::new();
    };
    let moved = file
        .section_by_name(".stapsdt.base")
        .map(|base| base.address());
    let notes = file
        .section_by_name(".note.stapsdt")
        .and_then(|notes| notes.data().ok());
    let mut rest = notes.unwrap_or_default();
    let mut found = Vec::new();
    while let Some((mark, behind)) = next(rest) {
        rest = behind;
        if mark.provider != provider.as_bytes() || mark.name != name.as_bytes() {
            continue;
        }
        let shift = moved.map_or(0, |base| base.wrapping_sub(mark.base));
        let address = mark.address.wrapping_add(shift);
        found.extend(file.segments().find_map(|segment| {
            let inside = address.checked_sub(segment.address())?;
            let (start, bytes) = segment.file_range();
            (inside < bytes).then(|| start + inside)
        }));
    }
    found
}

struct Mark<'a> {
    address: u64,
    base: u64,
    provider: &'a [u8],
    name: &'a [u8],
}

/// The first note and what stands behind it; a note of another form is an empty mark.
fn next(notes: &[u8]) -> Option<(Mark<'_>, &[u8])> {
    let name_bytes = padded(number(notes, 0, 4)?)?;
    let desc_bytes = number(notes, 4, 4)? as usize;
    let desc_at = 12usize.checked_add(name_bytes)?;
    let desc = notes.get(desc_at..desc_at.checked_add(desc_bytes)?)?;
    let behind = desc_at.checked_add(padded(desc_bytes as u64)?)?;
    let texts = desc.get(24..).unwrap_or_default();
    let mut texts = texts.split(|byte| *byte == 0);
    let mark = Mark {
        address: number(desc, 0, 8).unwrap_or_default(),
        base: number(desc, 8, 8).unwrap_or_default(),
        provider: texts.next().unwrap_or_default(),
        name: texts.next().unwrap_or_default(),
    };
    Some((mark, notes.get(behind..).unwrap_or_default()))
}

fn padded(bytes: u64) -> Option<usize> {
    usize::try_from(bytes).ok()?.checked_next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_one_after_the_other() {
        let mut notes = Vec::new();
        for (address, name) in [(1u64, "one"), (2, "two")] {
            let mut desc = Vec::new();
            for word in [address, 3, 0] {
                desc.extend(word.to_le_bytes());
            }
            desc.extend(format!("larder\0{name}\0\0").as_bytes());
            for word in [8, desc.len() as u32, 3] {
                notes.extend(word.to_le_bytes());
            }
            notes.extend(b"stapsdt\0");
            notes.extend(&desc);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        let (one, rest) = next(&notes).expect("a note");
        assert_eq!((one.address, one.base, one.name), (1, 3, &b"one"[..]));
        let (two, rest) = next(rest).expect("a note");
        assert_eq!((two.address, two.provider), (2, &b"larder"[..]));
        assert!(next(rest).is_none());
        for end in 0..notes.len() {
            let _ = next(&notes[..end]);
        }
    }

    #[test]
    fn our_own_mark_is_in_this_binary() {
        larder_sys::usdt::block_touch(0, 0, 0);
        let own = std::fs::read("/proc/self/exe").expect("the own binary");
        if cfg!(target_arch = "x86_64") {
            assert_eq!(marks(&own, "larder", "block_touch").len(), 1);
        }
        assert_eq!(marks(&own, "larder", "other"), [0; 0]);
        assert_eq!(marks(b"no elf", "larder", "block_touch"), [0; 0]);
    }
}
