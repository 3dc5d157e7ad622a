//! OpenFlow port numbers.

use std::fmt;

use crate::error::ParseError;

/// An OpenFlow 1.1+ port number (32 bits, OpenFlow 1.4 §7.2.1), reserved ports included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PortNo(pub u32);

impl PortNo {
    /// The first number that is not an ordinary port (`OFPP_MAX`).
    pub const MAX: PortNo = PortNo(0xffff_ff00);
    /// No port set in the action set (`OFPP_UNSET`).
    pub const UNSET: PortNo = PortNo(0xffff_fff7);
    /// Back out of the port the packet came in by.
    pub const IN_PORT: PortNo = PortNo(0xffff_fff8);
    /// Start again at the first table; in packet-out only.
    pub const TABLE: PortNo = PortNo(0xffff_fff9);
    /// The switch's own MAC learning.
    pub const NORMAL: PortNo = PortNo(0xffff_fffa);
    /// Every port with flooding enabled, but the ingress port.
    pub const FLOOD: PortNo = PortNo(0xffff_fffb);
    /// Every port but the ingress port.
    pub const ALL: PortNo = PortNo(0xffff_fffc);
    /// The controller.
    pub const CONTROLLER: PortNo = PortNo(0xffff_fffd);
    /// The bridge's own device.
    pub const LOCAL: PortNo = PortNo(0xffff_fffe);
    /// Any port, or none: the wildcard of filters (`OFPP_ANY`, 1.0's `OFPP_NONE`).
    pub const ANY: PortNo = PortNo(0xffff_ffff);

    const NAMES: [(PortNo, &'static str); 9] = [
        (PortNo::IN_PORT, "IN_PORT"),
        (PortNo::TABLE, "TABLE"),
        (PortNo::NORMAL, "NORMAL"),
        (PortNo::FLOOD, "FLOOD"),
        (PortNo::ALL, "ALL"),
        (PortNo::CONTROLLER, "CONTROLLER"),
        (PortNo::LOCAL, "LOCAL"),
        (PortNo::ANY, "ANY"),
        (PortNo::UNSET, "UNSET"),
    ];

    /// Whether a port can have this number: none from 65280 up to the reserved ports, which take those 16-bit numbers.
    /// Open vSwitch refuses them on the wire.
    pub(crate) fn can_exist(self) -> bool {
        self.to_u16().is_some()
    }

    /// The 16-bit form of OpenFlow 1.0, which Nicira actions still use; `None` if the port has none.
    /// Open vSwitch keeps reserved ports at 0xff00 up there (ovs-fields(7), `in_port`).
    #[must_use]
    pub fn to_u16(self) -> Option<u16> {
        let ordinary = u16::try_from(self.0).ok().filter(|port| *port < 0xff00);
        let reserved = self.0.checked_sub(Self::MAX.0).and_then(|low| u16::try_from(low).ok());
        ordinary.or(reserved.map(|low| 0xff00 + low))
    }

    /// The port of a 16-bit OpenFlow 1.0 number.
    #[must_use]
    pub fn from_u16(port: u16) -> PortNo {
        match port.checked_sub(0xff00) {
            Some(low) => PortNo(Self::MAX.0 + u32::from(low)),
            None => PortNo(u32::from(port)),
        }
    }

    /// The reserved name in the letters of ovs-ofctl, if the port has one.
    #[must_use]
    pub fn reserved_name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(port, _)| *port == self).map(|(_, name)| *name)
    }

    /// Reads a number or a reserved name (any case). As in ovs-ofctl, 65280..=65535 are the reserved ports'
    /// 16-bit numbers.
    pub fn parse(text: &str) -> Result<PortNo, ParseError> {
        if text.eq_ignore_ascii_case("NONE") {
            return Ok(PortNo::ANY);
        }
        if let Some((port, _)) = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(*port);
        }
        let number = crate::text::integer(text, 32)
            .map_err(|reason| ParseError::new("port", text, format!("no port name, and {reason}")))?;
        let number =
            u32::try_from(number).map_err(|_| ParseError::new("port", text, "does not fit 32 bits"))?;
        match u16::try_from(number) {
            Ok(short) => Ok(PortNo::from_u16(short)),
            Err(_) if number >= Self::MAX.0 => Ok(PortNo(number)),
            Err(_) => Err(ParseError::new("port", text, "lies between 65535 and the reserved ports")),
        }
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => out.write_str(name),
            None => write!(out, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_numbers_keep_the_reserved_ports() {
        assert_eq!(PortNo::IN_PORT.to_u16(), Some(0xfff8));
        assert_eq!(PortNo::from_u16(0xfffe), PortNo::LOCAL);
        assert_eq!(PortNo(0xff00).to_u16(), None, "an ordinary number that would read as a reserved one");
        assert_eq!(PortNo(70_000).to_u16(), None);
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(PortNo::parse("local").unwrap(), PortNo::LOCAL);
        assert_eq!(PortNo::parse("none").unwrap(), PortNo::ANY);
        assert_eq!(PortNo::parse("65534").unwrap(), PortNo::LOCAL);
        assert_eq!(PortNo::parse("7").unwrap().to_string(), "7");
        assert!(PortNo::parse("eth0").is_err());
        assert!(PortNo::parse("70000").is_err());
    }
}
