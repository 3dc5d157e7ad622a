//! Frames as text: `tcp 10.0.0.1:40000>10.0.0.2:80 S`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::{FromStr, SplitWhitespace};

use policy::evaluator::{Detail, Fragment, IpPacket, Transport, Tuple};
use policy::{Ethertype, MacAddr, Policy, PortProtocol};

use crate::frame_words::{icmp_by_word, icmp_word, tcp_flags, tcp_flags_text};
use crate::sketch::{Arp, Body, CUSTOMER_TAG, Datagram, Part, SERVICE_TAG, Sketch, Tag};

/// The station that has every address no port has, `@router` in a frame's text.
pub const ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x99]);

/// Something that is no frame, with what is wrong about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct FrameError(String);

impl FrameError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What short forms in a frame's text stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    ports: BTreeMap<String, MacAddr>,
    stations: BTreeMap<IpAddr, MacAddr>,
}

impl Names {
    /// The ports of a policy by id, and by their fixed and link-local addresses.
    pub fn new(policy: &Policy) -> Self {
        let mut names = Self::default();
        for port in policy.ports.values() {
            names.ports.insert(port.id.to_string(), port.mac);
            let link_local = IpAddr::V6(port.mac.link_local());
            for ip in port.fixed_ips.iter().copied().chain([link_local]) {
                names.stations.entry(ip).or_insert(port.mac);
            }
        }
        names
    }

    /// Reads a frame that `sender` sends, a port's id; anybody else is a station of the network outside.
    ///
    /// # Errors
    /// The text is no frame.
    pub fn read(&self, sender: &str, text: &str) -> Result<Sketch, FrameError> {
        let mut reader = Reader { names: self, sender, words: text.split_whitespace(), next: None };
        reader.next = reader.words.next();
        reader.sketch()
    }

    fn mac(&self, word: &str) -> Result<MacAddr, FrameError> {
        match word.strip_prefix('@') {
            Some("router") => Ok(ROUTER),
            Some(port) => {
                self.ports.get(port).copied().ok_or_else(|| FrameError::new(format!("no port {port:?}")))
            }
            None if word == "broadcast" => Ok(MacAddr::BROADCAST),
            None => word.parse().map_err(|_| FrameError::new(format!("{word:?} is no MAC address"))),
        }
    }

    /// The station that frames to an address are sent to.
    fn station(&self, ip: IpAddr) -> MacAddr {
        match ip {
            IpAddr::V4(Ipv4Addr::BROADCAST) => MacAddr::BROADCAST,
            // RFC 1112, section 6.4: the low 23 bits.
            IpAddr::V4(ip) if ip.is_multicast() => {
                let [_, a, b, c] = ip.octets();
                MacAddr([0x01, 0x00, 0x5e, a & 0x7f, b, c])
            }
            // RFC 2464, section 7: the low 32 bits.
            IpAddr::V6(ip) if ip.is_multicast() => {
                let [.., a, b, c, d] = ip.octets();
                MacAddr([0x33, 0x33, a, b, c, d])
            }
            _ => self.stations.get(&ip).copied().unwrap_or(ROUTER),
        }
    }
}

