//! What a flow does: actions, and the instructions around them, in one list as ovs-ofctl writes them.

use crate::field::Field;
use crate::port::PortNo;

/// A run of bits of a field: `NXM_NX_REG8[0..15]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// The lowest bit, 0 the least significant.
    pub offset: u16,
    /// How many bits.
    pub bits: u16,
}

impl Subfield {
    /// Bits `offset..offset + bits` of `field`.
    #[must_use]
    pub fn new(field: Field, offset: u16, bits: u16) -> Self {
        Subfield { field, offset, bits }
    }

    /// All of a field.
    #[must_use]
    pub fn whole(field: Field) -> Self {
        Subfield { field, offset: 0, bits: field.subfield_bits() }
    }
}

/// An action or instruction (ovs-actions(7)).
///
/// OpenFlow's instructions stand in the same list: everything else is in "apply actions"; `Meter`,
/// `ClearActions`, `WriteActions`, `WriteMetadata` and `Goto` are instructions of their own. An empty list
/// drops.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Send to a port; to `CONTROLLER`, the whole packet.
    Output(PortNo),
    /// Send to the controller, by the standard action, the beginning of the packet: `CONTROLLER:128`. For
    /// other ports the length has no meaning, but some senders set it.
    OutputMaxLen {
        /// The port, `CONTROLLER` as a rule.
        port: PortNo,
        /// Bytes of the packet to send.
        max_len: u16,
    },
    /// Send to the port whose number a field holds.
    OutputReg(Subfield),
    /// Send to a port, cut to a length: `output(port=…,max_len=…)`.
    OutputTrunc {
        /// The port.
        port: PortNo,
        /// Bytes to keep, at least 14.
        max_len: u32,
    },
    /// Hand to a group.
    Group(u32),
    /// Send to the controller by the Nicira action.
    Controller(Controller),
    /// Look the packet up in a table again, and come back.
    Resubmit {
        /// The ingress port to look up with; `None` is the packet's own.
        port: Option<PortNo>,
        /// The table; `None` is the table this flow is in.
        table: Option<u8>,
        /// Swap the packet's addresses for those of the connection's original direction during the lookup.
        ct: bool,
    },
    /// Set bits of a field: `set_field:` whole, or with a mask. This is the canonical form; [`Action::Load`]
    /// is the same effect in older bytes.
    SetField {
        /// The field.
        field: Field,
        /// The value, within the mask.
        value: u128,
        /// The bits that are set; [`Field::full_mask`] is the whole field.
        mask: u128,
    },
    /// Set a run of bits by the Nicira action `load:`. Kept apart from `SetField` because Open vSwitch keeps,
    /// sends and prints it apart; [`Action::canonical`] makes it a `SetField`.
    Load {
        /// The bits to set, at most 64.
        dst: Subfield,
        /// Their value.
        value: u64,
    },
    /// Copy bits from field to field; both have as many bits.
    Move {
        /// Where from.
        src: Subfield,
        /// Where to.
        dst: Subfield,
    },
    /// Push bits to the stack.
    Push(Subfield),
    /// Pop bits from the stack.
    Pop(Subfield),
    /// Send through the connection tracker.
    Ct(Ct),
    /// Make the packet untracked.
    CtClear,
    /// Part of a conjunctive match: the flow stands for clause `clause` of conjunction `id`.
    Conjunction {
        /// The conjunction, as `conj_id` matches it.
        id: u32,
        /// The clause, from 1, as in text.
        clause: u8,
        /// Clauses of the conjunction, 2 to 64.
        n_clauses: u8,
    },
    /// Bytes that the switch keeps and does not act on. The wire pads them with zeros to 6, 14, 22, … bytes,
    /// and so they come back: [`Action::note`] pads at once.
    Note(Vec<u8>),
    /// Run actions on a copy of the packet.
    Clone(Vec<Action>),
    /// Push a VLAN tag with this ethertype, 0x8100 or 0x88a8.
    PushVlan(u16),
    /// Pop the outermost VLAN tag.
    PopVlan,
    /// The old action that sets the VLAN id.
    SetVlanVid(u16),
    /// The old action that sets the VLAN priority.
    SetVlanPcp(u8),
    /// Push an MPLS label with this ethertype.
    PushMpls(u16),
    /// Pop an MPLS label; what is below has this ethertype.
    PopMpls(u16),
    /// Decrement the TTL or hop limit.
    DecTtl,
    /// Decrement the MPLS TTL.
    DecMplsTtl,
    /// Choose a queue for the output actions that follow.
    SetQueue(u32),
    /// Back to the port's own queue.
    PopQueue,
    /// Stop processing the packet.
    Exit,
    /// Compare the packet's length: sets one bit.
    CheckPktLarger {
        /// Length in bytes.
        pkt_len: u16,
        /// The bit that becomes 1 if the packet is longer.
        dst: Subfield,
    },
    /// Instruction: meter.
    Meter(u32),
    /// Instruction: empty the action set.
    ClearActions,
    /// Instruction: add to the action set.
    WriteActions(Vec<Action>),
    /// Instruction: write metadata.
    WriteMetadata {
        /// The value.
        value: u64,
        /// Bits to write.
        mask: u64,
    },
    /// Instruction: go on in a later table.
    Goto(u8),
    /// An action that this crate does not know, `nat` among them.
    Unknown(RawAction),
    /// An instruction that this crate does not know.
    UnknownInstruction(RawAction),
}

