//! Asking the kernel's routing tables: one thread, one socket, one question, with a time limit.
//!
//! rtnetlink drives the socket, on a tokio runtime that exists only as long as the question. Its
//! own `execute` streams end the same way after a whole dump, an interrupted one and a lost
//! socket, so the messages are read here with their flags.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::AsyncSocket;

use super::{Mac, NetError};

/// For all questions of one operation. The kernel answers them in well under a millisecond, but
/// takes a lock that the removal of many interfaces can keep for seconds.
const ANSWER: Duration = Duration::from_secs(3);

/// How much longer to wait for the thread itself, which the timer of [`ANSWER`] cannot wake while
/// it hangs in a system call.
const HANGING: Duration = Duration::from_millis(500);

/// A dump is interrupted when its table changes half-way. On a node that starts many pods at once
/// that happens, but not ten times in a row.
const DUMP_ATTEMPTS: u32 = 10;

type Answer = NetlinkMessage<RouteNetlinkMessage>;

/// A network namespace, opened before the question so that a missing one has its own error.
pub(super) struct Entrance {
    pub path: PathBuf,
    pub namespace: File,
}

/// The socket of one operation.
pub(super) struct Kernel {
    handle: rtnetlink::Handle,
    operation: &'static str,
}

/// A network interface.
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub up: bool,
}

/// Runs `work` against the kernel, in the namespace of `entrance` or else in the caller's.
/// `operation` completes "cannot …".
pub(super) fn ask<T, W>(operation: &'static str, entrance: Option<Entrance>, work: W) -> Result<T, NetError>
where
    T: Send + 'static,
    W: AsyncFnOnce(&Kernel) -> Result<T, NetError> + Send + 'static,
{
    let (answering, answered) = mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("netlink".into())
        .spawn(move || {
            // Nobody listens any more when the time is over.
            let _ = answering.send(converse(operation, entrance, work));
        })
        .map_err(|source| NetError::Refused { operation, source })?;
    match answered.recv_timeout(ANSWER + HANGING) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(NetError::TimedOut { operation, waited: ANSWER + HANGING }),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Err(NetError::Refused { operation, source: io::ErrorKind::BrokenPipe.into() }),
        },
    }
}

fn converse<T, W>(operation: &'static str, entrance: Option<Entrance>, work: W) -> Result<T, NetError>
where
    W: AsyncFnOnce(&Kernel) -> Result<T, NetError>,
{
    if let Some(Entrance { path, namespace }) = entrance {
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|error| NetError::Netns { path, source: error.into() })?;
    }
    let refused = |source| NetError::Refused { operation, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(refused)?;
    runtime.block_on(async {
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(refused)?;
        connection.set_forward_done(true);
        check_strictly(connection.socket_mut().socket_ref()).map_err(refused)?;
        tokio::spawn(connection);
        match tokio::time::timeout(ANSWER, work(&Kernel { handle, operation })).await {
            Ok(answer) => answer,
            Err(_) => Err(NetError::TimedOut { operation, waited: ANSWER }),
        }
    })
}

/// Has the kernel refuse filters it does not know, and apply the others. Kernels before 4.20 do
/// neither, so whoever filters a dump must also look at what came.
fn check_strictly(socket: &rtnetlink::sys::Socket) -> io::Result<()> {
    match socket.set_netlink_get_strict_chk(true) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => Ok(()),
        outcome => outcome,
    }
}

impl Kernel {
    /// Everything `request` asks for, picked by `pick`; read again when the kernel says that it
    /// changed half-way. A table that does not exist is empty.
    pub(super) async fn dump<T>(
        &self,
        request: RouteNetlinkMessage,
        pick: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetError> {
        for _ in 0..DUMP_ATTEMPTS {
            let answers = self.send(request.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if let Some(whole) = whole_dump(answers, &pick).await.map_err(|source| self.refused(source))? {
                return Ok(whole);
            }
        }
        Err(NetError::Unsteady { operation: self.operation, attempts: DUMP_ATTEMPTS })
    }

    pub(super) async fn link_by_name(&self, name: &str) -> Result<Option<Link>, NetError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.link(request).await
    }

    pub(super) async fn link_by_index(&self, index: u32) -> Result<Option<Link>, NetError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        self.link(request).await
    }

