//! A rule as nftables has it: what is asked of a packet, and where it goes. Its text is in the words of nft(8), which makes of it exactly
//! what the agent tells the kernel.

use std::fmt;

use ipnet::IpNet;
use policy::{Direction, Ethertype, MacAddr, PortRange};

use crate::mark::{BEGUN_BY_PORT, FROM_PORT};

/// A rule of a chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NftRule {
    /// All of these hold.
    pub matches: Vec<Match>,
    /// What becomes of the packet then.
    pub then: Then,
    /// Whose it is.
    pub comment: Option<String>,
}

/// Something that is asked of a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Match {
    /// It is of this family.
    Family(Ethertype),
    /// It goes this way, seen from the port.
    Way(Direction),
    /// It is a part of a datagram, and not the first one.
    LaterPart(Ethertype),
    /// Its protocol in IP, behind extension headers.
    Protocol(u8),
    /// Its destination port, of the protocols that have one.
    Port(PortRange),
    /// Type of ICMP.
    IcmpType(u8),
    /// Type and code of ICMP.
    IcmpTypeAndCode(u8, u8),
    /// The remote's address lies in a prefix.
    Remote(Direction, IpNet),
    /// It is in a set.
    RemoteInSet(Direction, Ethertype, String),
    /// Its connection began this way, seen from the port.
    Begun(Direction),
    /// The remote's address, as its connection that began this way has it, lies in a prefix. An error that is told of a connection has that one's,
    /// wherever it comes from.
    ConnectionsRemote(Direction, IpNet),
    /// The remote's hardware address.
    RemoteMac(Direction, MacAddr),
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Then {
    /// The rules of a chain, and then the next rule.
    Jump(String),
    /// The rules of a chain, and then what comes behind the one that led here.
    Goto(String),
    /// Back to what jumped here.
    Return,
}

/// nft(8) takes no longer comment (`NFTNL_UDATA_COMMENT_MAXLEN`, with the NUL).
const LONGEST_COMMENT: usize = 127;

/// A text that nft(8) can read again between quotes, for which it has no escapes.
pub(super) fn comment(text: &str) -> Option<String> {
    let is_kept = |c: &char| (c.is_ascii_graphic() || *c == ' ') && !"\"\\".contains(*c);
    let text: String = text.chars().filter(is_kept).take(LONGEST_COMMENT).collect();
    (!text.is_empty()).then_some(text)
}

impl NftRule {
    /// It asks what stands in the first part of a datagram alone.
    pub(super) fn is_of_first_part(&self) -> bool {
        let is_of =
            |part: &Match| matches!(part, Match::Port(_) | Match::IcmpType(_) | Match::IcmpTypeAndCode(..));
        self.matches.iter().any(is_of)
    }
}

impl fmt::Display for NftRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.matches {
            write!(f, "{part} ")?;
        }
        write!(f, "{}", self.then)?;
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Family(Ethertype::Ipv4) => write!(f, "meta nfproto ipv4"),
            Match::Family(Ethertype::Ipv6) => write!(f, "meta nfproto ipv6"),
            Match::Way(Direction::Ingress) => write!(f, "meta mark & {FROM_PORT:#010x} == 0"),
            Match::Way(Direction::Egress) => write!(f, "meta mark & {FROM_PORT:#010x} != 0"),
            Match::LaterPart(Ethertype::Ipv4) => write!(f, "ip frag-off & 0x1fff != 0"),
            Match::LaterPart(Ethertype::Ipv6) => write!(f, "frag frag-off != 0"),
            Match::Protocol(number) => write!(f, "meta l4proto {number}"),
            Match::Port(PortRange { min, max }) if min == max => write!(f, "th dport {min}"),
            Match::Port(PortRange { min, max }) => write!(f, "th dport {min}-{max}"),
            Match::IcmpType(icmp_type) => write!(f, "@th,0,8 {icmp_type}"),
            Match::IcmpTypeAndCode(icmp_type, code) => {
                write!(f, "@th,0,16 {}", u16::from_be_bytes([*icmp_type, *code]))
            }
            Match::Remote(direction, net) => {
                write!(f, "{} {} ", family(Ethertype::of(net)), end(*direction))?;
                match net.prefix_len() == net.max_prefix_len() {
                    true => write!(f, "{}", net.addr()),
                    false => write!(f, "{net}"),
                }
            }
            Match::RemoteInSet(direction, ethertype, set) => {
                write!(f, "{} {} @{set}", family(*ethertype), end(*direction))
            }
            Match::Begun(Direction::Ingress) => write!(f, "ct mark & {BEGUN_BY_PORT:#010x} == 0"),
            Match::Begun(Direction::Egress) => write!(f, "ct mark & {BEGUN_BY_PORT:#010x} != 0"),
            Match::ConnectionsRemote(direction, net) => {
                write!(f, "ct original {} {} {net}", family(Ethertype::of(net)), end(*direction))
            }
            Match::RemoteMac(direction, mac) => write!(f, "ether {} {mac}", end(*direction)),
        }
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Then::Jump(chain) => write!(f, "jump {chain}"),
            Then::Goto(chain) => write!(f, "goto {chain}"),
            Then::Return => write!(f, "return"),
        }
    }
}

fn family(ethertype: Ethertype) -> &'static str {
    match ethertype {
        Ethertype::Ipv4 => "ip",
        Ethertype::Ipv6 => "ip6",
    }
}

/// The remote is the source of what comes to the port.
fn end(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    }
}
