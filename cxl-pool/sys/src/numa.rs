//! Which CPUs the calling thread runs on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io;

/// CPUs that the calling thread may run on, in order.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let known = 0..CpuSet::count();
    Ok(known
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Keeps the calling thread on `cpus` from now on.
///
/// Errors: `EINVAL` if none of them exists, or the thread may run on none of them.
pub fn stay_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_told() {
        let all = allowed_cpus().expect("every thread runs somewhere");
        let last = *all.last().expect("at least one");
        let kept = std::thread::spawn(move || {
            stay_on(&[last]).expect("a CPU that it may have");
            allowed_cpus().expect("as above")
        });
        assert_eq!(kept.join().expect("no panic"), [last]);
        assert_eq!(allowed_cpus().expect("as above"), all);
        assert!(stay_on(&[]).is_err());
        assert!(stay_on(&[CpuSet::count()]).is_err());
    }
}
