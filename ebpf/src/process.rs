//! Processes as owners: a number together with the time of the start, which is never used twice.

use std::fs;

/// A process, as it stands in `Region::owner_pid` and `owner_start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) start: u32,
}

impl Owner {
    /// The calling process.
    pub(crate) fn current() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start: started(pid).unwrap_or_default(),
        }
    }

    /// Process `pid`, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let start = started(pid)?;
        Some(Self { pid, start })
    }

    /// Whether processes have the numbers here that they have in the kernel. In a namespace below
    /// the first one they have others.
    pub(crate) fn are_numbers_global() -> bool {
        use std::os::unix::fs::MetadataExt;
        // `PROC_PID_INIT_INO`.
        const FIRST_NAMESPACE: u64 = 0xefff_fffc;
        fs::metadata("/proc/self/ns/pid").is_ok_and(|of| of.ino() == FIRST_NAMESPACE)
    }

    /// The pair as the first word of a region, `None` where nobody owns it.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let pid = word as u32;
        (pid != 0).then_some(Self {
            pid,
            start: (word >> 32) as u32,
        })
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.pid) | u64::from(self.start) << 32
    }

    pub(crate) fn is_alive(self) -> bool {
        started(self.pid) == Some(self.start)
    }
}

/// When process `pid` started, in clock ticks after boot, low half.
pub fn started(pid: u32) -> Option<u32> {
    // Field 22 of the line; the second one is a name in parentheses that may hold anything.
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind_name = line.rsplit_once(')')?.1;
    let ticks: u64 = behind_name.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_lives_and_others_of_its_number_do_not() {
        let own = Owner::current();
        assert!(own.is_alive());
        assert_eq!(Owner::from_word(own.word()), Some(own));
        let earlier = Owner {
            start: own.start.wrapping_sub(1),
            ..own
        };
        assert!(!earlier.is_alive());
        assert_eq!(Owner::from_word(7 << 32), None);
    }
}
