//! A channel served by a reader and a writer thread, where io_uring is refused.

use super::{Channel, Event, Message, Targets};
use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

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
pub struct ThreadChannel {
    shared: Arc<Shared>,
    stream: Arc<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl ThreadChannel {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        let mut channel = Self {
            shared: Arc::new(Shared::default()),
            stream: Arc::new(stream),
            threads: Vec::new(),
        };
        for (name, serve) in [
            ("larder-send", send_all as fn(&Shared, &TcpStream)),
            ("larder-receive", receive_all),
        ] {
            let (shared, stream) = (Arc::clone(&channel.shared), Arc::clone(&channel.stream));
            let builder = std::thread::Builder::new().name(name.to_owned());
            let thread = builder.spawn(move || serve(&shared, &stream))?;
            channel.threads.push(thread);
        }
        Ok(channel)
    }
}

/// The first cause of failure is kept; the socket is shut so that the other thread notices.
fn settle(shared: &Shared, stream: &TcpStream, result: io::Result<()>) -> Result<(), Errno> {
    let Err(error) = result else { return Ok(()) };
    let errno = error
        .raw_os_error()
        .map_or(Errno::ECONNRESET, Errno::from_raw);
    let _ = stream.shutdown(Shutdown::Both);
    Err(*shared.state.lock().failed.get_or_insert(errno))
}

fn send_all(shared: &Shared, stream: &TcpStream) {
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
            let mut stream = stream;
            let sent = message
                .iter()
                .try_for_each(|part| stream.write_all(part.bytes()));
            settle(shared, stream, sent)
        };
        drop(message);
        state = shared.state.lock();
        state.events.push(Event::Sent { tag, outcome });
        shared.news.notify_one();
    }
}

fn receive_all(shared: &Shared, stream: &TcpStream) {
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
            let mut stream = stream;
            let received = targets
                .iter_mut()
                .try_for_each(|target| stream.read_exact(target.bytes_mut()));
            settle(shared, stream, received)
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
        self.shared.state.lock().sends.push_back((tag, message));
        self.shared.work.notify_all();
    }

    fn receive(&mut self, targets: Targets) {
        self.shared.state.lock().receives.push_back(targets);
        self.shared.work.notify_all();
    }

    /// Queueing has started it.
    fn flush(&mut self) {}

    fn reap(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let mut state = self.shared.state.lock();
        if state.events.is_empty() && !state.woken && !wait.is_zero() {
            let _ = self.shared.news.wait_for(&mut state, wait);
        }
        state.woken = false;
        events.append(&mut state.events);
    }

    fn shut(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
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

impl Drop for ThreadChannel {
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
