//! Opens the socket of a [`Remote`].

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::tls;
use crate::remote::{HostPort, Remote, TlsConfig};

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

async fn tcp(HostPort { host, port }: &HostPort) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
    // Requests are small and answers are waited for.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}
