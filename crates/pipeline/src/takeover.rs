//! The flows of a take-over from Neutron's own driver: the same on every bridge, and there only while it lasts.
//!
//! That driver tracks connections in one zone a network, whose number is the VLAN. A packet in the middle of one of them is new in our port's zone. If it
//! is a reply, our rules would have to admit it from the wrong side, and tracked from there the connection would keep the wrong direction. So the
//! zone of the network is asked first. What it calls a reply is judged by the connection's own tuple, as in any policy table, and passes uncommitted;
//! what is of the connection's own direction, or new there too, is new to us as it is, and if admitted is committed with the direction that it has.
//!
//! A packet between two ports of one host is tracked six times so, and Open vSwitch in userspace lets none go round more often
//! (lib/dpif-netdev.c: `MAX_RECIRC_DEPTH`): our own zone is not asked again after the other.

use rust_openflow::{
    Action, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Ct, CtZone, Field, Flow, Match, Subfield,
};

use crate::flow::{Part, drop_as, flow, load, resubmit, track};
use crate::hook::Hook;
use crate::layout::{
    DropReason, FlowKind, egress_commit, egress_policy, egress_service, egress_state, egress_takeover,
    ingress_commit, ingress_policy, ingress_service, ingress_state, ingress_takeover, next, register,
};
use crate::port_flows::ethertype;
use crate::static_flows::{NEXT_DELIVER, NEXT_OUTPUT};

/// Values of `reg13`.
const NOT_ASKED: u8 = 0;
const REPLY: u8 = 1;
const ASKED: u8 = 2;

struct Half {
    state: u8,
    service: u8,
    policy: u8,
    reply_policy: u8,
    commit: u8,
    takeover: u8,
    next: u8,
}

const HALVES: [Half; 2] = [
    Half {
        state: egress_state::TABLE,
        service: egress_service::TABLE,
        policy: egress_policy::TABLE,
        reply_policy: ingress_policy::TABLE,
        commit: egress_commit::TABLE,
        takeover: egress_takeover::TABLE,
        next: NEXT_DELIVER,
    },
    Half {
        state: ingress_state::TABLE,
        service: ingress_service::TABLE,
        policy: ingress_policy::TABLE,
        reply_policy: egress_policy::TABLE,
        commit: ingress_commit::TABLE,
        takeover: ingress_takeover::TABLE,
        next: NEXT_OUTPUT,
    },
];

/// The tables in which Neutron's own driver has its rules (neutron_lib/plugins/ml2/ovs_constants.py: `BASE_EGRESS_TABLE` to
/// `ACCEPT_OR_INGRESS_TABLE`, `BASE_INGRESS_TABLE`, `RULES_INGRESS_TABLE`).
const NEUTRONS: [u8; 5] = [71, 72, 73, 81, 82];

/// Whether a switch is filtered by the rules of Neutron's own driver, with nothing of ours before them, or we have begun to take over from it.
pub fn is_to_be_taken_over(held: &[Flow]) -> bool {
    let is_in = |table: u8| held.iter().any(|flow| flow.table == table);
    let is_ours = || held.iter().any(|flow| Hook::Transient.is(flow));
    HALVES.map(|half| half.takeover).into_iter().any(is_in) || NEUTRONS.into_iter().any(is_in) && !is_ours()
}

pub(crate) fn takeover_flows() -> Vec<Flow> {
    HALVES.iter().flat_map(of_half).collect()
}

fn of_half(half: &Half) -> Vec<Flow> {
    let mut flows = Vec::new();
    let mut add = |table: u8, priority: u16, matches: Match, actions: Vec<Action>| {
        flows.push(flow((FlowKind::Static, 0), table, priority, matches, actions));
    };
    for number in [ethertype::IPV4, ethertype::IPV6] {
        let ip = || Match::new().with(Field::EthType, number);
        // Of a datagram in parts only the first shows ports: as a new one it is put together first.
        let new = |asked: u8| {
            let new =
                ip().with_mask(Field::CtState, CT_TRK | CT_NEW, CT_TRK | CT_NEW | CT_INV | CT_REL | CT_RPL);
            Part::Whole.of(new).with(register::TAKEOVER, asked)
        };
        let forget = load(register::TAKEOVER, NOT_ASKED);
        let go_on = vec![forget.clone(), load(register::NEXT, half.next), resubmit(half.service)];
        add(half.state, egress_state::ASKED, new(ASKED), go_on);
        add(half.state, egress_state::TAKEOVER, new(NOT_ASKED), vec![ask(half.takeover)]);
        let reply = CT_TRK | CT_EST | CT_RPL;
        // Of a connection that it has revoked that driver says so by a mark.
        let reply = ip().with_mask(Field::CtState, reply, reply | CT_INV).with(Field::CtMark, 0u8);
        let judge = vec![
            load(register::TAKEOVER, REPLY),
            load(register::NEXT, half.next),
            resubmit(half.reply_policy),
        ];
        add(half.takeover, egress_takeover::REPLY, reply, judge);
        let own = ip().with_mask(Field::CtState, CT_TRK, CT_TRK | CT_INV | CT_REL | CT_RPL);
        let as_new = vec![load(register::NEXT, half.next), resubmit(half.service)];
        add(half.takeover, egress_takeover::OWN, own, as_new);
        // What the old zone cannot make sense of may make sense in ours.
        let back = vec![load(register::TAKEOVER, ASKED), Action::CtClear, track(half.state)];
        add(half.takeover, egress_takeover::OTHER, ip(), back);
    }
    let revoked = Match::new().with_mask(Field::CtState, CT_TRK | CT_RPL, CT_TRK | CT_RPL | CT_INV);
    add(half.takeover, egress_takeover::REVOKED, revoked, drop_as(DropReason::Revoked));
    let is_reply = || Match::new().with(register::TAKEOVER, REPLY);
    add(half.policy, egress_policy::TAKEOVER_MISS, is_reply(), drop_as(DropReason::Revoked));
    let pass = vec![load(register::TAKEOVER, NOT_ASKED), resubmit(next::TABLE)];
    add(half.commit, egress_commit::TAKEOVER, is_reply(), pass);
    flows
}

/// Tracks the packet in the zone of its network.
fn ask(table: u8) -> Action {
    let zone = Subfield { field: register::VLAN, offset: 0, bits: 16 };
    Action::Ct(Ct { table: Some(table), zone: CtZone::Field(zone), ..Ct::default() })
}

/// One function writes both halves.
const _: () = {
    assert!(egress_state::ASKED == ingress_state::ASKED && egress_state::TAKEOVER == ingress_state::TAKEOVER);
    assert!(egress_policy::TAKEOVER_MISS == ingress_policy::TAKEOVER_MISS);
    assert!(egress_commit::TAKEOVER == ingress_commit::TAKEOVER);
    assert!(egress_takeover::REPLY == ingress_takeover::REPLY);
    assert!(egress_takeover::OWN == ingress_takeover::OWN);
    assert!(egress_takeover::REVOKED == ingress_takeover::REVOKED);
    assert!(egress_takeover::OTHER == ingress_takeover::OTHER);
};
