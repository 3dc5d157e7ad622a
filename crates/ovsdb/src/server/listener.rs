//! The in-memory server on a socket.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::{ConnectionId, MemoryServer};
use crate::net::{Io, Pump, server_config};
use crate::remote::{HostPort, Remote, TlsConfig};
use crate::time::Timestamp;

/// Where the server listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    remote: Remote,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, Arc<rustls::ServerConfig>),
}

/// A server that listens. It ends, with all connections, when this is dropped.
#[derive(Debug)]
pub struct ServerGuard {
    shared: Arc<Shared>,
    remote: Remote,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<MemoryServer>,
    /// Says that there may be something to write, or that someone was dropped.
    changed: watch::Sender<()>,
    began: Instant,
}

impl Listener {
    /// Listens on a Unix socket.
    ///
    /// # Errors
    /// The path cannot be bound.
    pub fn unix(path: &Path) -> std::io::Result<Self> {
        Ok(Self { socket: Socket::Unix(UnixListener::bind(path)?), remote: Remote::Unix(path.to_owned()) })
    }

    /// Listens on a free TCP port of the loopback interface.
    ///
    /// # Errors
    /// There is none.
    pub async fn tcp() -> std::io::Result<Self> {
        let (socket, address) = loopback().await?;
        Ok(Self { socket: Socket::Tcp(socket), remote: Remote::Tcp(address) })
    }

    /// The same with TLS; clients must show a certificate.
    ///
    /// # Errors
    /// There is no free port, or the certificates cannot be used.
    pub async fn tls(config: &TlsConfig) -> std::io::Result<Self> {
        let config = server_config(config).map_err(std::io::Error::other)?;
        let (socket, address) = loopback().await?;
        Ok(Self { socket: Socket::Tls(socket, config), remote: Remote::Ssl(address) })
    }

    /// Serves `server` on the current tokio runtime.
    pub fn serve(self, server: MemoryServer) -> ServerGuard {
        let began = Instant::now();
        let shared = Arc::new(Shared { server: Mutex::new(server), changed: watch::Sender::new(()), began });
        let task = tokio::spawn(accept(self.socket, shared.clone()));
        ServerGuard { shared, remote: self.remote, task }
    }
}

impl ServerGuard {
    /// Where clients reach it.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Does something with the server, and sends what that leads to.
    pub fn with<T>(&self, action: impl FnOnce(&mut MemoryServer) -> T) -> T {
        self.shared.with(action)
    }
}

impl Drop for ServerGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn with<T>(&self, action: impl FnOnce(&mut MemoryServer) -> T) -> T {
        // A test that panics inside `action` has failed; what the server then holds decides nothing.
        let outcome = action(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        outcome
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.began.elapsed())
    }
}

async fn loopback() -> std::io::Result<(TcpListener, HostPort)> {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = socket.local_addr()?;
    Ok((socket, HostPort { host: address.ip().to_string(), port: address.port() }))
}

async fn accept(socket: Socket, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    let mut changed = shared.changed.subscribe();
    loop {
        let deadline = shared.with_quietly(|server| server.next_deadline());
        tokio::select! {
            stream = socket.accept() => match stream {
                Ok(stream) => drop(connections.spawn(serve(stream, shared.clone()))),
                // Out of file descriptors, or a peer that was gone at once: neither ends the server.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = changed.changed() => {}
            () = sleep_until(deadline.map(|Timestamp(since)| shared.began + since)) => {
                let now = shared.now();
                shared.with(|server| server.tick(now));
            }
        }
    }
}

/// A stream that was accepted, before its TLS handshake.
enum Accepted {
    Plain(Box<dyn Io>),
    Tls(tokio::net::TcpStream, Arc<rustls::ServerConfig>),
}

impl Socket {
    async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Unix(socket) => Ok(Accepted::Plain(Box::new(socket.accept().await?.0))),
            Self::Tcp(socket) => Ok(Accepted::Plain(Box::new(socket.accept().await?.0))),
            Self::Tls(socket, config) => Ok(Accepted::Tls(socket.accept().await?.0, config.clone())),
        }
    }
}

impl Shared {
    /// As `with`, without waking the connections.
    fn with_quietly<T>(&self, action: impl FnOnce(&mut MemoryServer) -> T) -> T {
        action(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(stream: Accepted, shared: Arc<Shared>) {
    let stream: Box<dyn Io> = match stream {
        Accepted::Plain(stream) => stream,
        Accepted::Tls(stream, config) => match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
    };
    let client = shared.with(MemoryServer::connect);
    exchange(&mut Pump::new(stream), client, &shared).await;
    shared.with(|server| server.disconnect(client));
}

/// Moves bytes until the client goes or is dropped.
async fn exchange(pump: &mut Pump, client: ConnectionId, shared: &Shared) {
    let mut changed = shared.changed.subscribe();
    loop {
        let output =
            shared.with_quietly(|server| server.is_connected(client).then(|| server.take_output(client)));
        let Some(output) = output else { return };
        pump.queue(output);
        tokio::select! {
            bytes = pump.read() => match bytes {
                Ok([]) | Err(_) => return,
                Ok(bytes) => {
                    let now = shared.now();
                    shared.with(|server| server.receive(client, bytes, now));
                }
            },
            _ = changed.changed() => {}
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
