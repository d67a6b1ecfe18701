//! The linker of the probes. With fat link-time optimisation there is nothing to link: one object
//! comes in, and goes out fit for the kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
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
        // The name of the file that rustc made up holds a hash of where the sources lie, and so
        // does every name that it mangled.
        symbol.delete = symbol.st_type() == STT_FILE;
        let name = String::from_utf8_lossy(symbol.name.as_slice()).into_owned();
        ensure!(
            !name.starts_with("_R"),
            "{name} differs from machine to machine: no_mangle it"
        );
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