/// Reads words from left to right, with one word of look-ahead.
struct Reader<'a> {
    names: &'a Names,
    sender: &'a str,
    words: SplitWhitespace<'a>,
    next: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn sketch(mut self) -> Result<Sketch, FrameError> {
        let mut tags = Vec::new();
        loop {
            let ethertype = match self.next {
                Some("vlan") => CUSTOMER_TAG,
                Some("svlan") => SERVICE_TAG,
                _ => break,
            };
            self.word("a tag")?;
            let vid = self.number("a VLAN id", 4095)?;
            tags.push(Tag { ethertype, vid: u16::try_from(vid).expect("at most 4095") });
        }
        let kind = self.word("a kind of frame")?;
        let ethernet = self.ethernet()?;
        let (default_dst, body) = match kind {
            "arp" => self.arp(ethernet)?,
            "rarp" => (MacAddr::BROADCAST, Body::Rarp),
            "ethertype" => {
                let number = self.number("an ethertype", 0xffff)?;
                (ROUTER, Body::Other(u16::try_from(number).expect("at most 0xffff")))
            }
            _ => {
                let datagram = self.datagram(kind)?;
                (self.names.station(datagram.packet.dst), Body::Ip(datagram))
            }
        };
        if let Some(word) = self.next {
            return Err(FrameError::new(format!("{word:?} is one word too many")));
        }
        let own = self.own_mac(match &body {
            Body::Ip(datagram) => Some(datagram.packet.src),
            _ => None,
        });
        let (eth_src, eth_dst) = ethernet.unwrap_or((own, default_dst));
        Ok(Sketch { eth_src, eth_dst, tags, body })
    }

    /// `MAC>MAC`, if it stands there.
    fn ethernet(&mut self) -> Result<Option<(MacAddr, MacAddr)>, FrameError> {
        let Some((src, dst)) = self.next.and_then(|word| word.split_once('>')) else { return Ok(None) };
        let is_mac =
            |text: &str| text.starts_with('@') || text == "broadcast" || text.parse::<MacAddr>().is_ok();
        if !is_mac(src) && !is_mac(dst) {
            return Ok(None);
        }
        self.word("addresses")?;
        Ok(Some((self.names.mac(src)?, self.names.mac(dst)?)))
    }

    /// The MAC that a sender uses if nothing else is said: a port its own, the outside that of the port that has the
    /// source address.
    fn own_mac(&self, src: Option<IpAddr>) -> MacAddr {
        let port = self.names.ports.get(self.sender).copied();
        port.unwrap_or_else(|| src.map_or(ROUTER, |src| self.names.station(src)))
    }

    /// `request|reply [sha=MAC] spa=IP [tha=MAC] tpa=IP`
    fn arp(&mut self, ethernet: Option<(MacAddr, MacAddr)>) -> Result<(MacAddr, Body), FrameError> {
        let op = match self.word("request or reply")? {
            "request" => 1,
            "reply" => 2,
            other => return Err(FrameError::new(format!("{other:?} is neither request nor reply"))),
        };
        let (mut sha, mut spa, mut tha, mut tpa) = (None, None, None, None);
        while let Some((key, value)) = self.next.and_then(|word| word.split_once('=')) {
            self.word("a field")?;
            match key {
                "sha" => sha = Some(self.names.mac(value)?),
                "tha" => tha = Some(self.names.mac(value)?),
                "spa" => spa = Some(parse(value, "IPv4 address")?),
                "tpa" => tpa = Some(parse(value, "IPv4 address")?),
                _ => return Err(FrameError::new(format!("ARP has no field {key:?}"))),
            }
        }
        let missing = |name| FrameError::new(format!("{name} is missing"));
        let (spa, tpa): (Ipv4Addr, Ipv4Addr) =
            (spa.ok_or_else(|| missing("spa"))?, tpa.ok_or_else(|| missing("tpa"))?);
        let target = if op == 1 { MacAddr::BROADCAST } else { self.names.station(tpa.into()) };
        let dst = ethernet.map_or(target, |(_, dst)| dst);
        let src = ethernet.map_or_else(|| self.own_mac(Some(spa.into())), |(src, _)| src);
        // RFC 826: a request does not know the target's address.
        let unknown = if op == 1 { MacAddr([0; 6]) } else { dst };
        let arp = Arp { op, sha: sha.unwrap_or(src), spa, tha: tha.unwrap_or(unknown), tpa };
        Ok((target, Body::Arp(arp)))
    }

    fn datagram(&mut self, kind: &str) -> Result<Datagram, FrameError> {
        let packet = match kind {
            "icmp" => self.icmp(Ethertype::Ipv4)?,
            "icmp6" => self.icmp(Ethertype::Ipv6)?,
            "proto" => {
                let protocol = self.number("a protocol", 255)?;
                let protocol = u8::try_from(protocol).expect("at most 255");
                let (src, dst) = self.addresses()?;
                let packet = whole(src, dst, protocol, Transport::None);
                if has_kind_of_its_own(&packet) {
                    return Err(FrameError::new(format!(
                        "protocol {protocol} has a kind of its own, or is an extension"
                    )));
                }
                packet
            }
            _ => self.ports(protocol_of(kind)?)?,
        };
        let mut datagram = Datagram { packet, extensions: Vec::new(), id: 1, part: None };
        while let Some(option) = self.next {
            match option {
                "id" => {
                    self.word("id")?;
                    let id = self.number("an identification", 0xffff)?;
                    datagram.id = u16::try_from(id).expect("at most 0xffff");
                }
                "ext" => {
                    self.word("ext")?;
                    let numbers = self.word("extension headers")?.split(',');
                    datagram.extensions =
                        numbers.map(|n| parse(n, "extension header")).collect::<Result<_, _>>()?;
                }
                "part" => {
                    self.word("part")?;
                    datagram.part = Some(self.word("a part")?.parse()?);
                }
                _ => break,
            }
        }
        if !datagram.extensions.is_empty() && packet.ethertype() == Ethertype::Ipv4 {
            return Err(FrameError::new("IPv4 has no extension headers"));
        }
        Ok(datagram)
    }

    /// `IP:PORT>IP:PORT [FLAGS]`
    fn ports(&mut self, protocol: PortProtocol) -> Result<IpPacket, FrameError> {
        let (src, dst) = self.sockets()?;
        let tcp_flags = match protocol {
            PortProtocol::Tcp => {
                let word = self.word("TCP flags")?;
                tcp_flags(word).ok_or_else(|| FrameError::new(format!("{word:?} are no TCP flags")))?
            }
            _ => 0,
        };
        let transport = Transport::Ports { src: src.port(), dst: dst.port(), tcp_flags };
        Ok(whole(src.ip(), dst.ip(), protocol.number(), transport))
    }

    /// `IP>IP TYPE/CODE [target IP] [about KIND IP:PORT>IP:PORT]`
    fn icmp(&mut self, family: Ethertype) -> Result<IpPacket, FrameError> {
        let (src, dst) = self.addresses()?;
        if src.is_ipv4() != (family == Ethertype::Ipv4) {
            return Err(FrameError::new("the addresses are of the other family"));
        }
        let word = self.word("type/code")?;
        let no_type = || FrameError::new(format!("{word:?} is no ICMP message"));
        let (icmp_type, code) = match word.split_once('/') {
            Some((icmp_type, code)) => (parse(icmp_type, "ICMP type")?, parse(code, "ICMP code")?),
            None => (icmp_by_word(family, word).ok_or_else(no_type)?, 0),
        };
        let (mut nd_target, mut quoted) = (None, None);
        if self.next == Some("target") {
            self.word("target")?;
            nd_target = Some(parse::<Ipv6Addr>(self.word("a target")?, "IPv6 address")?);
        }
        if self.next == Some("about") {
            self.word("about")?;
            quoted = Some(self.quoted(family)?);
        }
        let transport = Transport::Icmp { icmp_type, code, nd_target, quoted };
        Ok(whole(src, dst, family.icmp(), transport))
    }

    /// The packet that an ICMP error is about: `KIND IP:PORT>IP:PORT` or `icmp IP>IP TYPE/CODE`.
    fn quoted(&mut self, family: Ethertype) -> Result<Tuple, FrameError> {
        let kind = self.word("the kind of the quoted packet")?;
        let packet = match kind {
            "icmp" | "icmp6" => self.icmp(family)?,
            _ => {
                let protocol = protocol_of(kind)?;
                let (src, dst) = self.sockets()?;
                let transport = Transport::Ports { src: src.port(), dst: dst.port(), tcp_flags: 0 };
                whole(src.ip(), dst.ip(), protocol.number(), transport)
            }
        };
        if packet.ethertype() != family {
            return Err(FrameError::new("the quoted packet is of the other family"));
        }
        Ok(packet.tuple())
    }

    fn addresses(&mut self) -> Result<(IpAddr, IpAddr), FrameError> {
        let (src, dst) = split_pair(self.word("IP>IP")?)?;
        same_family(parse(src, "IP address")?, parse(dst, "IP address")?)
    }

    fn sockets(&mut self) -> Result<(SocketAddr, SocketAddr), FrameError> {
        let (src, dst) = split_pair(self.word("IP:PORT>IP:PORT")?)?;
        let (src, dst): (SocketAddr, SocketAddr) = (parse(src, "IP:PORT")?, parse(dst, "IP:PORT")?);
        same_family(src.ip(), dst.ip())?;
        Ok((src, dst))
    }

    fn number(&mut self, what: &str, most: u32) -> Result<u32, FrameError> {
        let word = self.word(what)?;
        let number = match word.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => word.parse().ok(),
        };
        number
            .filter(|n| *n <= most)
            .ok_or_else(|| FrameError::new(format!("{word:?} is not {what} (0 to {most})")))
    }

    fn word(&mut self, what: &str) -> Result<&'a str, FrameError> {
        let word = self.next.ok_or_else(|| FrameError::new(format!("{what} is missing at the end")))?;
        self.next = self.words.next();
        Ok(word)
    }
}

