//! Descriptors from one process of a host to another, and who is still at the other end.
//!
//! Life of a loan:
//! 1. Somebody connects to the lender and says what they come for.
//! 2. [`give`] sends them the descriptor, which [`take`] receives.
//! 3. The connection stays as it is, without a word, while they read; its end tells the lender.
//!
//! Source: unix(7), `SCM_RIGHTS`; poll(2).

use super::door::LocalListener;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Comes with a descriptor, because one cannot be sent alone.
const MARK: u8 = 1;

/// Sends a descriptor, without waiting.
pub fn give(stream: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let (parts, given) = ([IoSlice::new(&[MARK])], [descriptor.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&given)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &rights, flags, None)?;
    Ok(())
}

/// Waits for a descriptor, as long as the stream lets a read wait; `None` if the other end hangs
/// up.
pub fn take(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    loop {
        match take_once(stream) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            taken => return taken,
        }
    }
}

fn take_once(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let (mut mark, mut space) = ([0], nix::cmsg_space!(RawFd));
    let mut parts = [IoSliceMut::new(&mut mark)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let fd = stream.as_raw_fd();
    let received = recvmsg::<UnixAddr>(fd, &mut parts, Some(&mut space), flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut taken = None;
    for message in received.cmsgs()? {
        let ControlMessageOwned::ScmRights(descriptors) = message else {
            continue;
        };
        for descriptor in descriptors {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            taken = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    match taken {
        Some(descriptor) if mark == [MARK] => Ok(Some(descriptor)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What a wait found.
#[derive(Debug)]
pub struct News {
    /// Somebody waits to be accepted, or the listener was stopped.
    pub is_called: bool,
    /// For each stream in order: it can be read, or its other end is gone.
    pub streams: Vec<bool>,
}

/// What is waited for at a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Something to read, or the end of the other side.
    Word,
    /// The end of the other side alone, whatever it has said before.
    End,
}

/// Waits until somebody calls, or one of the streams gives its sign, at most `wait`.
pub fn wait<'a>(
    listener: &'a LocalListener,
    streams: impl Iterator<Item = (&'a UnixStream, Sign)>,
    wait: Duration,
) -> io::Result<News> {
    let mut polled = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    polled.extend(streams.map(|(stream, sign)| {
        let flags = match sign {
            Sign::Word => PollFlags::POLLIN,
            // Of a stream whose other end is closed, the kernel tells unasked.
            Sign::End => PollFlags::empty(),
        };
        PollFd::new(stream.as_fd(), flags)
    }));
    let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, wait) {
        // A signal ends it early; then nothing is to be seen.
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = polled.iter().map(|one| one.any().unwrap_or(false));
    Ok(News {
        is_called: ready.next().unwrap_or(false),
        streams: ready.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::door::{self, LocalName};
    use super::*;
    use crate::mapping::Mapping;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use std::io::Write;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_descriptor_arrives_and_is_closed_for_children() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mapping = Mapping::shared(4096).expect("memory");
        give(&near, mapping.descriptor().expect("shared")).expect("given");
        let taken = take(&far).expect("received").expect("is there");
        let flags = fcntl(&taken, FcntlArg::F_GETFD).expect("open");
        assert_eq!(FdFlag::from_bits_truncate(flags), FdFlag::FD_CLOEXEC);
        assert!(Mapping::lent(taken, 4096).is_ok());
        drop(near);
        assert!(take(&far).expect("it has ended").is_none());
    }

    #[test]
    fn a_mark_alone_is_no_loan() {
        for mark in [0, MARK] {
            let (mut near, far) = UnixStream::pair().expect("a pair");
            near.write_all(&[mark]).expect("sent");
            assert!(take(&far).is_err());
        }
    }

    #[test]
    fn ends_are_told_apart_from_words() {
        let name = LocalName::new(format!("larder-handover-{}", std::process::id()));
        let listener = LocalListener::bind(&name).expect("listens");
        let pairs: Vec<_> = (0..3)
            .map(|_| UnixStream::pair().expect("a pair"))
            .collect();
        let (near, mut far): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let look = |limit| {
            let signs = [Sign::End, Sign::Word, Sign::End];
            let news = wait(&listener, near.iter().zip(signs), limit).expect("waits");
            (news.is_called, news.streams)
        };
        assert_eq!(look(Duration::ZERO), (false, vec![false; 3]));
        for stream in &mut far[..2] {
            stream.write_all(&[0; 16]).expect("sent");
        }
        assert_eq!(look(LONG), (false, vec![false, true, false]));
        drop(far.pop());
        assert_eq!(look(LONG), (false, vec![false, true, true]));
        let _caller = door::connect(&name, LONG).expect("connects");
        assert!(look(LONG).0);
        let _ = listener.accept().expect("it waits");
        assert!(!look(LONG).0);
        listener.stop();
        assert!(look(LONG).0);
    }
}
