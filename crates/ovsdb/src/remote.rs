//! Where the database server listens: the connection methods of ovsdb(7).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// An active connection method: `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// TCP in the clear.
    Tcp(HostPort),
    /// TLS over TCP.
    Ssl(HostPort),
}

/// A host and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// PEM files for `ssl:` remotes, as `--ca-cert`, `--certificate` and `--private-key` of ovsdb-server(1). They
/// are read at each connect, so that renewed certificates are taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates of the authorities that the peer's certificate must come from.
    pub ca: PathBuf,
    /// Our own certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// A name that the server's certificate must be for. `None`: any certificate of the authority will do, as
    /// for Open vSwitch itself, whose certificates (ovs-pki(8)) have no host names. Then everyone who has a
    /// certificate of that authority can pose as the server.
    pub server_name: Option<String>,
}

/// Text that is no connection method.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no database address: {reason}")]
pub struct RemoteError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The port that is meant where none is given (ovsdb(7), "Active connection"; IANA "ovsdb").
const DEFAULT_PORT: u16 = 6640;

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let wrong = |reason| RemoteError { text: text.to_owned(), reason };
        let (method, rest) =
            text.split_once(':').ok_or_else(|| wrong("want unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"))?;
        match method {
            "unix" if rest.is_empty() => Err(wrong("no path")),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" => host_port(rest).map(Self::Tcp).map_err(wrong),
            "ssl" => host_port(rest).map(Self::Ssl).map_err(wrong),
            _ => Err(wrong("want unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT")),
        }
    }
}

fn host_port(text: &str) -> Result<HostPort, &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("no closing bracket")?;
        (
            host,
            if after.is_empty() {
                None
            } else {
                Some(after.strip_prefix(':').ok_or("no port after the bracket")?)
            },
        )
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err("no host");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.contains(':') => return Err("an IPv6 address stands in brackets: [::1]:6640"),
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or("no port number from 1 to 65535")?,
    };
    Ok(HostPort { host: host.into(), port })
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host_port) => write!(f, "tcp:{host_port}"),
            Self::Ssl(host_port) => write!(f, "ssl:{host_port}"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in
            ["unix:/run/db.sock", "tcp:127.0.0.1:6640", "ssl:db.example:6641", "ssl:[2001:db8::1]:6640"]
        {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:[::1]".parse::<Remote>().unwrap().to_string(), "tcp:[::1]:6640");
    }

    #[test]
    fn other_text_is_refused_with_a_reason() {
        for (text, reason) in [
            ("/run/db.sock", "want unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"),
            ("ptcp:6640", "want unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"),
            ("unix:", "no path"),
            ("tcp::6640", "no host"),
            ("tcp:::1:6640", "no host"),
            ("tcp:2001:db8::1", "an IPv6 address stands in brackets: [::1]:6640"),
            ("tcp:host:0", "no port number from 1 to 65535"),
            ("ssl:[::1]6640", "no port after the bracket"),
            ("ssl:[::1", "no closing bracket"),
        ] {
            assert_eq!(text.parse::<Remote>().unwrap_err().reason, reason, "{text}");
        }
    }
}
