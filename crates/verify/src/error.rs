//! What cannot be followed, and what has no single result.

use rust_openflow::Field;

use crate::packet::NoTag;

/// A flow that the switch would refuse, or that this crate cannot follow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{flow}: {fault}")]
pub struct RefusedFlow {
    /// The flow as ovs-ofctl prints it.
    pub flow: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A match field that rust-openflow does not know.
    #[error("it matches a field of unknown meaning")]
    UnknownField,
    /// ovs-fields(7), "Prerequisites": the switch answers `OFPBMC_BAD_PREREQ`.
    #[error("it matches {0:?} without its prerequisites")]
    Prerequisite(Field),
    /// An action that the interpreter does not follow.
    #[error("it has an action that is not followed here")]
    Action,
    /// ovs-actions(7), "ct": "only in a flow that matches IPv4 or IPv6", else `OFPBAC_MATCH_INCONSISTENT`.
    #[error("it tracks connections of packets that may not be IP")]
    CtWithoutIp,
    /// ovs-actions(7), "conjunction": beside it only notes; 2 to 64 clauses, counted from 1, as many in every flow.
    #[error("its conjunction is malformed")]
    Conjunction,
    /// A second flow of the same table, priority and match: the switch would keep one of them.
    #[error("another flow has the same table, priority and match")]
    Duplicate,
}

/// Why a packet has no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// Flows of one priority match and do different things, or two conjunctions are complete and lead to different
    /// things: "unpredictable results" (ovs-fields(7), "Conjunctive Match Fields").
    #[error("table {table}: which of these is found is not defined: {}", flows.join(" | "))]
    Ambiguous {
        /// The table.
        table: u8,
        /// The flows, as ovs-ofctl prints them.
        flows: Vec<String>,
    },
    /// ovs-actions(7), "Too many resubmits".
    #[error("more than {} resubmits", crate::MAX_RESUBMITS)]
    TooManyResubmits,
    /// ovs-actions(7), "Recursion too deep".
    #[error("resubmits to the same or an earlier table nest deeper than {}", crate::MAX_DEPTH)]
    TooDeep,
    /// The userspace datapath looks a packet up again after `ct` so many times (3.1).
    #[error("tracked and looked up again more than {} times", crate::MAX_RECIRCULATIONS)]
    TooManyRecirculations,
    /// A flow of a switch on which others write.
    #[error("{flow}: {fault}")]
    Unfollowed {
        /// The flow, as ovs-ofctl prints it.
        flow: String,
        /// Why it cannot be followed.
        fault: Fault,
    },
    /// A tag's field was written where there is no tag.
    #[error(transparent)]
    NoTag(#[from] NoTag),
}