impl FromStr for Part {
    type Err = FrameError;

    /// `OFFSET+LENGTH/TOTAL`
    fn from_str(text: &str) -> Result<Self, FrameError> {
        let invalid = || FrameError::new(format!("{text:?} is no part OFFSET+LENGTH/TOTAL of a datagram"));
        let (span, total) = text.split_once('/').ok_or_else(invalid)?;
        let (offset, length) = span.split_once('+').ok_or_else(invalid)?;
        let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
        let part = Self { offset: number(offset)?, length: number(length)?, total: number(total)? };
        let end = part.offset.checked_add(part.length).ok_or_else(invalid)?;
        // RFC 791, section 3.2: all parts but the last are multiples of eight octets.
        let in_eights = part.offset.is_multiple_of(8) && (end == part.total || part.length.is_multiple_of(8));
        let is_part = part.length > 0 && part.length < part.total && end <= part.total;
        if in_eights && is_part { Ok(part) } else { Err(invalid()) }
    }
}

fn protocol_of(kind: &str) -> Result<PortProtocol, FrameError> {
    match kind {
        "tcp" => Ok(PortProtocol::Tcp),
        "udp" => Ok(PortProtocol::Udp),
        "sctp" => Ok(PortProtocol::Sctp),
        "dccp" => Ok(PortProtocol::Dccp),
        "udplite" => Ok(PortProtocol::UdpLite),
        _ => Err(FrameError::new(format!("{kind:?} is no kind of frame"))),
    }
}

