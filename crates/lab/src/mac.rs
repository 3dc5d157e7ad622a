//! A MAC address, as far as the lab needs one.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// An Ethernet address; reads and prints as `fa:16:3e:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid {
            what: "MAC address",
            value: text.to_owned(),
            reason: "not six octets in hex, separated by colons".to_owned(),
        };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let mac: Mac = "fa:16:3e:00:0a:01".parse().unwrap();
        assert_eq!(mac, Mac([0xfa, 0x16, 0x3e, 0, 10, 1]));
        assert_eq!(mac.to_string(), "fa:16:3e:00:0a:01");
    }

    #[test]
    fn refuses_other_text() {
        for text in [
            "",
            "fa:16:3e:00:0a",
            "fa:16:3e:00:0a:01:02",
            "fa:16:3e:00:0a:g1",
            "fa-16-3e-00-0a-01",
            "f:1:3:0:a:1",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
