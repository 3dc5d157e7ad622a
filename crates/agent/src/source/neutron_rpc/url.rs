//! The address of the message queue, as Neutron's own configuration has it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// RabbitMQ's port (IANA, Service Name and Port Number Registry: amqp, amqps).
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;

/// `transport_url` (`oslo_messaging/transport.py`, `TransportURL.parse`): `rabbit://user:password@host:port,user:password@host:port/vhost?ssl=1`, with
/// `%xx` for what would end a part. Passwords are shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct TransportUrl {
    /// Where it may be, in the order in which they are tried; at least one.
    pub hosts: Vec<Host>,
    /// `/` where none is named.
    pub vhost: String,
    /// Whether `ssl` is asked for.
    pub tls: bool,
}

/// One of several brokers.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// Who we are there; `guest` where nobody is named.
    pub user: String,
    /// The password.
    pub password: String,
    /// Name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Text that is no such URL. What is wrong is told without the text, in which there may be a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum UrlError {
    /// Another transport.
    #[error("transport_url does not begin with rabbit://")]
    Transport,
    /// No host, or an address whose bracket is not closed.
    #[error("transport_url: host {0} has no name")]
    Host(usize),
    /// A port that is none.
    #[error("transport_url: the port of host {0} is no number from 1 to 65535")]
    Port(usize),
    /// A `%` without two digits, or no UTF-8.
    #[error("transport_url: a % is not followed by the two digits of a character")]
    Escape,
}

impl FromStr for TransportUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.trim().strip_prefix("rabbit://").ok_or(UrlError::Transport)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let is_on = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        let tls = query.split('&').any(|pair| pair.strip_prefix("ssl=").is_some_and(is_on));
        let hosts = hosts.split(',').enumerate();
        let hosts = hosts.map(|(index, host)| Host::read(host, index + 1, tls)).collect::<Result<_, _>>()?;
        let vhost = unescaped(vhost)?;
        Ok(TransportUrl { hosts, vhost: if vhost.is_empty() { "/".to_owned() } else { vhost }, tls })
    }
}

impl Host {
    fn read(text: &str, number: usize, tls: bool) -> Result<Self, UrlError> {
        let (who, place) = text.rsplit_once('@').unwrap_or(("guest:guest", text));
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (host, port) = match place.strip_prefix('[') {
            Some(address) => {
                let (address, rest) = address.split_once(']').ok_or(UrlError::Host(number))?;
                (address, rest.strip_prefix(':'))
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(UrlError::Host(number));
        }
        let default = if tls { TLS_PORT } else { PORT };
        let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0));
        Ok(Host {
            user: unescaped(user)?,
            password: unescaped(password)?,
            host: host.to_owned(),
            port: port.ok_or(UrlError::Port(number))?,
        })
    }
}

/// RFC 3986, 2.1.
fn unescaped(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let value = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(value.ok_or(UrlError::Escape)?);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Escape)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "rabbit://{}/{}", hosts.join(","), self.vhost.trim_start_matches('/'))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_credentials_and_vhost_are_read() {
        let url: TransportUrl =
            "rabbit://neutron:p%40s%2Cs@h1,u2:x@[fd00::1]:5673/my%2Fhost".parse().unwrap();
        assert_eq!(url.hosts.len(), 2);
        let Host { user, password, host, port } = &url.hosts[0];
        assert_eq!(
            (user.as_str(), password.as_str(), host.as_str(), *port),
            ("neutron", "p@s,s", "h1", 5672)
        );
        assert_eq!((url.hosts[1].host.as_str(), url.hosts[1].port), ("fd00::1", 5673));
        assert_eq!((url.vhost.as_str(), url.tls), ("my/host", false));
        let url: TransportUrl = "rabbit://h/?ssl=True".parse().unwrap();
        assert_eq!((url.vhost.as_str(), url.tls, url.hosts[0].port), ("/", true, 5671));
        assert_eq!(url.hosts[0].user, "guest");
    }

    #[test]
    fn a_password_is_shown_to_nobody() {
        let url: TransportUrl = "rabbit://u:secret@h1:1,u:secret@h2:2/v".parse().unwrap();
        let shown = format!("{url} {url:?} {:?} {}", url.hosts[0], url.hosts[1]);
        assert_eq!(shown, "rabbit://h1:1,h2:2/v rabbit://h1:1,h2:2/v h1:1 h2:2");
        for bad in [
            "amqp://u:secret@h",
            "rabbit://u:secret@h:port",
            "rabbit://u:secret%@h",
            "rabbit://u:secret@",
            "rabbit://u:secret@[::1",
        ] {
            let error = bad.parse::<TransportUrl>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
