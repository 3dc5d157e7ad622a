//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// An Ethernet address, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// 00:00:00:00:00:00, of a station whose address is not known: no frame is to it.
    pub const UNKNOWN: Self = Self([0; 6]);

    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The six octets.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address as a number below 2^48, first octet highest: the form of an OpenFlow match field.
    pub fn to_u64(self) -> u64 {
        self.0.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    }

    /// Whether the address names a group of stations (multicast or broadcast): the I/G bit, the lowest of the
    /// first octet (IEEE 802-2014, 8.2.2).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether the address can be one station's.
    pub fn is_station(&self) -> bool {
        !self.is_group() && *self != Self::UNKNOWN
    }

    /// The IPv6 link-local address that a station forms from this address: fe80::/64 and the modified EUI-64
    /// identifier, the universal/local bit inverted (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a MAC address (six octets like fa:16:3e:00:00:01)")]
pub struct MacError;

impl FromStr for MacAddr {
    type Err = MacError;

    /// Reads the usual forms, in either case: `fa:16:3e:00:00:01`, `fa-16-3e-00-00-01`, `fa16.3e00.0001` and
    /// `fa163e000001`.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let (separator, part_length) = match text.bytes().find(|byte| !byte.is_ascii_hexdigit()) {
            Some(b':') => (':', 2),
            Some(b'-') => ('-', 2),
            Some(b'.') => ('.', 4),
            Some(_) => return Err(MacError),
            None => (':', 12),
        };
        let mut digits = String::with_capacity(12);
        for part in text.split(separator) {
            if part.len() != part_length || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(MacError);
            }
            digits.push_str(part);
        }
        if digits.len() != 12 {
            return Err(MacError);
        }
        let number = u64::from_str_radix(&digits, 16).map_err(|_| MacError)?;
        let [_, _, octets @ ..] = number.to_be_bytes();
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_one_address() {
        let wanted = MacAddr([0xfa, 0x16, 0x3e, 0, 0xab, 1]);
        for text in
            ["fa:16:3e:00:ab:01", "FA:16:3E:00:AB:01", "fa-16-3e-00-ab-01", "fa16.3e00.ab01", "fa163e00ab01"]
        {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        assert_eq!(wanted.to_string(), "fa:16:3e:00:ab:01");
        assert_eq!(wanted.to_u64(), 0xfa16_3e00_ab01);
        assert_eq!(MacAddr::from(wanted.octets()), wanted);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "fa:16:3e:00:00",
            "fa:16:3e:00:00:01:02",
            "fa:16:3e:00:00:0g",
            "fa:16:3e:0:0:1",
            "fa:16-3e:00:00:01",
            "fa16:3e00:0001",
            "+a163e000001",
            "fa:16:3e:00:00:01 ",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(MacError), "{text}");
        }
    }

    #[test]
    fn link_local_inverts_the_universal_bit() {
        // The example of RFC 2464, section 4: 34-56-78-9A-BC-DE.
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
        // Nova's are local: there the bit goes.
        let local = MacAddr([0xfa, 0x16, 0x3e, 0, 0, 1]);
        assert_eq!(local.link_local().to_string(), "fe80::f816:3eff:fe00:1");
        assert!(!mac.is_group());
        assert!(MacAddr::BROADCAST.is_group());
    }
}
