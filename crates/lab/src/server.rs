//! Services inside a VM that probes talk to.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Tried as _;
use crate::{Error, Vm};

/// How often an idle UDP service looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Vm {
    /// A TCP service that sends back what it gets. Address `0.0.0.0` or `::` listens on every address of the VM; port 0
    /// takes a free port.
    ///
    /// # Errors
    /// The address is taken or not the VM's.
    pub fn listen_tcp(&self, address: SocketAddr) -> Result<TcpServer, Error> {
        let listener =
            self.netns().enter(|| TcpListener::bind(address))?.tried(|| format!("listen on {address}"))?;
        TcpServer::start(listener)
    }

    /// A UDP service that sends every datagram back.
    ///
    /// # Errors
    /// The address is taken or not the VM's.
    pub fn echo_udp(&self, address: SocketAddr) -> Result<UdpEcho, Error> {
        let socket = self.netns().enter(|| UdpSocket::bind(address))?.tried(|| format!("bind {address}"))?;
        UdpEcho::start(socket)
    }
}

/// A TCP echo service; it and its connections end when this is dropped.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Accepted>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Accepted {
    count: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl TcpServer {
    fn start(listener: TcpListener) -> Result<Self, Error> {
        let what = || "listen".to_owned();
        let address = listener.local_addr().tried(what)?;
        let shared = Arc::new(Accepted::default());
        let (ears, known) = (listener.try_clone().tried(what)?, Arc::clone(&shared));
        let acceptor = thread::spawn(move || {
            // shutdown() of the listener, in drop, ends accept() with an error.
            while let Ok((stream, _)) = ears.accept() {
                known.count.fetch_add(1, Ordering::Relaxed);
                let Ok(copy) = stream.try_clone() else { continue };
                known.open.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self { address, listener, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens, with the port it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Those that have ended already say so; their threads have gone.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Sends back what comes until either side ends.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(received @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..received]).is_err() {
            return;
        }
    }
}

/// A UDP echo service; it ends when this is dropped.
#[derive(Debug)]
pub struct UdpEcho {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl UdpEcho {
    fn start(socket: UdpSocket) -> Result<Self, Error> {
        let address = socket.local_addr().tried(|| "bind".into())?;
        socket.set_read_timeout(Some(LOOK_EVERY)).tried(|| "bind".into())?;
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let worker = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !told.load(Ordering::Relaxed) {
                // An error is the timeout above, or an ICMP error for an earlier answer: nobody to tell.
                if let Ok((received, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..received], from);
                }
            }
        });
        Ok(Self { address, ends, worker: Some(worker) })
    }

    /// Where it listens, with the port it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
