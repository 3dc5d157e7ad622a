//! Where a switch listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::ParseError;

/// OpenFlow's port.
const DEFAULT_PORT: u16 = 6653;

/// Where a switch listens, in the form of ovs-vsctl(8).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// `unix:<path>`: of a bridge, `<rundir>/<bridge>.mgmt`.
    Unix(PathBuf),
    /// `tcp:<host>[:<port>]`.
    Tcp {
        /// A name or an address; IPv6 without its brackets.
        host: String,
        /// The port, 6653 if not given.
        port: u16,
    },
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = |reason: &str| ParseError::new("switch", text, reason);
        match text.split_once(':') {
            Some(("unix", "")) => Err(bad("the path is missing")),
            Some(("unix", path)) => Ok(Target::Unix(PathBuf::from(path))),
            Some(("tcp", address)) => {
                let (host, port) = match address.strip_prefix('[') {
                    Some(rest) => rest.split_once(']').ok_or_else(|| bad("']' is missing"))?,
                    None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
                };
                let port = match port.strip_prefix(':') {
                    None if port.is_empty() => DEFAULT_PORT,
                    Some(port) => port.parse().map_err(|_| bad("bad port"))?,
                    None => return Err(bad("bad port")),
                };
                match host {
                    "" => Err(bad("the host is missing")),
                    host => Ok(Target::Tcp { host: host.to_owned(), port }),
                }
            }
            _ => Err(bad("neither unix:<path> nor tcp:<host>[:<port>]")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(out, "unix:{}", path.display()),
            Target::Tcp { host, port } if host.contains(':') => write!(out, "tcp:[{host}]:{port}"),
            Target::Tcp { host, port } => write!(out, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_printed() {
        for (text, printed) in [
            ("unix:/run/br-int.mgmt", "unix:/run/br-int.mgmt"),
            ("tcp:127.0.0.1", "tcp:127.0.0.1:6653"),
            ("tcp:[::1]:6633", "tcp:[::1]:6633"),
            ("tcp:switch.example:1", "tcp:switch.example:1"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), printed);
        }
        for text in ["", "br-int", "unix:", "tcp:", "tcp:[::1", "tcp:[::1]x", "tcp:h:x", "ssl:h"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
