//! A channel served by a reader and a writer thread, where io_uring is refused.

use super::{Channel, Event, Message, Targets};
use crate::sync::{Condvar, JoinHandle, Mutex, spawn_named};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

/// A stream that two threads use at once, one per direction.
trait Socket: Send + Sync + 'static {
    /// Sends all of a message.
    fn send(&self, message: &Message) -> io::Result<()>;

    /// Receives every byte of the targets.
    fn receive(&self, targets: &mut Targets) -> io::Result<()>;

    /// Ends both directions, and what waits for them.
    fn shut(&self);
}

impl Socket for TcpStream {
    fn send(&self, message: &Message) -> io::Result<()> {
        let mut stream = self;
        message
            .iter()
            .try_for_each(|part| stream.write_all(part.bytes()))
    }

    fn receive(&self, targets: &mut Targets) -> io::Result<()> {
        let mut stream = self;
        targets
            .iter_mut()
            .try_for_each(|target| stream.read_exact(target.bytes_mut()))
    }

    fn shut(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// What the threads and the owner share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Queues>,
    /// Work has come, or the channel ends.
    work: Condvar,
    /// An event or a wake has come.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    sends: VecDeque<(u64, Message)>,
    receives: VecDeque<Targets>,
    events: Vec<Event>,
    woken: bool,
    ending: bool,
    /// Why the stream can no longer be used.
    failed: Option<Errno>,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.state.lock().woken = true;
        self.news.notify_one();
    }
}

/// See the module.
#[derive(Debug)]
pub struct ThreadChannel(Served<TcpStream>);

impl ThreadChannel {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self(Served::start(stream)?))
    }
}

/// A socket with its two threads.
#[derive(Debug)]
struct Served<S: Socket> {
    shared: Arc<Shared>,
    socket: Arc<S>,
    threads: Vec<JoinHandle<()>>,
}

impl<S: Socket> Served<S> {
    fn start(socket: S) -> io::Result<Self> {
        let mut served = Self {
            shared: Arc::new(Shared::default()),
            socket: Arc::new(socket),
            threads: Vec::new(),
        };
        for (name, serve) in [
            ("larder-send", send_all as fn(&Shared, &S)),
            ("larder-receive", receive_all),
        ] {
            let (shared, socket) = (Arc::clone(&served.shared), Arc::clone(&served.socket));
            let thread = spawn_named(name, move || serve(&shared, &*socket))?;
            served.threads.push(thread);
        }
        Ok(served)
    }

    fn send(&self, tag: u64, message: Message) {
        self.shared.state.lock().sends.push_back((tag, message));
        self.shared.work.notify_all();
    }

    fn receive(&self, targets: Targets) {
        self.shared.state.lock().receives.push_back(targets);
        self.shared.work.notify_all();
    }

    fn reap(&self, events: &mut Vec<Event>, wait: Duration) {
        let mut state = self.shared.state.lock();
        if state.events.is_empty() && !state.woken && !wait.is_zero() {
            let _ = self.shared.news.wait_for(&mut state, wait);
        }
        state.woken = false;
        events.append(&mut state.events);
    }

    fn shut(&self) {
        self.socket.shut();
        self.shared
            .state
            .lock()
            .failed
            .get_or_insert(Errno::ECONNRESET);
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.shared))
    }
}

impl<S: Socket> Drop for Served<S> {
    /// Ends the threads; the shut socket ends what they wait for.
    fn drop(&mut self) {
        self.shut();
        self.shared.state.lock().ending = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The first cause of failure is kept; the socket is shut so that the other thread notices.
fn settle(shared: &Shared, socket: &impl Socket, result: io::Result<()>) -> Result<(), Errno> {
    let Err(error) = result else { return Ok(()) };
    let errno = error
        .raw_os_error()
        .map_or(Errno::ECONNRESET, Errno::from_raw);
    socket.shut();
    Err(*shared.state.lock().failed.get_or_insert(errno))
}

fn send_all<S: Socket>(shared: &Shared, socket: &S) {
    let mut state = shared.state.lock();
    loop {
        let Some((tag, message)) = state.sends.pop_front() else {
            if state.ending {
                return;
            }
            shared.work.wait(&mut state);
            continue;
        };
        let failed = state.failed;
        drop(state);
        let outcome = if let Some(errno) = failed {
            Err(errno)
        } else {
            settle(shared, socket, socket.send(&message))
        };
        drop(message);
        state = shared.state.lock();
        state.events.push(Event::Sent { tag, outcome });
        shared.news.notify_one();
    }
}

fn receive_all<S: Socket>(shared: &Shared, socket: &S) {
    let mut state = shared.state.lock();
    loop {
        let Some(mut targets) = state.receives.pop_front() else {
            if state.ending {
                return;
            }
            shared.work.wait(&mut state);
            continue;
        };
        let failed = state.failed;
        drop(state);
        let outcome = if let Some(errno) = failed {
            Err(errno)
        } else {
            settle(shared, socket, socket.receive(&mut targets))
        };
        state = shared.state.lock();
        state.events.push(Event::Received { targets, outcome });
        shared.news.notify_one();
    }
}

impl Channel for ThreadChannel {
    fn name(&self) -> &'static str {
        "socket threads"
    }

    fn send(&mut self, tag: u64, message: Message) {
        self.0.send(tag, message);
    }

    fn receive(&mut self, targets: Targets) {
        self.0.receive(targets);
    }

    /// Queueing has started it.
    fn flush(&mut self) {}

    fn reap(&mut self, events: &mut Vec<Event>, wait: Duration) {
        self.0.reap(events, wait);
    }

    fn shut(&mut self) {
        self.0.shut();
    }

    fn waker(&self) -> Waker {
        self.0.waker()
    }
}

#[cfg(all(test, feature = "explore"))]
mod explore;