    async fn link(&self, request: LinkMessage) -> Result<Option<Link>, NetError> {
        let mut answers = self.send(RouteNetlinkMessage::GetLink(request), NLM_F_REQUEST)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => return Ok(Some(link.into())),
                NetlinkPayload::Error(error) => match Errno::from_raw(error.raw_code().abs()) {
                    Errno::ENODEV => return Ok(None),
                    errno => return Err(self.refused(errno.into())),
                },
                _ => {}
            }
        }
        Err(self.lost())
    }

    fn send(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<impl Stream<Item = Answer> + Unpin + use<>, NetError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = flags;
        self.handle.clone().request(message).map(Box::pin).map_err(|_| self.lost())
    }

    fn refused(&self, source: io::Error) -> NetError {
        NetError::Refused { operation: self.operation, source }
    }

    /// The answers ended before the kernel said that they were all.
    fn lost(&self) -> NetError {
        self.refused(answer_ended())
    }
}

/// What `pick` takes from a dump; `None` when it was interrupted. A table that does not exist is
/// empty: that comes as the code of `Done`, or as an error on older kernels.
async fn whole_dump<T>(
    mut answers: impl Stream<Item = Answer> + Unpin,
    pick: impl Fn(RouteNetlinkMessage) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    let mut found = Vec::new();
    let mut interrupted = false;
    while let Some(answer) = answers.next().await {
        interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
        let code = match answer.payload {
            NetlinkPayload::InnerMessage(message) => {
                found.extend(pick(message));
                continue;
            }
            NetlinkPayload::Done(done) => done.code,
            NetlinkPayload::Error(error) => error.raw_code(),
            _ => continue,
        };
        return match Errno::from_raw(code.abs()) {
            _ if code == 0 => Ok((!interrupted).then_some(found)),
            Errno::ENOENT => Ok(Some(Vec::new())),
            Errno::EINTR | Errno::EAGAIN => Ok(None),
            errno => Err(errno.into()),
        };
    }
    Err(answer_ended())
}

fn answer_ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the netlink socket was closed before the answer ended")
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            mac: None,
            up: message.header.flags.contains(LinkFlags::Up),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = Mac::of(&address),
                _ => {}
            }
        }
        link
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroI32;

    use futures_util::stream;
    use rtnetlink::packet_core::{DoneMessage, ErrorMessage, NetlinkHeader};

    use super::*;

    fn answer(payload: NetlinkPayload<RouteNetlinkMessage>, flags: u16) -> Answer {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        NetlinkMessage::new(header, payload)
    }

    fn link(index: u32, flags: u16) -> Answer {
        let mut message = LinkMessage::default();
        message.header.index = index;
        answer(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)), flags)
    }

    fn done(code: i32) -> Answer {
        let mut message = DoneMessage::default();
        message.code = code;
        answer(NetlinkPayload::Done(message), 0)
    }

    fn refusal(errno: Errno) -> Answer {
        let mut message = ErrorMessage::default();
        message.code = NonZeroI32::new(-(errno as i32));
        answer(NetlinkPayload::Error(message), 0)
    }

    fn read(answers: Vec<Answer>) -> io::Result<Option<Vec<u32>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(whole_dump(stream::iter(answers), |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
            _ => None,
        }))
    }

    #[test]
    fn a_dump_is_whole_when_the_kernel_says_so() {
        assert_eq!(read(vec![link(1, 0), link(2, 0), done(0)]).unwrap(), Some(vec![1, 2]));
        assert_eq!(read(vec![done(0)]).unwrap(), Some(vec![]));
        assert_eq!(read(vec![link(1, 0)]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_interrupted_dump_is_not_whole() {
        assert_eq!(read(vec![link(1, 0), link(2, NLM_F_DUMP_INTR), done(0)]).unwrap(), None);
        let mut end = done(0);
        end.header.flags = NLM_F_DUMP_INTR;
        assert_eq!(read(vec![link(1, 0), end]).unwrap(), None);
        assert_eq!(read(vec![done(-(Errno::EINTR as i32))]).unwrap(), None);
    }

    #[test]
    fn a_missing_table_is_empty_and_other_refusals_are_errors() {
        assert_eq!(read(vec![done(-(Errno::ENOENT as i32))]).unwrap(), Some(vec![]));
        assert_eq!(read(vec![refusal(Errno::ENOENT)]).unwrap(), Some(vec![]));
        let error = read(vec![link(1, 0), refusal(Errno::EPERM)]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EPERM as i32));
        assert!(read(vec![done(-(Errno::EINVAL as i32))]).is_err());
    }
}
