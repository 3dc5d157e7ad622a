//! The socket: requests go to the kernel, and come back done or refused.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_NETFILTER;
use thiserror::Error;

use crate::attribute::{Attributes, aligned};
use crate::message::{DUMP_INTERRUPTED, MESSAGE_HEADER};
use crate::{Malformed, Message, Messages, Request};

/// The kernel puts no more into a datagram of a dump (net/netlink/af_netlink.c: `netlink_dump`, 32 KB), and a notification is smaller.
const LARGEST_DATAGRAM: usize = 1 << 16;
/// So many bytes are sent at once, or one message: less than the send buffer, of some 200 KB (net.core.wmem_default).
const DATAGRAM: usize = 1 << 16;
/// What the receive buffer shall hold: refusals of a long batch, or news while nobody reads.
const RECEIVE_BUFFER: i32 = 1 << 22;

/// `NLM_F_ACK`.
pub(crate) const ACKNOWLEDGE: u16 = 4;
/// Kinds of netlink's own (`NLMSG_*`).
pub(crate) const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
/// Of an error: the request is not repeated in it (`NLM_F_CAPPED`), and attributes explain it (`NLM_F_ACK_TLVS`).
const CAPPED: u16 = 0x100;
const EXPLAINED: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`, `NLMSGERR_ATTR_OFFS`.
const WORDS: u16 = 1;
const OFFSET: u16 = 2;

/// A request that the kernel did not do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Which of the requests that were sent together, counted from 0.
    pub index: usize,
    /// An `errno`, or above 4096 one of the subsystem's own codes.
    pub code: i32,
    /// The kernel's words, where it has any.
    pub words: Option<String>,
    /// Where in the request the attribute begins that is to blame, counted in bytes from the request's first, where the kernel says so.
    pub offset: Option<usize>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(words) = &self.words {
            write!(f, "{words}: ")?;
        }
        match self.code {
            // No errno is above (include/linux/err.h: `MAX_ERRNO`).
            1..=4095 => write!(f, "{}", io::Error::from_raw_os_error(self.code)),
            code => write!(f, "error {code}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// Of the socket itself; `ENOBUFS` where news were lost because nobody read them in time.
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
    /// The kernel refused a request; those behind it may have been done.
    #[error("netlink: {0}")]
    Refused(Refusal),
    /// The kernel refused a batch as a whole: there is no right to it or no memory for it, the subsystem takes none, or what it was
    /// made for has changed ([`Error::is_stale`]).
    #[error("netlink: a batch: {0}")]
    BatchRefused(Refusal),
    /// What was dumped changed meanwhile, and some of it may be missing: ask again.
    #[error("netlink: what was dumped changed meanwhile")]
    Interrupted,
    /// The kernel, or a version of it that we do not know, sent something that cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Error {
    /// The code of a refusal.
    pub fn code(&self) -> Option<i32> {
        match self {
            Error::Refused(refusal) | Error::BatchRefused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// What the kernel said was lost, because nobody read it in time.
    pub fn is_overrun(&self) -> bool {
        matches!(self, Error::Io(error) if error.raw_os_error() == Some(NO_ROOM))
    }

    /// `EPERM`: there is no right to it, or of the packet log's groups ([`crate::Log`]) that another socket listens to it (Linux 6.18,
    /// net/netfilter/nfnetlink_log.c: `nfulnl_recv_config`).
    pub fn is_not_permitted(&self) -> bool {
        matches!(self, Error::Refused(Refusal { code: NOT_PERMITTED, .. }))
    }

    /// A batch was made for a generation that is over: somebody changed something meanwhile.
    pub fn is_stale(&self) -> bool {
        matches!(self, Error::BatchRefused(Refusal { code: STALE, .. }))
    }
}

/// `EPERM`.
const NOT_PERMITTED: i32 = 1;
/// `ERESTART` (net/netfilter/nfnetlink.c: `nfnetlink_rcv_batch`, where the generation is not valid).
const STALE: i32 = 85;

/// `ENOBUFS`.
const NO_ROOM: i32 = 105;

static SENT: AtomicU64 = AtomicU64::new(0);

/// How many messages this process has sent to the kernel by all its connections, those that begin and end a batch included.
pub fn sent() -> u64 {
    SENT.load(Ordering::Relaxed)
}

/// A connection to netfilter, in the network namespace of the thread that opened it. Requests wait for their answers.
#[derive(Debug)]
pub struct Socket {
    pub(crate) socket: netlink_sys::Socket,
    pub(crate) sequence: u32,
    pub(crate) received: Vec<u8>,
    /// What the send buffer was made to hold, in bytes; 0: what the system gave it.
    pub(crate) send_buffer: usize,
}

impl Socket {
    /// Opens a connection; that takes `CAP_NET_ADMIN` for almost everything that can be asked.
    pub fn open() -> Result<Self, Error> {
        let mut socket = netlink_sys::Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // From now on only the kernel is listened to.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        Ok(Socket { socket, sequence: 0, received: Vec::with_capacity(LARGEST_DATAGRAM), send_buffer: 0 })
    }

    /// Hands the kernel a datagram of so many messages.
    pub(crate) fn send(&self, bytes: &[u8], messages: usize) -> Result<(), Error> {
        self.socket.send(bytes, 0)?;
        SENT.fetch_add(u64::try_from(messages).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Has the kernel do one thing.
    pub fn call(&mut self, request: Request) -> Result<(), Error> {
        self.call_all([request])
    }

    /// Has the kernel do one thing after the other, many with one system call. The first refusal is the error; the kernel may have
    /// done some of those behind it, so that the requests should not build upon each other where that matters.
    pub fn call_all(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<(), Error> {
        let mut requests = requests.into_iter().peekable();
        let mut sent = 0;
        let mut bytes = Vec::new();
        while requests.peek().is_some() {
            bytes.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while let Some(request) = requests.next() {
                self.sequence = self.sequence.wrapping_add(1);
                count += 1;
                let is_last = bytes.len() + request.size() >= DATAGRAM || requests.peek().is_none();
                bytes.extend(request.finish(self.sequence, if is_last { ACKNOWLEDGE } else { 0 }));
                bytes.resize(aligned(bytes.len()), 0);
                if is_last {
                    break;
                }
            }
            self.send(&bytes, count)?;
            self.answered(first, count).map_err(|error| counted_from(sent, error))?;
            sent += count;
        }
        Ok(())
    }

    /// Waits until so many requests, of which this was the first, are done.
    fn answered(&mut self, first: u32, count: usize) -> Result<(), Error> {
        let mut refused: Option<Refusal> = None;
        loop {
            let mut is_over = false;
            for message in receive(&self.socket, &mut self.received, WAIT)? {
                let message = message?;
                let index = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if message.kind != ERROR || index >= count {
                    continue;
                }
                if let Some(refusal) = refusal(&message, index)? {
                    refused.get_or_insert(refusal);
                }
                is_over |= index + 1 == count;
            }
            if is_over {
                return refused.map_or(Ok(()), |refusal| Err(Error::Refused(refusal)));
            }
        }
    }

    /// Asks for one thing, or with [`Request::DUMP`] for all there are; `each` takes the answers. An error of `each` is
    /// returned when the last of them has come.
    pub fn ask(
        &mut self,
        request: Request,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&request.finish(self.sequence, ACKNOWLEDGE), 1)?;
        let mut is_interrupted = false;
        let mut outcome = Ok(());
        loop {
            for message in receive(&self.socket, &mut self.received, WAIT)? {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                is_interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        if let Some(refusal) = refusal(&message, 0)? {
                            return Err(Error::Refused(refusal));
                        }
                        outcome?;
                        return if is_interrupted { Err(Error::Interrupted) } else { Ok(()) };
                    }
                    OVERRUN => return Err(Malformed("the kernel lost data").into()),
                    _ => outcome = outcome.and_then(|()| each(&message)),
                }
            }
        }
    }

    /// From now on what the kernel tells a multicast group (`NFNLGRP_*`) comes to [`Socket::news`]. Such a socket is for news
    /// alone: a request's answer and news would come mixed.
    pub fn join(&self, group: u32) -> Result<(), Error> {
        Ok(self.socket.add_membership(group)?)
    }

    /// Waits for news, and gives `each` what has come at once.
    pub fn news(&mut self, mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>) -> Result<(), Error> {
        for message in receive(&self.socket, &mut self.received, WAIT)? {
            each(&message?)?;
        }
        Ok(())
    }
}

/// The same error among more requests.
fn counted_from(sent: usize, error: Error) -> Error {
    match error {
        Error::Refused(refusal) => Error::Refused(Refusal { index: sent + refusal.index, ..refusal }),
        other => other,
    }
}

/// What comes next, as a whole. `wait` is [`WAIT`] or [`DO_NOT_WAIT`].
pub(crate) fn receive<'b>(
    socket: &netlink_sys::Socket,
    buffer: &'b mut Vec<u8>,
    wait: i32,
) -> Result<Messages<'b>, Error> {
    buffer.clear();
    buffer.reserve(LARGEST_DATAGRAM);
    let room = buffer.capacity();
    let length = loop {
        match socket.recv(buffer, MSG_TRUNC | wait) {
            Ok(length) => break length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    };
    if length > room {
        return Err(Malformed("a datagram is larger than any that the kernel sends").into());
    }
    Ok(Messages::new(buffer))
}

/// recv(2): the length of what was there, also where the buffer was too small for it.
const MSG_TRUNC: i32 = 0x20;
/// Until something comes, or not at all (`MSG_DONTWAIT`): then the error is `EAGAIN`.
pub(crate) const WAIT: i32 = 0;
pub(crate) const DO_NOT_WAIT: i32 = 0x40;

/// What an acknowledgement says: nothing if it was done.
pub(crate) fn refusal(message: &Message<'_>, index: usize) -> Result<Option<Refusal>, Malformed> {
    let Some((code, rest)) = message.payload.split_first_chunk() else {
        // The end of a dump may come without a code.
        return if message.kind == DONE { Ok(None) } else { Err(Malformed("an error is cut off")) };
    };
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return Ok(None);
    }
    let mut refusal = Refusal { index, code: code.saturating_neg(), words: None, offset: None };
    if message.flags & EXPLAINED != 0 {
        let attributes = explanation(message, rest)?;
        refusal.words = attributes.find(WORDS)?.map(|words| words.text().map(str::to_owned)).transpose()?;
        let offset =
            attributes.find(OFFSET)?.map(|offset| offset.array().map(u32::from_ne_bytes)).transpose()?;
        refusal.offset = offset.and_then(|offset| usize::try_from(offset).ok());
    }
    Ok(Some(refusal))
}

/// Behind the code: the header of the request, the request itself unless it is left out, then attributes.
fn explanation<'m>(message: &Message<'m>, rest: &'m [u8]) -> Result<Attributes<'m>, Malformed> {
    let attributes = match message.kind {
        DONE => rest,
        _ => {
            let length = match message.flags & CAPPED {
                0 => rest.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length)),
                _ => 0,
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX).max(MESSAGE_HEADER);
            rest.get(aligned(length)..).ok_or(Malformed("what explains an error is cut off"))?
        }
    };
    Ok(Attributes::new(attributes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subsystem;

    fn error(flags: u16, code: i32, echoed: &[u8], words: &str) -> Vec<u8> {
        let mut payload = code.to_ne_bytes().to_vec();
        payload.extend(echoed);
        let mut attributes = Request::new(Subsystem::Ipset, 0, 0, 0, 0);
        attributes.put_text(WORDS, words).put(OFFSET, &20u32.to_ne_bytes());
        payload.extend(&attributes.finish(0, 0)[MESSAGE_HEADER + 4..]);
        let length = u32::try_from(MESSAGE_HEADER + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_refusal_has_the_kernels_words() {
        let request = Request::new(Subsystem::Ipset, 2, 0, 0, 0).finish(1, 0);
        for bytes in [
            error(EXPLAINED | CAPPED, -2, &request[..MESSAGE_HEADER], "no such set"),
            error(EXPLAINED, -2, &request, "no such set"),
        ] {
            let message = Messages::new(&bytes).next().unwrap().unwrap();
            let refusal = refusal(&message, 3).unwrap().unwrap();
            assert_eq!((refusal.index, refusal.code, refusal.offset), (3, 2, Some(20)));
            assert_eq!(refusal.to_string(), "no such set: No such file or directory (os error 2)");
        }
        let bytes = error(CAPPED, -4103, &request[..MESSAGE_HEADER], "unread");
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        assert_eq!(refusal(&message, 0).unwrap().unwrap().to_string(), "error 4103");
        let done = error(0, 0, &request[..MESSAGE_HEADER], "");
        assert_eq!(refusal(&Messages::new(&done).next().unwrap().unwrap(), 0), Ok(None));
    }

    #[test]
    fn what_is_cut_off_is_damage() {
        let bare = |kind, flags, payload| Message { kind, flags, sequence: 0, payload };
        assert!(refusal(&bare(ERROR, 0, &[0; 3]), 0).is_err());
        assert_eq!(refusal(&bare(DONE, 0, &[]), 0), Ok(None));
        assert!(refusal(&bare(ERROR, EXPLAINED | CAPPED, &[255; 8]), 0).is_err());
    }
}
