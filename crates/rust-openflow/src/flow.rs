//! Flow entries.

use crate::action::{Action, canonical};
use crate::flow_match::Match;

/// A flow entry, as a switch holds it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// The table, 0..=254.
    pub table: u8,
    /// The priority; higher wins. 32768 is what ovs-ofctl leaves out.
    pub priority: u16,
    /// The cookie, opaque to the switch.
    pub cookie: u64,
    /// What it matches.
    pub matches: Match,
    /// What it does; empty drops.
    pub actions: Vec<Action>,
    /// Time-outs and flags, all unset as a rule.
    pub options: FlowOptions,
}

/// What identifies a flow in a switch: two flows with the same key are the same flow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowKey {
    /// The table.
    pub table: u8,
    /// The priority.
    pub priority: u16,
    /// What it matches.
    pub matches: Match,
}

/// The seldom-used properties of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowOptions {
    /// Seconds without a packet until it expires, 0 never.
    pub idle_timeout: u16,
    /// Seconds until it expires, 0 never.
    pub hard_timeout: u16,
    /// Eviction precedence, 0 the least.
    pub importance: u16,
    /// `OFPFF_*` flags.
    pub flags: FlowFlags,
}

/// `OFPFF_*` flags of a flow (OpenFlow 1.4 §7.3.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowFlags(pub u16);

impl FlowFlags {
    /// Tell the controller when it is removed.
    pub const SEND_FLOW_REM: FlowFlags = FlowFlags(1);
    /// Refuse it if it overlaps another of the same priority.
    pub const CHECK_OVERLAP: FlowFlags = FlowFlags(2);
    /// Set its counters to zero.
    pub const RESET_COUNTS: FlowFlags = FlowFlags(4);
    /// Do not count packets.
    pub const NO_PACKET_COUNTS: FlowFlags = FlowFlags(8);
    /// Do not count bytes.
    pub const NO_BYTE_COUNTS: FlowFlags = FlowFlags(16);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub fn contains(self, other: FlowFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags of both.
    #[must_use]
    pub fn with(self, other: FlowFlags) -> FlowFlags {
        FlowFlags(self.0 | other.0)
    }
}

/// A flow's counters and age.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowStats {
    /// Time since it was added, seconds.
    pub duration_s: u32,
    /// The rest of that time, nanoseconds.
    pub duration_ns: u32,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Flow {
    /// ovs-ofctl's default priority.
    pub const DEFAULT_PRIORITY: u16 = 0x8000;

    /// A flow without cookie, time-outs and flags.
    #[must_use]
    pub fn new(table: u8, priority: u16, matches: Match, actions: Vec<Action>) -> Self {
        Flow { table, priority, cookie: 0, matches, actions, options: FlowOptions::default() }
    }

    /// The same flow with a cookie.
    #[must_use]
    pub fn with_cookie(self, cookie: u64) -> Self {
        Flow { cookie, ..self }
    }

    /// What identifies the flow in a switch.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey { table: self.table, priority: self.priority, matches: self.matches.clone() }
    }

    /// The same flow with its actions in the form to compare, see [`Action::canonical`].
    #[must_use]
    pub fn canonical(self) -> Self {
        Flow { actions: canonical(self.actions), ..self }
    }
}
