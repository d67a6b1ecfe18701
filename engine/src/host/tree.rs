//! The files in which the kernel describes a host.

use std::path::{Path, PathBuf};

/// `/proc` and `/sys` below a root: the machine's own, or one that a test made up.
#[derive(Clone, Debug)]
pub struct HostTree {
    root: PathBuf,
}

impl HostTree {
    /// The host that this process runs on.
    pub fn this() -> Self {
        Self::below("/")
    }

    /// The host described below `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where the absolute path `path` stands.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Text of a file without the white space around it; `None` if it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number that a file holds, decimal or after 0x.
    pub fn number(&self, path: &str) -> Option<u64> {
        let text = self.text(path)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// Names in a folder, in order; none if it cannot be read.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder));
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Last name of what a symbolic link points to.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        let name = Path::file_name(&target)?;
        Some(name.to_string_lossy().into_owned())
    }

    /// Bytes of a line `KEY   N kB` of a file.
    pub fn kib_line(&self, path: &str, key: &str) -> Option<u64> {
        let text = self.text(path)?;
        let line = text.lines().find_map(|line| {
            let (_, rest) = line.split_once(key)?;
            rest.strip_prefix(':')
        })?;
        let number: u64 = line.split_whitespace().next()?.parse().ok()?;
        number.checked_mul(1024)
    }
}

/// A made-up host for tests.
#[cfg(test)]
pub(super) mod made_up {
    use super::HostTree;

    /// A tree that holds `files`, each with its text.
    pub(in crate::host) fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostTree) {
        let folder = tempfile::tempdir().expect("temp folder");
        let tree = HostTree::below(folder.path());
        for (path, text) in files {
            let path = tree.path(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        (folder, tree)
    }

    #[test]
    fn files_are_read_as_what_they_hold() {
        let (_folder, tree) = host(&[
            ("/sys/a/size", "12\n"),
            ("/sys/a/vendor", "0x10de\n"),
            ("/proc/meminfo", "MemTotal:  4 kB\nMemFree: 2 kB\n"),
        ]);
        assert_eq!(tree.number("/sys/a/size"), Some(12));
        assert_eq!(tree.number("/sys/a/vendor"), Some(0x10de));
        assert_eq!(tree.number("/sys/b"), None);
        assert_eq!(tree.names("/sys/a"), ["size", "vendor"]);
        assert!(tree.names("/none").is_empty());
        assert_eq!(tree.kib_line("/proc/meminfo", "MemFree"), Some(2048));
        assert_eq!(tree.kib_line("/proc/meminfo", "Mem"), None);
        assert_eq!(tree.link_name("/sys/a"), None);
    }
}
