//! The connection of a driver: up, down, and up again.
//!
//! A reader owns nothing at its node, so its connection is cut as soon as the node is suspect: that
//! gives the memory of its reads back at once, and they go elsewhere. It dials again when the node
//! is alive. A writer's connection owns what it wrote: it is waited for until the node is gone, and
//! dials again only for the next life of what is lent.

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::remote::dial::{DIAL_FIRST_NS, DIAL_MOST_NS, Dial};
use crate::remote::health::{Health, Standing};
use larder_sys::io::Errno;
use larder_sys::net::local::NAME as LOCAL;
use larder_sys::net::{Channel, Event, Message, Targets};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Tries to reach a node that answers others, before this connection counts as lost; some ten
/// seconds.
const TRIES: u32 = 9;

/// Windows of a connection within this host, where the sender does not touch the bytes. Measured:
/// four bring a tenth more than one.
const LOCAL_WINDOWS: usize = 4;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    /// What it wrote at the node goes with it.
    Writer,
}

/// Ends a wait of the driver, whichever channel it has.
#[derive(Default)]
struct Bell {
    inner: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    channel: Option<Waker>,
    is_rung: bool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut inner = self.inner.lock();
        if let Some(waker) = &inner.channel {
            waker.wake_by_ref();
        } else {
            inner.is_rung = true;
            self.rung.notify_one();
        }
    }
}

/// See the module.
pub(super) struct Line {
    channel: Option<Box<dyn Channel>>,
    is_up: bool,
    role: Role,
    dial: Arc<dyn Dial>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    /// Life of the node in which it was dialled.
    life: u64,
    bell: Arc<Bell>,
}

impl Line {
    pub(super) fn new(
        channel: Option<Box<dyn Channel>>,
        role: Role,
        (dial, health, clock): (Arc<dyn Dial>, Arc<Health>, Arc<dyn Clock>),
    ) -> Self {
        let bell = Arc::<Bell>::default();
        bell.inner.lock().channel = channel.as_ref().map(|channel| channel.waker());
        health.on_change(Waker::from(Arc::clone(&bell)));
        Self {
            is_up: channel.is_some(),
            channel,
            role,
            backoff: Backoff::new(DIAL_FIRST_NS, DIAL_MOST_NS, dial.seed()),
            dial,
            life: health.life(),
            health,
            clock,
            bell,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.is_up
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    /// `bytes` of a window; more where pages are not copied on the way, so no cache has to hold
    /// them.
    pub(super) fn window(&self, bytes: usize) -> usize {
        if self.channel_name() == Some(LOCAL) {
            bytes * LOCAL_WINDOWS
        } else {
            bytes
        }
    }

    fn channel_name(&self) -> Option<&'static str> {
        self.channel.as_ref().map(|channel| channel.name())
    }

    pub(super) fn name(&self) -> &'static str {
        match self.channel_name() {
            Some("io_uring") => "tcp on io_uring",
            Some(LOCAL) => LOCAL,
            Some(_) => "tcp on socket threads",
            None => "tcp, not connected yet",
        }
    }

    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    pub(super) fn send(&mut self, tag: u64, message: Message) {
        self.channel.as_mut().expect("up").send(tag, message);
    }

    pub(super) fn receive(&mut self, targets: Targets) {
        self.channel.as_mut().expect("up").receive(targets);
    }

    pub(super) fn flush(&mut self) {
        if let Some(channel) = self.channel.as_mut() {
            channel.flush();
        }
    }

    pub(super) fn reap(&mut self, events: &mut Vec<Event>, wait: Duration) {
        if let Some(channel) = self.channel.as_mut() {
            return channel.reap(events, wait);
        }
        let mut inner = self.bell.inner.lock();
        if !inner.is_rung && !wait.is_zero() {
            self.bell.rung.wait_for(&mut inner, wait);
        }
        inner.is_rung = false;
    }

    /// The connection is not used any more; what is under way comes back with errors.
    pub(super) fn cut(&mut self) {
        self.is_up = false;
        if let Some(channel) = self.channel.as_mut() {
            channel.shut();
        }
    }

    /// The standing of the node asks for the connection to be cut. `is_busy`: somebody waits for
    /// what it brings.
    pub(super) fn must_cut(&self, is_busy: bool) -> bool {
        if !self.is_up || !self.health.is_watched() {
            return false;
        }
        match self.health.standing() {
            Standing::Gone => true,
            Standing::Suspect => self.role == Role::Reader && is_busy,
            Standing::Alive => self.life != self.health.life(),
        }
    }

    /// Why operations fail while the connection is down: the node may be back in a moment, or
    /// they are `lost`.
    pub(super) fn errno(&self, lost: Errno) -> Errno {
        let is_gone = self.health.standing() == Standing::Gone;
        let is_shut_out = self.backoff.failures() >= TRIES;
        if is_gone || is_shut_out || self.role == Role::Writer || !self.health.is_watched() {
            lost
        } else {
            Errno::ETIMEDOUT
        }
    }

    /// Dials again, if it is worth a try; nothing is under way.
    pub(super) fn redial(&mut self) -> bool {
        let may = self.health.is_watched() && self.health.standing() == Standing::Alive;
        if !may || self.backoff.wait_ns(self.clock.now()) > 0 {
            return false;
        }
        let life = self.health.life();
        let Ok(dialled) = self.dial.dial() else {
            self.backoff.failed(self.clock.now());
            return false;
        };
        self.backoff.succeeded();
        self.bell.inner.lock().channel = Some(dialled.channel.waker());
        self.channel = Some(dialled.channel);
        (self.is_up, self.life) = (true, life);
        true
    }
}
