//! Connections as the kernel tracks them.

use std::fmt;
use std::net::IpAddr;

/// What the packets of one direction have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// What else tells them from others.
    pub ends: Ends,
}

/// What tells connections between the same addresses from each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ends {
    /// Ports: TCP, UDP, UDP-Lite, SCTP, DCCP; of GRE, its keys.
    Ports {
        /// Of the sender.
        source: u16,
        /// Of the receiver.
        destination: u16,
    },
    /// ICMP and ICMPv6: of a query.
    Icmp {
        /// Type of the messages in this direction.
        icmp_type: u8,
        /// Their code.
        code: u8,
        /// The identifier that query and answer share.
        id: u16,
    },
    /// Other protocols: nothing.
    Addresses,
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proto={} src={} dst={}", self.protocol, self.source, self.destination)?;
        match self.ends {
            Ends::Ports { source, destination } => write!(f, " sport={source} dport={destination}"),
            Ends::Icmp { icmp_type, code, id } => write!(f, " type={icmp_type} code={code} id={id}"),
            Ends::Addresses => Ok(()),
        }
    }
}

/// `enum ip_conntrack_status`, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Status(pub u32);

impl Status {
    /// There was an answer (`IPS_SEEN_REPLY`).
    pub const SEEN_REPLY: Status = Status(1 << 1);
    /// It is not given up early when the table is full (`IPS_ASSURED`).
    pub const ASSURED: Status = Status(1 << 2);
    /// Its first packet has gone out of the machine or to a process: it is in the table (`IPS_CONFIRMED`).
    pub const CONFIRMED: Status = Status(1 << 3);
    /// Another connection gave rise to it (`IPS_EXPECTED`).
    pub const EXPECTED: Status = Status(1);

    /// Whether all these bits are set.
    pub fn has(self, bits: Status) -> bool {
        self.0 & bits.0 == bits.0
    }
}

/// A tracked connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Its packets from who began it.
    pub original: Tuple,
    /// Its packets from the other side.
    pub reply: Tuple,
    /// Its zone; 0 without one.
    pub zone: u16,
    /// Where only packets of one direction have a zone (`CT --zone-orig`, `--zone-reply`): the directions, original and reply.
    pub zone_of: [bool; 2],
    /// What became of it.
    pub status: Status,
    /// Its mark; 0 without one.
    pub mark: u32,
    /// Its labels, bit 0 first; none where the kernel keeps none for it.
    pub labels: Option<u128>,
    /// Seconds until it is forgotten if nothing comes; none of one that is gone.
    pub timeout: Option<u32>,
    /// `enum tcp_conntrack`, of TCP.
    pub tcp_state: Option<u8>,
    /// Packets and bytes, of the original direction and of replies, where they are counted (`nf_conntrack_acct`).
    pub counters: [Option<(u64, u64)>; 2],
    /// The kernel's number for it. It is made of where the kernel holds it and of its addresses (net/netfilter/nf_conntrack_core.c:
    /// `nf_ct_get_id`), so that one with the same addresses that came later likely has another, but may have the same.
    pub id: Option<u32>,
}
