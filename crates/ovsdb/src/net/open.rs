//! Opens the socket of a [`Remote`].

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::tls;
use crate::remote::{HostPort, Remote, TlsConfig};

/// After so much silence the peer's kernel is asked, and after twice as much the connection is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// A remote that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot connect to {remote}: {reason}")]
pub struct ConnectError {
    /// The remote.
    pub remote: Remote,
    /// Why not.
    pub reason: String,
}

/// A byte stream in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

pub(crate) async fn open(remote: Remote, tls: Option<TlsConfig>) -> Result<Box<dyn Io>, ConnectError> {
    try_open(&remote, tls.as_ref()).await.map_err(|reason| ConnectError { remote, reason })
}

async fn try_open(remote: &Remote, tls: Option<&TlsConfig>) -> Result<Box<dyn Io>, String> {
    match remote {
        Remote::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream))
        }
        Remote::Tcp(host_port) => Ok(Box::new(tcp(host_port).await?)),
        Remote::Ssl(host_port) => {
            let config = tls.ok_or("no certificates are configured for TLS")?;
            let connector = tls::connector(config)?;
            let name = tls::server_name(config, &host_port.host)?;
            let stream = tcp(host_port).await?;
            let stream = connector.connect(name, stream).await.map_err(|error| tls::why(&error))?;
            Ok(Box::new(stream))
        }
    }
}

/// A machine that is gone is told from a server that is busy: the kernel of the latter answers.
fn is_to_notice_death(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 5).with_retries(5);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(2 * SILENCE))
}

async fn tcp(HostPort { host, port }: &HostPort) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
    // Requests are small and answers are waited for.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    is_to_notice_death(&stream).map_err(|error| error.to_string())?;
    Ok(stream)
}
