//! The pulse of a node: what its silence means. It is asked whether it is there, one question at a
//! time, and this counts how long it owes an answer. A state machine over a clock.

use crate::units::Nanos;
use std::time::Duration;

/// Time between two questions.
const EVERY_NS: u64 = 150_000_000;
/// Silence that makes a node suspect. A packet that TCP lost once each way is there by then, and
/// question before it adds at most [`EVERY_NS`]: a node that stops is suspect within a second.
const SUSPECT_NS: u64 = 550_000_000;
/// Time between two looks that counts at most: if there is more we did not run ourselves, or the
/// clock jumped, and the node had no chance to be heard.
const LOOK_NS: u64 = 1_000_000_000;
/// Longest sleep between two looks.
const WAIT_NS: u64 = 150_000_000;

/// What the silence of a node means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Alive,
    /// It owes an answer: nothing new is given to it, reads go elsewhere.
    Suspect,
    /// It has been silent for as long as it keeps what it lends.
    Expired,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Pulse {
    lease_ns: u64,
    /// The question that waits for its answer was put then.
    asked_at: Option<Nanos>,
    next_at: Nanos,
    looked_at: Nanos,
    silent_ns: u64,
}

impl Pulse {
    /// The pulse of a node that was heard just now, and keeps what it lends for `lease`.
    pub const fn new(now: Nanos, lease: Duration) -> Self {
        Self {
            lease_ns: lease.as_nanos() as u64,
            asked_at: None,
            next_at: now,
            looked_at: now,
            silent_ns: 0,
        }
    }

    /// It is time to ask.
    pub fn is_due(&self, now: Nanos) -> bool {
        self.asked_at.is_none() && now >= self.next_at
    }

    /// The node was asked.
    pub fn asked(&mut self, now: Nanos) {
        self.asked_at = Some(now);
        self.next_at = Nanos::new(now.get() + EVERY_NS);
        self.looked_at = now;
        self.silent_ns = 0;
    }

    /// The node has answered.
    pub fn heard(&mut self, now: Nanos) {
        self.asked_at = None;
        self.silent_ns = 0;
        self.looked_at = now;
    }

    /// The node owes an answer.
    pub const fn is_waiting(&self) -> bool {
        self.asked_at.is_some()
    }

    /// Counts the silence up to `now`.
    pub fn look(&mut self, now: Nanos) -> Sign {
        let passed = now.since(self.looked_at);
        self.looked_at = now;
        if self.asked_at.is_some() {
            self.silent_ns += passed.min(LOOK_NS);
        }
        if self.silent_ns >= self.lease_ns {
            Sign::Expired
        } else if self.silent_ns >= SUSPECT_NS {
            Sign::Suspect
        } else {
            Sign::Alive
        }
    }

    /// Longest sleep until there is something to ask or to say.
    pub fn wait(&self, now: Nanos) -> Duration {
        let left = if self.asked_at.is_none() {
            self.next_at.get().saturating_sub(now.get())
        } else if self.silent_ns < SUSPECT_NS {
            SUSPECT_NS - self.silent_ns
        } else {
            WAIT_NS
        };
        Duration::from_nanos(left.clamp(1, WAIT_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SplitMix;

    const MS: u64 = 1_000_000;
    const LEASE: Duration = Duration::from_secs(30);

    /// Runs a pulse against a node that answers as `answer` says (nanoseconds until the answer to
    /// a question put at that time), until `end`; what it said, with the time of each change.
    fn run(end: u64, mut answer: impl FnMut(u64) -> u64) -> Vec<(u64, Sign)> {
        let mut pulse = Pulse::new(Nanos::new(0), LEASE);
        let (mut now, mut due, mut said) = (0, u64::MAX, vec![(0, Sign::Alive)]);
        while now < end {
            let at = Nanos::new(now);
            if due <= now {
                pulse.heard(at);
                due = u64::MAX;
            }
            if pulse.is_due(at) {
                pulse.asked(at);
                due = now.saturating_add(answer(now));
            }
            let sign = pulse.look(at);
            if said.last().is_some_and(|last| last.1 != sign) {
                said.push((now, sign));
            }
            now = due.min(now + pulse.wait(at).as_nanos() as u64);
        }
        said
    }

    /// Milliseconds by which TCP is late when it loses one packet in ten.
    fn late(random: &mut SplitMix) -> u64 {
        let mut late = 0;
        let mut timeout = 200;
        while random.chance(0.1) {
            late += timeout;
            timeout *= 2;
        }
        late * MS
    }

    /// Pauses of five seconds and one packet in ten lost: nobody is excluded, and whoever pauses
    /// is suspect within a second.
    #[test]
    fn pauses_and_loss_exclude_nobody() {
        let (mut delays, mut alarms, mut asked) = (Vec::new(), 0, 0);
        for seed in 0..1000 {
            let mut random = SplitMix(seed);
            let from = 2_000 * MS + random.next_u64() % (1_000 * MS);
            let until = from + 5_000 * MS;
            let said = run(15_000 * MS, |at| {
                asked += 1;
                let there = at + late(&mut random) + MS / 10;
                let there = if (from..until).contains(&there) {
                    until
                } else {
                    there
                };
                there + late(&mut random) + MS / 10 - at
            });
            assert!(
                said.iter().all(|&(_, sign)| sign != Sign::Expired),
                "{seed}: {said:?}"
            );
            let back = |&(at, sign): &(u64, Sign)| at >= until && sign == Sign::Alive;
            assert!(said.iter().any(back), "{seed}: {said:?}");
            let suspected = said.iter().filter(|(_, sign)| *sign == Sign::Suspect);
            let (in_pause, before): (Vec<u64>, Vec<u64>) = suspected
                .map(|said| said.0)
                .partition(|at| (from..until).contains(at));
            alarms += before.len();
            // What was suspect when the pause began needs no detection.
            delays.extend(in_pause.first().map(|at| at - from));
        }
        delays.sort_unstable();
        let p99 = delays[delays.len() * 99 / 100];
        println!(
            "{} pauses seen, p99 after {} ms; {alarms} alarms without one in {asked} questions",
            delays.len(),
            p99 / MS
        );
        assert!(delays.len() > 950 && p99 <= 1_000 * MS, "{} ms", p99 / MS);
        assert!(
            alarms * 30 < asked,
            "{alarms} false alarms in {asked} questions"
        );
    }

    #[test]
    fn a_node_that_stays_silent_is_excluded_when_its_lease_ends() {
        let said = run(40_000 * MS, |_| u64::MAX);
        let signs: Vec<Sign> = said.iter().map(|said| said.1).collect();
        assert_eq!(signs, [Sign::Alive, Sign::Suspect, Sign::Expired]);
        assert!((30_000 * MS..31_000 * MS).contains(&said[2].0), "{said:?}");
    }

    #[test]
    fn time_in_which_we_did_not_run_is_not_the_silence_of_the_node() {
        let mut pulse = Pulse::new(Nanos::new(0), LEASE);
        pulse.asked(Nanos::new(0));
        assert_eq!(pulse.look(Nanos::new(100 * MS)), Sign::Alive);
        // The host slept for an hour.
        assert_eq!(pulse.look(Nanos::new(3_600_000 * MS)), Sign::Suspect);
        pulse.heard(Nanos::new(3_600_000 * MS));
        // A clock that goes back counts nothing.
        assert_eq!(pulse.look(Nanos::new(50 * MS)), Sign::Alive);
    }
}
