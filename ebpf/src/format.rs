//! Classic tracepoints: their numbers and where fields stand in their records.

use std::path::{Path, PathBuf};

/// Where the tracing file system is mounted, the usual place first.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A mounted tracing file system.
#[derive(Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
}

impl Tracefs {
    /// `None` if it is mounted nowhere, or may not be read.
    pub(crate) fn find() -> Option<Self> {
        let places = PLACES.iter().map(Path::new);
        let mut mounted = places.filter(|place| place.join("events").is_dir());
        mounted.next().map(|root| Self {
            root: root.to_path_buf(),
        })
    }

    /// Number of `category:name`; `None` if the kernel has no such tracepoint.
    pub(crate) fn id(&self, category: &str, name: &str) -> Option<u64> {
        self.read(category, name, "id")?.trim().parse().ok()
    }

    /// Offset of `field` in the record of `category:name`.
    pub(crate) fn offset(&self, category: &str, name: &str, field: &str) -> Option<u32> {
        offset(&self.read(category, name, "format")?, field)
    }

    fn read(&self, category: &str, name: &str, file: &str) -> Option<String> {
        let path = self
            .root
            .join("events")
            .join(category)
            .join(name)
            .join(file);
        std::fs::read_to_string(path).ok()
    }
}

/// Offset of `wanted` by a file `format`: `field:unsigned long address;  offset:8;  size:8; ...`.
fn offset(format: &str, wanted: &str) -> Option<u32> {
    let mut fields = format.lines().filter_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?;
        let name = declaration.rsplit([' ', '*']).next()?;
        let name = name.split('[').next()?;
        let offset = parts.next()?.strip_prefix("offset:")?;
        (name == wanted).then(|| offset.parse().ok())
    });
    fields.next().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let format = "name: x\nID: 7\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:unsigned long address;\toffset:8;\tsize:8;\tsigned:0;\n\
            \tfield:char rwbs[10];\toffset:16;\tsize:10;\tsigned:0;\n\
            \tfield:void *rq;\toffset:32;\tsize:8;\tsigned:0;\n\
            print fmt: \"address\"\n";
        assert_eq!(offset(format, "address"), Some(8));
        assert_eq!(offset(format, "rwbs"), Some(16));
        assert_eq!(offset(format, "rq"), Some(32));
        assert_eq!(offset(format, "missing"), None);
        assert_eq!(offset("field:;", "x"), None);
    }
}
