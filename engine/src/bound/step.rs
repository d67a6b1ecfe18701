//! The time of a decode step, from what it brings in and what it computes.
//!
//! What is known ahead comes while the step computes. Experts that are missed are known when their
//! router has spoken, or a little earlier, as a guess; while they come, others are computed.
//!
//! Bringing needs processors too: for checksums and completions, and for all that a memory node on
//! the same host does. What they and the kernels need together nothing hides.

/// Share of the time to compute, or to bring what is missed if that is less, which hides behind the
/// other. Of six sets of runs at half and at a quarter of a model it was 0.5 to 0.8
/// (`docs/PERFORMANCE.md`), and less on a machine that others used too.
const HIDDEN: f64 = 0.65;

/// Share of what a plain read of memory usually gives that a whole step reaches, its products and
/// what is between them, if no run has told. By weight type it was 0.9 to 1.0 in
/// `docs/PERFORMANCE.md`.
pub const REACHED_USUAL: f64 = 0.93;

/// Seconds of a step, each as if there were nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// Of what is known ahead, on its longest path.
    pub ahead: f64,
    /// Of experts that are missed.
    pub late: f64,
    pub computing: f64,
    /// Share of the host's processors that is busy while something comes.
    pub load: f64,
}

impl StepTime {
    /// With nothing hidden that is not known ahead.
    fn longest(self) -> f64 {
        self.ahead.max(self.computing) + self.late
    }

    /// With everything hidden.
    fn shortest(self) -> f64 {
        (self.ahead + self.late).max(self.computing)
    }

    /// It waits for what it brings in, not for memory.
    pub fn waits(self) -> bool {
        self.ahead + self.late > self.computing
    }

    /// What a step takes.
    pub fn seconds(self) -> f64 {
        let hiding = self.longest() - HIDDEN * (self.longest() - self.shortest());
        hiding.max(self.processors())
    }

    /// Of all processors, each of which computes.
    fn processors(self) -> f64 {
        self.load * (self.ahead + self.late) + self.computing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_ahead_hides_and_what_is_late_does_in_part() {
        let step = StepTime {
            ahead: 1.0,
            late: 4.0,
            computing: 3.0,
            load: 0.0,
        };
        // 7 s if nothing hid, 5 s if all did.
        assert!((step.seconds() - (7.0 - 2.0 * HIDDEN)).abs() < 1e-12);
        assert!(step.waits());
        let dense = StepTime { late: 0.0, ..step };
        assert!(!dense.waits());
        assert!((dense.seconds() - 3.0).abs() < 1e-12);
        let streamed = StepTime {
            ahead: 9.0,
            ..dense
        };
        assert!((streamed.seconds() - 9.0).abs() < 1e-12);
        // Where bringing takes a quarter of the processors there is room for the kernels, where it
        // takes all of them there is none.
        let light = StepTime {
            load: 0.25,
            ..streamed
        };
        assert!((light.seconds() - 9.0).abs() < 1e-12);
        let heavy = StepTime {
            load: 1.0,
            ..streamed
        };
        assert!((heavy.seconds() - 12.0).abs() < 1e-12);
    }
}