/// Whether a packet of this protocol is written in another way than by its number.
fn has_kind_of_its_own(packet: &IpPacket) -> bool {
    let is_extension = packet.dst.is_ipv6() && [0, 43, 44, 51, 60].contains(&packet.protocol);
    let is_icmp = packet.protocol == packet.ethertype().icmp();
    is_extension || is_icmp || PortProtocol::from_number(packet.protocol).is_some()
}

fn protocol_word(protocol: u8) -> Option<&'static str> {
    Some(match PortProtocol::from_number(protocol)? {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
        PortProtocol::Sctp => "sctp",
        PortProtocol::Dccp => "dccp",
        PortProtocol::UdpLite => "udplite",
    })
}

fn whole(src: IpAddr, dst: IpAddr, protocol: u8, transport: Transport) -> IpPacket {
    IpPacket { src, dst, protocol, fragment: Fragment::No, transport }
}

fn split_pair(word: &str) -> Result<(&str, &str), FrameError> {
    word.split_once('>').ok_or_else(|| FrameError::new(format!("{word:?} is no pair FROM>TO")))
}

fn same_family(src: IpAddr, dst: IpAddr) -> Result<(IpAddr, IpAddr), FrameError> {
    match src.is_ipv4() == dst.is_ipv4() {
        true => Ok((src, dst)),
        false => Err(FrameError::new("the addresses are of two families")),
    }
}

