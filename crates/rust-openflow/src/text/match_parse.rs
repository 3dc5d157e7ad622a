//! Reading of matches.

use crate::error::ParseError;
use crate::field::{Field, OxmHeader, ones};
use crate::flow_match::{Match, RawOxm};

use super::value;

/// Words for an ethertype, and perhaps a protocol.
const PROTOCOLS: [(&str, u16, Option<u8>); 17] = [
    ("ip", 0x0800, None),
    ("ipv4", 0x0800, None),
    ("ip4", 0x0800, None),
    ("arp", 0x0806, None),
    ("icmp", 0x0800, Some(1)),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("ipv6", 0x86dd, None),
    ("ip6", 0x86dd, None),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
    ("rarp", 0x8035, None),
    ("mpls", 0x8847, None),
    ("mplsm", 0x8848, None),
];

/// Gathers the words of a match. What `nw_src` or `tp_dst` mean depends on ethertype and protocol, which may
/// come later, so such words wait until the end.
#[derive(Default)]
pub(super) struct MatchParser<'a> {
    matches: Match,
    tci: (u128, u128),
    eth_type: Option<u128>,
    proto: Option<u128>,
    waiting: Vec<(&'a str, &'a str)>,
}

impl<'a> MatchParser<'a> {
    /// Takes one word; `false` if it is none of a match.
    pub(super) fn take(&mut self, key: &'a str, text: &'a str) -> Result<bool, ParseError> {
        if let Some((_, eth_type, proto)) = PROTOCOLS.iter().find(|(name, ..)| *name == key) {
            self.eth_type = Some(u128::from(*eth_type));
            self.proto = proto.map(u128::from).or(self.proto);
            return Ok(true);
        }
        match key {
            // Without a packet type, which only bridges of a special kind have, every packet is an Ethernet
            // frame.
            "eth" => {}
            "dl_vlan" | "dl_vlan_pcp" | "vlan_vid" | "vlan_pcp" | "vlan_tci" => self.vlan(key, text)?,
            "eth_type" | "dl_type" => {
                self.eth_type = value::parse(Field::EthType, text)?.map(|(value, _)| value)
            }
            "nw_proto" | "ip_proto" => {
                self.proto = value::parse(Field::IpProto, text)?.map(|(value, _)| value)
            }
            "oxm" => self.raw(text)?,
            "nw_src" | "nw_dst" | "ip_src" | "ip_dst" | "tp_src" | "tp_dst" | "icmp_type" | "icmp_code" => {
                self.waiting.push((key, text));
            }
            _ if key.contains('[') => self.bits(key, text)?,
            _ => match Field::from_name(key).filter(|_| !key.starts_with(char::is_uppercase)) {
                Some(field) => self.field(field, text)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// The match of all words.
    pub(super) fn finish(mut self) -> Result<Match, ParseError> {
        if let Some(eth_type) = self.eth_type {
            self.set(Field::EthType, "dl_type", eth_type, Field::EthType.full_mask())?;
        }
        if let Some(proto) = self.proto {
            let field = if self.is_arp() { Field::ArpOp } else { Field::IpProto };
            self.set(field, "nw_proto", proto, field.full_mask())?;
        }
        if self.tci.1 != 0 {
            self.set(Field::VlanTci, "vlan", self.tci.0, self.tci.1)?;
        }
        for (key, text) in std::mem::take(&mut self.waiting) {
            let Some(field) = self.meaning(key) else {
                return Err(ParseError::new(key, text, "needs a protocol that has it, such as tcp or icmp6"));
            };
            self.field(field, text)?;
        }
        Ok(self.matches)
    }

    fn is_arp(&self) -> bool {
        matches!(self.eth_type, Some(0x0806 | 0x8035))
    }

    /// What a word of many meanings means with this ethertype and protocol.
    fn meaning(&self, key: &str) -> Option<Field> {
        let arp = self.is_arp();
        let v6 = self.eth_type == Some(0x86dd);
        Some(match (key, self.proto) {
            ("nw_src" | "ip_src", _) => {
                if arp {
                    Field::ArpSpa
                } else {
                    Field::Ipv4Src
                }
            }
            ("nw_dst" | "ip_dst", _) => {
                if arp {
                    Field::ArpTpa
                } else {
                    Field::Ipv4Dst
                }
            }
            ("tp_src", Some(6)) => Field::TcpSrc,
            ("tp_dst", Some(6)) => Field::TcpDst,
            ("tp_src", Some(17)) => Field::UdpSrc,
            ("tp_dst", Some(17)) => Field::UdpDst,
            ("tp_src", Some(132)) => Field::SctpSrc,
            ("tp_dst", Some(132)) => Field::SctpDst,
            ("icmp_type" | "tp_src", Some(58)) if v6 => Field::Icmpv6Type,
            ("icmp_code" | "tp_dst", Some(58)) if v6 => Field::Icmpv6Code,
            ("icmp_type" | "tp_src", Some(1)) => Field::Icmpv4Type,
            ("icmp_code" | "tp_dst", Some(1)) => Field::Icmpv4Code,
            _ => return None,
        })
    }

    fn field(&mut self, field: Field, text: &str) -> Result<(), ParseError> {
        match value::parse(field, text)? {
            Some((value, mask)) => self.set(field, text, value, mask),
            None => Ok(()),
        }
    }

    fn set(&mut self, field: Field, text: &str, value: u128, mask: u128) -> Result<(), ParseError> {
        self.matches
            .set(field, value, mask)
            .map_err(|error| ParseError::new(field.name(), text, error.to_string()))
    }

    fn vlan(&mut self, key: &str, text: &str) -> Result<(), ParseError> {
        let number = |bits| value::integer(text, bits).map_err(|reason| ParseError::new(key, text, reason));
        let (value, mask) = match key {
            "dl_vlan" => match number(16)? {
                // OpenFlow 1.0's "no VLAN".
                0xffff => (0, 0xffff),
                vid if vid <= 0xfff => (0x1000 | vid, 0x1fff),
                _ => return Err(ParseError::new(key, text, "does not fit 12 bits")),
            },
            "dl_vlan_pcp" => (0x1000 | number(3)? << 13, 0xf000),
            "vlan_pcp" => (number(3)? << 13, 0xe000),
            "vlan_vid" => match value::parse(Field::VlanVid, text)? {
                Some((value, mask)) if value <= 0x1fff => (value, mask & 0x1fff),
                Some(_) => return Err(ParseError::new(key, text, "does not fit 13 bits")),
                None => return Ok(()),
            },
            _ => match value::parse(Field::VlanTci, text)? {
                Some(parsed) => parsed,
                None => return Ok(()),
            },
        };
        self.tci = (self.tci.0 & !mask | value & mask, self.tci.1 | mask);
        Ok(())
    }

    /// `reg0[4..7]=5`: these bits, beside others that were given before.
    fn bits(&mut self, key: &str, text: &str) -> Result<(), ParseError> {
        let part = super::action_parse::subfield(key)?;
        let mask = ones(part.bits);
        let (value, mask) = match text.split_once('/') {
            None => (value::integer(text, part.bits), Ok(mask)),
            Some((value, mask)) => (value::integer(value, part.bits), value::integer(mask, part.bits)),
        };
        let value = value.map_err(|reason| ParseError::new(key, text, reason))? << part.offset;
        let mask = mask.map_err(|reason| ParseError::new(key, text, reason))? << part.offset;
        let (old_value, old_mask) = self.matches.get(part.field).unwrap_or_default();
        self.set(part.field, text, old_value & !mask | value & mask, old_mask | mask)
    }

    /// `oxm:class.number.experimenter[.mask]=0x…`, as this crate prints fields that it does not know.
    fn raw(&mut self, text: &str) -> Result<(), ParseError> {
        let bad = |reason: &str| ParseError::new("oxm", text, reason);
        let (name, payload) = text.split_once('=').ok_or_else(|| bad("has no value"))?;
        let mut parts = name.split('.');
        let mut number = |bits| {
            let part = parts.next().ok_or_else(|| bad("is not class.number.experimenter"))?;
            value::integer(part, bits).map_err(|reason| bad(&reason))
        };
        let header = OxmHeader {
            class: number(16)?.try_into().map_err(|_| bad("class does not fit 16 bits"))?,
            number: number(7)?.try_into().map_err(|_| bad("number does not fit 7 bits"))?,
            experimenter: number(32)?.try_into().map_err(|_| bad("experimenter does not fit 32 bits"))?,
        };
        let has_mask = parts.next() == Some("mask");
        let payload = value::parse_hex(payload).map_err(|reason| bad(&reason))?;
        self.matches
            .push_raw(RawOxm { header, has_mask, payload: &payload })
            .map_err(|error| bad(&error.to_string()))
    }
}
