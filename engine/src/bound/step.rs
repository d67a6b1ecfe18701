//! The time of a decode step, from what it brings in and what it computes.
//!
//! What is known ahead comes while the step computes. Experts that are missed are known when their
//! router has spoken, or a little earlier, as a guess; while they come, others are computed. How
//! much of the one hides behind the other is the share that is called hidden here: none of it if
//! they come one after the other, all of it if the longer one alone counts.

/// Times too close to tell how much is hidden: apart by less than this share of the step.
const APART: f64 = 0.05;

/// Seconds of a step, each as if there were nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// Of what is known ahead, on its longest path.
    pub ahead: f64,
    /// Of experts that are missed.
    pub late: f64,
    pub computing: f64,
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

    /// With this share hidden.
    pub fn seconds(self, hidden: f64) -> f64 {
        self.longest() - hidden * (self.longest() - self.shortest())
    }

    /// The share that was hidden in a step of `seconds`; `None` if it makes no difference.
    pub fn hidden(self, seconds: f64) -> Option<f64> {
        let most = self.longest() - self.shortest();
        let share = (self.longest() - seconds) / most;
        (most > APART * seconds).then_some(share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_hides_as_far_as_it_is_said_to() {
        let step = StepTime {
            ahead: 1.0,
            late: 4.0,
            computing: 3.0,
        };
        assert_eq!((step.seconds(0.0), step.seconds(1.0)), (7.0, 5.0));
        assert_eq!(step.hidden(step.seconds(0.25)), Some(0.25));
        assert_eq!((step.hidden(9.0), step.hidden(1.0)), (Some(0.0), Some(1.0)));
        let dense = StepTime { late: 0.0, ..step };
        assert_eq!((dense.seconds(0.0), dense.seconds(1.0)), (3.0, 3.0));
        assert_eq!(dense.hidden(3.0), None);
    }
}
