//! Actions and instructions as bytes (OpenFlow 1.4 §7.2.3 and §7.2.4; ovs-actions(7)).

mod action_decode;
mod action_encode;
mod instruction;

/// The experimenter id of Nicira's and Open vSwitch's extensions.
pub(crate) const NICIRA: u32 = 0x0000_2320;

/// Nesting that is believed; ovs-vswitchd gives up on less.
const MAX_DEPTH: usize = 32;

/// Types of OpenFlow 1.4 actions (§7.2.4), `OFPAT_*`.
mod kind {
    pub(super) const OUTPUT: u16 = 0;
    /// OpenFlow 1.1's, which Open vSwitch still takes.
    pub(super) const SET_VLAN_VID: u16 = 1;
    pub(super) const SET_VLAN_PCP: u16 = 2;
    pub(super) const DEC_MPLS_TTL: u16 = 16;
    pub(super) const PUSH_VLAN: u16 = 17;
    pub(super) const POP_VLAN: u16 = 18;
    pub(super) const PUSH_MPLS: u16 = 19;
    pub(super) const POP_MPLS: u16 = 20;
    pub(super) const SET_QUEUE: u16 = 21;
    pub(super) const GROUP: u16 = 22;
    pub(super) const DEC_NW_TTL: u16 = 24;
    pub(super) const SET_FIELD: u16 = 25;
    pub(super) const EXPERIMENTER: u16 = 0xffff;
}

/// Subtypes of Nicira actions, `NXAST_*` (ovs-actions(7), "Conformance" of each action).
mod nicira {
    pub(super) const RESUBMIT: u16 = 1;
    pub(super) const POP_QUEUE: u16 = 5;
    pub(super) const REG_MOVE: u16 = 6;
    pub(super) const REG_LOAD: u16 = 7;
    pub(super) const NOTE: u16 = 8;
    pub(super) const RESUBMIT_TABLE: u16 = 14;
    pub(super) const OUTPUT_REG: u16 = 15;
    pub(super) const EXIT: u16 = 17;
    pub(super) const CONTROLLER: u16 = 20;
    pub(super) const STACK_PUSH: u16 = 27;
    pub(super) const STACK_POP: u16 = 28;
    pub(super) const REG_LOAD2: u16 = 33;
    pub(super) const CONJUNCTION: u16 = 34;
    pub(super) const CT: u16 = 35;
    pub(super) const CONTROLLER2: u16 = 37;
    pub(super) const OUTPUT_TRUNC: u16 = 39;
    pub(super) const CLONE: u16 = 42;
    pub(super) const CT_CLEAR: u16 = 43;
    pub(super) const RESUBMIT_TABLE_CT: u16 = 44;
    pub(super) const CHECK_PKT_LARGER: u16 = 49;
}

/// Properties of `NXAST_CONTROLLER2`.
mod controller2 {
    pub(super) const MAX_LEN: u16 = 0;
    pub(super) const CONTROLLER_ID: u16 = 1;
    pub(super) const REASON: u16 = 2;
    pub(super) const USERDATA: u16 = 3;
    pub(super) const PAUSE: u16 = 4;
    pub(super) const METER_ID: u16 = 5;
}

/// Flags of `NXAST_CT`.
const CT_COMMIT: u16 = 1;
const CT_FORCE: u16 = 2;
/// "No table" in `NXAST_CT` and `NXAST_RESUBMIT_TABLE`.
const NO_TABLE: u8 = 255;
