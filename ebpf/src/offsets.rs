//! The offsets that programs are loaded with, and which programs must do without.

use std::collections::HashMap;

use larder_abi::{Offsets, Plain};

use crate::btf::Structs;
use crate::format::Tracefs;
use crate::probe::{Hook, Need, PROBES, Part};

/// Bytes of the read-only variable `OFFSETS` of the object.
pub(crate) type OffsetBytes = [u8; <Offsets as Plain>::BYTES];

/// What this kernel tells.
#[derive(Debug)]
pub(crate) struct Found {
    offsets: Offsets,
    /// Programs that lack an offset, with the reason.
    missing: HashMap<&'static str, String>,
}

impl Found {
    /// Asks the kernel's type information and tracing file system, as far as they are there.
    pub(crate) fn ask(structs: Option<&Structs>, tracefs: Option<&Tracefs>) -> Self {
        let mut found = Self {
            offsets: Offsets::default(),
            missing: HashMap::new(),
        };
        for part in PROBES
            .iter()
            .flat_map(|probe| probe.forms.iter().copied().flatten())
        {
            for need in part.needs {
                match resolve(part, need, structs, tracefs) {
                    Ok(offset) => *(need.place)(&mut found.offsets) = offset,
                    Err(reason) => {
                        found.missing.entry(part.program).or_insert(reason);
                    }
                }
            }
        }
        found
    }

    /// Why `program` cannot be loaded, if so.
    pub(crate) fn missing(&self, program: &str) -> Option<&str> {
        self.missing.get(program).map(String::as_str)
    }

    pub(crate) fn bytes(&self) -> OffsetBytes {
        let mut bytes = [0; <Offsets as Plain>::BYTES];
        self.offsets.put(&mut bytes);
        bytes
    }
}

fn resolve(
    part: &Part,
    need: &Need,
    structs: Option<&Structs>,
    tracefs: Option<&Tracefs>,
) -> Result<u32, String> {
    if let Hook::Record(category, name) = part.hook {
        let tracefs = tracefs.ok_or_else(no_tracefs)?;
        let fields = need.path.iter();
        let offsets = fields.map(|(_, field)| {
            let offset = tracefs.offset(category, name, field);
            offset.ok_or_else(|| no_field(tracefs, category, name, field))
        });
        return offsets.sum();
    }
    let structs = structs.ok_or_else(no_btf)?;
    let members = need.path.iter();
    let offsets = members.map(|(structure, member)| {
        let offset = structs.offset(structure, member);
        offset.ok_or_else(|| format!("the kernel has no {structure}.{member}"))
    });
    offsets.sum()
}

fn no_field(tracefs: &Tracefs, category: &str, name: &str, field: &str) -> String {
    match tracefs.id(category, name) {
        Some(_) => format!("{category}:{name} has no field {field}"),
        None => no_tracepoint(category, name),
    }
}

pub(crate) fn no_tracepoint(category: &str, name: &str) -> String {
    format!("the kernel has no tracepoint {category}:{name}")
}

pub(crate) fn no_tracefs() -> String {
    "no tracing file system: run `mount -t tracefs tracefs /sys/kernel/tracing`".to_owned()
}

pub(crate) fn no_btf() -> String {
    "the kernel has no type information (CONFIG_DEBUG_INFO_BTF)".to_owned()
}
