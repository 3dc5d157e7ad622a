//! What a proof cannot follow.

use rust_openflow::Field;

use super::space::Exhausted;

/// The tables do something that has no proof, right or wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// A flow looks at what nothing has written on the packet's way there.
    #[error("a flow matches {0:?}, which nothing wrote on the way there")]
    Unset(Field),
    /// A field of the packet itself is used as a number.
    #[error("{0:?} of the packet itself is copied")]
    Copied(Field),
    /// A field of the packet itself is written.
    #[error("{0:?} of the packet itself is rewritten")]
    Rewritten(Field),
    /// An action that no flow of sgflow's has.
    #[error("an action that a proof does not follow")]
    Action,
    /// Flows of one priority match the same packets and do different things.
    #[error("table {table}: which of these is found is not defined: {}", flows.join(" | "))]
    Ambiguous {
        /// The table.
        table: u8,
        /// Two of the flows, as ovs-ofctl prints them.
        flows: Vec<String>,
    },
    /// A conjunction is complete for packets for which its `conj_id` flow is missing.
    #[error("table {table}: conjunction {conjunction} leads nowhere")]
    Conjunction {
        /// The table.
        table: u8,
        /// Its number.
        conjunction: u32,
    },
    /// Resubmits go round and round.
    #[error("resubmits nest deeper than {}", crate::MAX_DEPTH)]
    TooDeep,
    /// A frame that is for one port is turned to another after it was tracked.
    #[error("a flow behind the tracker writes `reg5`, the receiving port")]
    Redirected,
    /// The sets of packets do not fit.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}
