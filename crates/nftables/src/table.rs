//! Tables and chains.

use crate::name::{ChainId, TableId};

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Which one.
    pub id: TableId,
    /// It is there, but filters nothing (`NFT_TABLE_F_DORMANT`).
    pub is_dormant: bool,
    /// The kernel's number of it; 0 before it is made.
    pub handle: u64,
}

impl Table {
    /// A table that filters.
    pub fn new(id: TableId) -> Self {
        Table { id, is_dormant: false, handle: 0 }
    }
}

/// A chain of rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Which one.
    pub id: ChainId,
    /// Where packets come into it by themselves; none: only rules jump to it.
    pub base: Option<Base>,
    /// The kernel's number of it; 0 before it is made.
    pub handle: u64,
}

impl Chain {
    /// A chain that rules jump to.
    pub fn regular(id: ChainId) -> Self {
        Chain { id, base: None, handle: 0 }
    }

    /// A chain that packets come into by themselves.
    pub fn base(id: ChainId, base: Base) -> Self {
        Chain { id, base: Some(base), handle: 0 }
    }
}

/// Where packets come into a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// What the chain may do.
    pub kind: ChainKind,
    /// On the way of the packets.
    pub hook: Hook,
    /// Before chains of a higher one (`NF_IP_PRI_*`, in bridges `NF_BR_PRI_*`).
    pub priority: i32,
    /// What becomes of packets that no rule decides about.
    pub policy: Policy,
}

/// What a chain may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `route`: what it changes may lead a packet elsewhere.
    Route,
    /// Another one: `nat`.
    Other(String),
}

impl ChainKind {
    /// The kernel's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Route => "route",
            ChainKind::Other(other) => other,
        }
    }

    pub(crate) fn of(text: &str) -> Self {
        match text {
            "filter" => ChainKind::Filter,
            "route" => ChainKind::Route,
            other => ChainKind::Other(other.to_owned()),
        }
    }
}

/// Where on the way of packets (`NF_INET_*`, which `NF_BR_*` are equal to; those of ARP are numbered otherwise).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hook(pub u32);

impl Hook {
    /// What came in, before it is known whether it is for this host.
    pub const PREROUTING: Self = Self(0);
    /// What is for this host.
    pub const INPUT: Self = Self(1);
    /// What is passed on.
    pub const FORWARD: Self = Self(2);
    /// What this host sends.
    pub const OUTPUT: Self = Self(3);
    /// All that leaves.
    pub const POSTROUTING: Self = Self(4);
}

/// What becomes of packets that no rule decides about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// They are dropped.
    Drop,
    /// They pass.
    Accept,
}
