//! A TCP connection that carries bytes for as long as one lets it.

use std::io::{Read as _, Write as _};
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::error::Tried as _;
use crate::probe::{connect, wait_for};
use crate::{Error, Vm};

/// How long the handshake may take.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// The sender's step: small enough to be steady, so that a cut shows at once.
const CHUNK_BYTES: usize = 1000;
const CHUNK_EVERY: Duration = Duration::from_millis(5);

/// Bytes repeat with this period, a prime, so that a lost or doubled segment shows.
const PATTERN_PERIOD: u64 = 251;

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streaming {
    /// The client, as an upload does.
    ToServer,
    /// The server, as a download does; the client then sends acknowledgements alone.
    ToClient,
    /// Both.
    BothWays,
}

/// A stream to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamSpec {
    /// The server's address.
    pub server: IpAddr,
    /// The server's port.
    pub port: u16,
    /// The client's address and port; the kernel's choice if none.
    pub from: Option<SocketAddr>,
    /// Who sends.
    pub streaming: Streaming,
}

/// An open connection between two VMs over which bytes flow steadily, until it is dropped.
#[derive(Debug)]
pub struct Stream {
    client: End,
    server: End,
    workers: Vec<JoinHandle<()>>,
}

/// One end of the connection.
#[derive(Debug)]
struct End {
    socket: TcpStream,
    shared: Arc<EndState>,
}

#[derive(Debug, Default)]
struct EndState {
    sent: AtomicU64,
    garbled: AtomicBool,
    ended: AtomicBool,
}

impl Stream {
    /// Connects `client` to a listener made for this on `server`, and starts to send.
    ///
    /// # Errors
    /// The handshake does not succeed in a few seconds.
    pub fn open(client: &Vm, server: &Vm, spec: &StreamSpec) -> Result<Self, Error> {
        let address = SocketAddr::new(spec.server, spec.port);
        let what = || format!("a stream from {} to {} at {address}", client.name(), server.name());
        let listener = server.netns().enter(|| TcpListener::bind(address))?.tried(what)?;
        let from_client = client.netns().enter(|| connect(address, spec.from, OPEN_WITHIN))?.tried(what)?;
        wait_for(&listener, PollFlags::IN, Instant::now() + OPEN_WITHIN).tried(what)?;
        let (to_client, _) = listener.accept().tried(what)?;
        let mut stream =
            Self { client: End::new(from_client.into()), server: End::new(to_client), workers: Vec::new() };
        let upload = spec.streaming != Streaming::ToClient;
        let download = spec.streaming != Streaming::ToServer;
        for (end, sends) in [(&stream.client, upload), (&stream.server, download)] {
            stream.workers.extend(end.start(sends).tried(what)?);
        }
        Ok(stream)
    }

    /// Bytes that have come in order at the server's socket, whether read or not.
    #[must_use]
    pub fn received_by_server(&self) -> u64 {
        self.server.received()
    }

    /// Bytes that have come in order at the client's socket, whether read or not.
    #[must_use]
    pub fn received_by_client(&self) -> u64 {
        self.client.received()
    }

    /// Bytes that the client has handed to its socket.
    #[must_use]
    pub fn sent_by_client(&self) -> u64 {
        self.client.shared.sent.load(Ordering::Relaxed)
    }

    /// Bytes that the server has handed to its socket.
    #[must_use]
    pub fn sent_by_server(&self) -> u64 {
        self.server.shared.sent.load(Ordering::Relaxed)
    }

    /// Segments that either end had to send again: 0 for a connection that lost nothing.
    #[must_use]
    pub fn retransmits(&self) -> u64 {
        [&self.client, &self.server].iter().map(|end| u64::from(end.info().tcpi_total_retrans)).sum()
    }