/// An action or instruction as it stood on the wire, header included.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RawAction(pub(crate) Box<[u8]>);

impl RawAction {
    /// All bytes: type, length, body, padding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The Nicira `controller` action.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Controller {
    /// Bytes of the packet to send; 65535 is all of it.
    pub max_len: u16,
    /// The controllers to send to: those that chose this id.
    pub id: u16,
    /// `OFPR_*` to give; 1 is `action`, the default.
    pub reason: u8,
    /// Bytes that the packet-in carries.
    pub userdata: Vec<u8>,
    /// The meter that limits it, if not the switch's own.
    pub meter: Option<u32>,
    /// Stop the packet until the controller resumes it.
    pub pause: bool,
}

impl Controller {
    /// `OFPR_ACTION`: sent by an action.
    pub const REASON_ACTION: u8 = 1;
}

impl Default for Controller {
    fn default() -> Self {
        Controller {
            max_len: u16::MAX,
            id: 0,
            reason: Self::REASON_ACTION,
            userdata: Vec::new(),
            meter: None,
            pause: false,
        }
    }
}

/// The `ct` action.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ct {
    /// Commit the connection.
    pub commit: bool,
    /// Commit it even against an entry of the other direction.
    pub force: bool,
    /// The zone.
    pub zone: CtZone,
    /// Where the tracked packet goes on; `None`: it does not.
    pub table: Option<u8>,
    /// Port of the protocol whose helper is wanted (21 ftp, 69 tftp), 0 none.
    pub alg: u16,
    /// What is run in the tracker's context: `nat` (kept as bytes), and setting of mark and label.
    pub exec: Vec<Action>,
}

/// Where the zone of a `ct` action comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CtZone {
    /// This zone.
    Imm(u16),
    /// The zone in 16 bits of a field.
    Field(Subfield),
}

impl Default for CtZone {
    fn default() -> Self {
        CtZone::Imm(0)
    }
}

impl Action {
    /// Sets all of a field.
    #[must_use]
    pub fn set_field(field: Field, value: impl Into<u128>) -> Self {
        Action::SetField { field, value: value.into(), mask: field.full_mask() }
    }

    /// `resubmit(,table)`.
    #[must_use]
    pub fn resubmit(table: u8) -> Self {
        Action::Resubmit { port: None, table: Some(table), ct: false }
    }

    /// A note, padded as the switch will give it back.
    #[must_use]
    pub fn note(bytes: impl Into<Vec<u8>>) -> Self {
        let mut bytes = bytes.into();
        bytes.resize(note_length(bytes.len()), 0);
        Action::Note(bytes)
    }

    /// The same effect in the form to compare: `load` as a masked or whole `set_field`, notes padded, values
    /// cut to their masks; in nested actions too.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Action::Load { dst, value } => {
                let run =
                    crate::field::ones(dst.bits.min(128)).checked_shl(u32::from(dst.offset)).unwrap_or(0);
                let value = u128::from(value).checked_shl(u32::from(dst.offset)).unwrap_or(0);
                let whole = dst == Subfield::whole(dst.field);
                let mask = if whole { dst.field.full_mask() } else { run };
                Action::SetField { field: dst.field, value: value & mask, mask }
            }
            Action::SetField { field, value, mask } => Action::SetField { field, value: value & mask, mask },
            Action::Note(bytes) => Action::note(bytes),
            Action::Clone(actions) => Action::Clone(canonical(actions)),
            Action::WriteActions(actions) => Action::WriteActions(canonical(actions)),
            Action::Ct(ct) => Action::Ct(Ct { exec: canonical(ct.exec), ..ct }),
            other => other,
        }
    }

    /// Whether this is an instruction of its own, outside "apply actions".
    #[must_use]
    pub fn is_instruction(&self) -> bool {
        matches!(
            self,
            Action::Meter(_)
                | Action::ClearActions
                | Action::WriteActions(_)
                | Action::WriteMetadata { .. }
                | Action::Goto(_)
                | Action::UnknownInstruction(_)
        )
    }
}

pub(crate) fn canonical(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().map(Action::canonical).collect()
}

/// Bytes of a note with its padding: the action's header has 10, the whole a multiple of 8, at least 16.
pub(crate) fn note_length(bytes: usize) -> usize {
    (bytes + 10).next_multiple_of(8).max(16) - 10
}