fn parse<T: FromStr>(text: &str, what: &str) -> Result<T, FrameError> {
    text.parse().map_err(|_| FrameError::new(format!("{text:?} is no {what}")))
}

impl fmt::Display for Sketch {
    /// The frame's text, nothing left out, so that it reads back the same whoever sends it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tag in &self.tags {
            let word = if tag.ethertype == SERVICE_TAG { "svlan" } else { "vlan" };
            write!(f, "{word} {} ", tag.vid)?;
        }
        let ethernet = format_args!("{}>{}", self.eth_src, self.eth_dst).to_string();
        match &self.body {
            Body::Arp(Arp { op, sha, spa, tha, tpa }) => {
                let op = if *op == 1 { "request" } else { "reply" };
                write!(f, "arp {ethernet} {op} sha={sha} spa={spa} tha={tha} tpa={tpa}")
            }
            Body::Rarp => write!(f, "rarp {ethernet}"),
            Body::Other(number) => write!(f, "ethertype {ethernet} {number:#06x}"),
            Body::Ip(datagram) => datagram.write(f, &ethernet),
        }
    }
}

impl Datagram {
    fn write(&self, f: &mut fmt::Formatter<'_>, ethernet: &str) -> fmt::Result {
        let IpPacket { src, dst, protocol, transport, .. } = self.packet;
        match (transport, protocol_word(protocol)) {
            (Transport::Ports { src: sport, dst: dport, tcp_flags }, Some(kind)) => {
                let (src, dst) = (SocketAddr::new(src, sport), SocketAddr::new(dst, dport));
                write!(f, "{kind} {ethernet} {src}>{dst}")?;
                if kind == "tcp" {
                    write!(f, " {}", tcp_flags_text(tcp_flags))?;
                }
            }
            (Transport::Icmp { icmp_type, code, nd_target, quoted }, _) => {
                let family = self.packet.ethertype();
                write!(f, "{} {ethernet} {src}>{dst} ", icmp_kind(family))?;
                write_icmp_type(f, family, icmp_type, code)?;
                if let Some(target) = nd_target {
                    write!(f, " target {target}")?;
                }
                if let Some(quoted) = quoted {
                    write_quoted(f, family, &quoted)?;
                }
            }
            _ => write!(f, "proto {ethernet} {protocol} {src}>{dst}")?,
        }
        if !self.extensions.is_empty() {
            let numbers: Vec<String> = self.extensions.iter().map(u8::to_string).collect();
            write!(f, " ext {}", numbers.join(","))?;
        }
        if self.id != 1 {
            write!(f, " id {}", self.id)?;
        }
        match self.part {
            Some(Part { offset, length, total }) => write!(f, " part {offset}+{length}/{total}"),
            None => Ok(()),
        }
    }
}

fn icmp_kind(family: Ethertype) -> &'static str {
    match family {
        Ethertype::Ipv4 => "icmp",
        Ethertype::Ipv6 => "icmp6",
    }
}

fn write_icmp_type(f: &mut fmt::Formatter<'_>, family: Ethertype, icmp_type: u8, code: u8) -> fmt::Result {
    match icmp_word(family, icmp_type) {
        Some(word) if code == 0 => f.write_str(word),
        _ => write!(f, "{icmp_type}/{code}"),
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, family: Ethertype, quoted: &Tuple) -> fmt::Result {
    let Tuple { src, dst, protocol, detail } = *quoted;
    match (detail, protocol_word(protocol)) {
        (Detail::Ports { src: sport, dst: dport }, Some(kind)) => {
            write!(f, " about {kind} {}>{}", SocketAddr::new(src, sport), SocketAddr::new(dst, dport))
        }
        (Detail::Icmp { icmp_type, code }, _) => {
            write!(f, " about {} {src}>{dst} ", icmp_kind(family))?;
            write_icmp_type(f, family, icmp_type, code)
        }
        // A frame's text quotes nothing else.
        _ => Ok(()),
    }
}
