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
            start: Stat::of(pid).map_or(0, |stat| stat.start),
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

    /// Whether it can still count. A process that was killed stands in `/proc` until its parent
    /// has asked for it, which some never do.
    pub(crate) fn is_alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.start == self.start && !stat.has_ended)
    }
}

/// When process `pid` started, in clock ticks after boot, low half.
pub fn started(pid: u32) -> Option<u32> {
    Some(Stat::of(pid)?.start)
}

/// What `/proc/PID/stat` says.
struct Stat {
    /// When the process started, in clock ticks after boot, low half.
    start: u32,
    /// Its last thread has ended.
    has_ended: bool,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses that may hold anything.
        let behind_name = line.rsplit_once(')')?.1;
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        // Fields 3, 20 and 22 of proc(5). While threads remain, only the first one has ended.
        let (state, threads) = (*fields.first()?, fields.get(17)?);
        let ticks: u64 = fields.get(19)?.parse().ok()?;
        Some(Self {
            start: ticks as u32,
            has_ended: matches!(state, "Z" | "X") && matches!(*threads, "0" | "1"),
        })
    }
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

    #[test]
    fn a_process_that_nobody_asked_for_is_dead() {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("it starts");
        let pid = child.id();
        let start = Stat::of(pid).expect("it is there").start;
        let owner = Owner { pid, start };
        assert!(owner.is_alive());
        child.kill().expect("our child");
        let id = Id::Pid(nix::unistd::Pid::from_raw(pid as i32));
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(id, flags).expect("it ends");
        assert!(Stat::of(pid).is_some() && !owner.is_alive());
        child.wait().expect("our child");
        assert!(!owner.is_alive());
    }
}