    /// Whether both ends still hold the connection and have read nothing but what the other sent.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        [&self.client, &self.server].iter().all(|end| {
            !end.shared.garbled.load(Ordering::Relaxed) && !end.shared.ended.load(Ordering::Relaxed)
        })
    }

    /// Waits until each end that is sent to has `bytes` more than now.
    ///
    /// # Errors
    /// They do not come in time.
    pub fn wait_for_progress(&self, bytes: u64, within: Duration) -> Result<(), Error> {
        let sends = |end: &End| end.shared.sent.load(Ordering::Relaxed) > 0;
        let deadline = Instant::now() + within;
        // The first chunk is on its way as soon as the stream is open, but a thread may not have run yet.
        while !sends(&self.client) && !sends(&self.server) && Instant::now() < deadline {
            thread::sleep(CHUNK_EVERY);
        }
        let receivers = [(&self.client, sends(&self.server)), (&self.server, sends(&self.client))];
        for (end, _) in receivers.iter().filter(|(_, is_sent_to)| *is_sent_to) {
            let wanted = end.received() + bytes;
            while end.received() < wanted {
                if Instant::now() > deadline {
                    let what = format!("{} more bytes of a stream", wanted - end.received());
                    return Err(Error::Timeout { what, after: within });
                }
                thread::sleep(CHUNK_EVERY);
            }
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for end in [&self.client, &self.server] {
            // Wakes the workers, which may hang in a full socket; the peer may have ended first.
            let _ = end.socket.shutdown(Shutdown::Both);
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl End {
    fn new(socket: TcpStream) -> Self {
        Self { socket, shared: Arc::default() }
    }

    /// Starts the reader of this end and, if it `sends`, its writer.
    fn start(&self, sends: bool) -> std::io::Result<Vec<JoinHandle<()>>> {
        let (socket, shared) = (self.socket.try_clone()?, Arc::clone(&self.shared));
        let mut workers = vec![thread::spawn(move || read_pattern(socket, &shared))];
        if sends {
            let (socket, shared) = (self.socket.try_clone()?, Arc::clone(&self.shared));
            workers.push(thread::spawn(move || write_pattern(socket, &shared)));
        }
        Ok(workers)
    }

    fn received(&self) -> u64 {
        self.info().tcpi_bytes_received
    }

    /// The kernel's view of the connection (tcp(7), `TCP_INFO`): it knows of bytes that no thread has had the time to read.
    #[allow(unsafe_code)] // getsockopt(2) of an option that rustix does not know
    fn info(&self) -> libc::tcp_info {
        // SAFETY: tcp_info is a plain C structure of integers, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { mem::zeroed() };
        let mut length = libc::socklen_t::try_from(size_of_val(&info)).expect("a few hundred bytes");
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        // SAFETY: the kernel writes at most `length` bytes into the structure, which lives through the call.
        let result = unsafe {
            libc::getsockopt(self.socket.as_raw_fd(), level, option, (&raw mut info).cast(), &raw mut length)
        };
        assert_eq!(result, 0, "TCP_INFO of an open TCP socket");
        info
    }
}

fn pattern(position: u64) -> u8 {
    u8::try_from(position % PATTERN_PERIOD).expect("the period is below 256")
}

fn read_pattern(mut socket: TcpStream, shared: &EndState) {
    let mut buffer = [0; 16_384];
    let mut position = 0;
    while let Ok(received @ 1..) = socket.read(&mut buffer) {
        for byte in &buffer[..received] {
            if *byte != pattern(position) {
                shared.garbled.store(true, Ordering::Relaxed);
            }
            position += 1;
        }
    }
    shared.ended.store(true, Ordering::Relaxed);
}

fn write_pattern(mut socket: TcpStream, shared: &EndState) {
    let mut position = 0;
    loop {
        let chunk: Vec<u8> = (position..).take(CHUNK_BYTES).map(pattern).collect();
        if socket.write_all(&chunk).is_err() {
            return;
        }
        position += CHUNK_BYTES as u64;
        shared.sent.store(position, Ordering::Relaxed);
        thread::sleep(CHUNK_EVERY);
    }
}
