//! The linker of the probes. With fat link-time optimisation there is nothing to link: one object
//! comes in, and goes out fit for the kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf::{SHT_STRTAB, STT_FILE};

use super::{btf_names, target};

/// Whether rustc started this program to link: the target's specification puts a mark among the
/// arguments.
pub(crate) fn is_linker(arguments: &[String]) -> bool {
    arguments
        .iter()
        .any(|argument| argument == target::LINK_MARK)
}

pub(crate) fn link(arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.iter();
    let mut out = None;
    let mut objects = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "-o" {
            out = arguments.next().map(PathBuf::from);
        } else if Path::new(argument)
            .extension()
            .is_some_and(|kind| kind == "o")
        {
            objects.push(PathBuf::from(argument));
        }
    }
    let (Some(out), [object]) = (out, objects.as_slice()) else {
        bail!("{} objects to link and not one, or no -o", objects.len());
    };
    let elf = std::fs::read(object).with_context(|| format!("read {}", object.display()))?;
    let finished = finish(&elf).with_context(|| format!("finish {}", object.display()))?;
    std::fs::write(&out, finished).with_context(|| format!("write {}", out.display()))
}

/// Cleans the BTF and drops the debug sections.
fn finish(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(elf).context("read the object")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.delete = true;
        } else if name == b".BTF" {
            let SectionData::Data(data) = &section.data else {
                bail!(".BTF holds no data");
            };
            let mut btf = data.as_slice().to_vec();
            btf_names::clean(&mut btf).context("clean .BTF")?;
            section.data = SectionData::Data(btf.into());
        }
    }
    for symbol in &mut builder.symbols {
        // The name of the file that rustc made up holds a hash of where the sources lie.
        symbol.delete = symbol.st_type() == STT_FILE;
        symbol.name = without_crate_hashes(symbol.name.as_slice()).into();
    }
    // LLVM keeps the names of sections among those of symbols; the writer wants their own table.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    builder.delete_orphans();
    let mut finished = Vec::new();
    builder.write(&mut finished).context("write the object")?;
    Ok(finished)
}

/// A mangled name without the hashes of crates, which differ with the place of the sources:
/// `_RNvCs6ENejxZ6XyW_1a1b` becomes `_RNvC1a1b`. Other names stay.
///
/// Source: Rust RFC 2603, "disambiguator".
fn without_crate_hashes(name: &[u8]) -> Vec<u8> {
    let mut rest = name;
    let mut short = Vec::new();
    while let Some((first, behind)) = rest.split_first() {
        short.push(*first);
        rest = behind;
        let hash = rest
            .strip_prefix(b"s")
            .filter(|_| *first == b'C' && name.starts_with(b"_R"));
        let end = hash.and_then(|hash| hash.iter().position(|byte| *byte == b'_'));
        if let (Some(hash), Some(end)) = (hash, end) {
            rest = &hash[end + 1..];
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_differs_between_machines() {
        let short = |name: &str| {
            String::from_utf8(without_crate_hashes(name.as_bytes())).expect("made of text")
        };
        assert_eq!(short("_RNvNtCs6ENejxZ6XyW_1a1b1c"), "_RNvNtC1a1b1c");
        assert_eq!(short("_RNvCsa_1aNvCsb_1b"), "_RNvC1aNvC1b");
        assert_eq!(short("larder_Cs_x"), "larder_Cs_x");
        assert_eq!(short(""), "");
    }
}
