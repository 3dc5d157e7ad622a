//! Protocols by the API's names, for whoever reads or writes them outside of a document.

use crate::{Ethertype, PortProtocol};

use super::protocol::{NUMBERS, Protocol, by_name};

/// The number of a protocol, by its name in the API or as a number. `icmp` is that of the family.
///
/// # Errors
/// The name is none of the API's, belongs to the other family, or means no protocol in particular; or the number is more than 255.
pub fn protocol_number(text: &str, ethertype: Ethertype) -> Result<u8, String> {
    if let Ok(number) = text.parse::<u64>() {
        return u8::try_from(number)
            .map_err(|_| format!("expected a protocol number from 0 to 255, found {number}"));
    }
    match by_name(&text.to_ascii_lowercase(), ethertype)? {
        Protocol::Any => Err(format!("{text:?} is every protocol; name one")),
        Protocol::Ports(protocol) => Ok(protocol.number()),
        Protocol::Icmp => Ok(ethertype.icmp()),
        Protocol::Number(number) => Ok(number),
    }
}

/// A protocol in a packet of this family, by its name in the API; by its number where it has none.
pub fn protocol_name(number: u8, ethertype: Ethertype) -> String {
    if let Some(protocol) = PortProtocol::from_number(number) {
        return protocol.to_string();
    }
    if number == ethertype.icmp() {
        return if ethertype == Ethertype::Ipv4 { "icmp" } else { "icmpv6" }.to_owned();
    }
    let known = NUMBERS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| format!("protocol {number}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_number_and_back() {
        for (name, number) in NUMBERS.into_iter().chain([("tcp", 6), ("udp", 17), ("sctp", 132)]) {
            assert_eq!(protocol_number(name, Ethertype::Ipv4), Ok(number));
            assert_eq!(protocol_name(number, Ethertype::Ipv6), name);
        }
        assert_eq!(protocol_number("ICMP", Ethertype::Ipv6), Ok(58));
        assert_eq!(protocol_number("58", Ethertype::Ipv4), Ok(58));
        assert_eq!(protocol_name(58, Ethertype::Ipv4), "protocol 58");
        assert_eq!(protocol_name(58, Ethertype::Ipv6), "icmpv6");
    }

    #[test]
    fn what_is_no_protocol_is_said() {
        let reason = |text| protocol_number(text, Ethertype::Ipv4).unwrap_err();
        assert_eq!(reason("256"), "expected a protocol number from 0 to 255, found 256");
        assert_eq!(reason("any"), "\"any\" is every protocol; name one");
        assert_eq!(reason("icmpv6"), "icmpv6 does not belong in an IPv4 rule");
        assert_eq!(reason("tpc"), "\"tpc\": unknown protocol; give its number, 0 to 255");
    }
}
