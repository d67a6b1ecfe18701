//! Turns: how parts that have a thread each in the product share one thread in simulation.
//!
//! An actor does what it can now and comes back; who has to wait lets the others go on instead of
//! sleeping. Who is next, and when time moves, is up to the [`Turns`].

use std::time::Duration;

/// A part that does what it can without waiting.
pub trait Actor: Send {
    /// Takes one turn; `false` once it has ended: then it is dropped.
    fn turn(&mut self) -> bool;
}

/// Gives the turns.
pub trait Turns: Send + Sync {
    /// Takes an actor in; its first turn is due now.
    fn join(&self, actor: Box<dyn Actor>);

    /// Lets an actor that is due take its turn; moves time on if none is. Whoever would sleep
    /// calls this in a loop, and never an actor.
    fn pass(&self);

    /// Gives turns for as long as `time`.
    fn rest(&self, time: Duration);
}
