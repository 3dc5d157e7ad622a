//! The flows that are the same on every bridge: what the law says of every port alike.

use std::collections::BTreeSet;

use rust_openflow::{Action, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Field, Flow, Match, Subfield};

use crate::address::group_addressed;
use crate::flow::{Part, commit, drop_as, flow, load, resubmit, track};
use crate::layout::{
    self, DropReason, FlowKind, classify, deliver, egress_base, egress_commit, egress_ip, egress_packet,
    egress_policy, egress_service, egress_source, egress_state, fragments, ingress_base, ingress_commit,
    ingress_packet, ingress_policy, ingress_service, ingress_state, network, next, output, register,
};
use crate::network::{TPID_CVLAN, TPID_SVLAN};
use crate::port_flows::{NEIGHBOUR_ADVERTISEMENT, TCI_PRESENT, TCI_VID, ethertype, icmpv6};
use crate::renderer::Config;

/// Values of `reg9`.
pub(crate) const NEXT_DELIVER: u8 = 1;
pub(crate) const NEXT_OUTPUT: u8 = 2;

/// Values of `reg12`.
pub(crate) const MODE_EVERY_RULE: u8 = 0;
pub(crate) const MODE_STATELESS: u8 = 1;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
/// MLD query, report, done and MLDv2 report (RFC 2710, RFC 3810).
const MLD: [u8; 4] = [130, 131, 132, 143];
const SCTP: u8 = 132;

/// Open vSwitch takes a `ct` action only in a flow that matches IPv4 or IPv6 (`OFPBAC_MATCH_INCONSISTENT`).
const IP: [u16; 2] = [ethertype::IPV4, ethertype::IPV6];

/// Collects flows of kind `static`.
struct Flows(Vec<Flow>);

impl Flows {
    fn add(&mut self, table: u8, priority: u16, matches: Match, actions: Vec<Action>) {
        self.0.push(flow((FlowKind::Static, 0), table, priority, matches, actions));
    }
}

pub(crate) fn static_flows(config: &Config) -> Vec<Flow> {
    let Config { permitted_ethertypes, hook } = config;
    let mut flows = Flows(vec![hook.flow()]);
    flows.add(classify::TABLE, classify::CLOSED, Match::new(), drop_as(DropReason::NoPolicy));
    tags_and_macs(&mut flows);
    sources(&mut flows, permitted_ethertypes);
    egress_without_rules(&mut flows);
    ingress_without_rules(&mut flows, permitted_ethertypes);
    for half in [&EGRESS, &INGRESS] {
        packet(&mut flows, half);
        state(&mut flows, half);
        policy(&mut flows, half);
    }
    delivery(&mut flows);
    flows.0
}

/// What the two halves have in common, and where each of them does it.
struct Half {
    packet: u8,
    state: u8,
    service: u8,
    policy: u8,
    commit: u8,
    next: u8,
    /// The policy that a reply is judged by: the other direction's.
    reply_policy: u8,
    /// A frame that leaves a port may have been tracked before, in another zone.
    clear_first: bool,
}

const EGRESS: Half = Half {
    packet: egress_packet::TABLE,
    state: egress_state::TABLE,
    service: egress_service::TABLE,
    policy: egress_policy::TABLE,
    commit: egress_commit::TABLE,
    next: NEXT_DELIVER,
    reply_policy: ingress_policy::TABLE,
    clear_first: true,
};

const INGRESS: Half = Half {
    packet: ingress_packet::TABLE,
    state: ingress_state::TABLE,
    service: ingress_service::TABLE,
    policy: ingress_policy::TABLE,
    commit: ingress_commit::TABLE,
    next: NEXT_OUTPUT,
    reply_policy: egress_policy::TABLE,
    clear_first: false,
};

impl Half {
    /// To conntrack, in mode 0 whatever was asked before.
    fn track(&self) -> Vec<Action> {
        let clear = self.clear_first.then_some(Action::CtClear);
        clear.into_iter().chain([track(self.state)]).collect()
    }
}

fn ip(number: u16) -> Match {
    Match::new().with(Field::EthType, number)
}

fn udp(number: u16, from: u16, to: u16) -> Match {
    ip(number).with(Field::IpProto, 17u8).with(Field::UdpSrc, from).with(Field::UdpDst, to)
}

fn tagged() -> Match {
    Match::new().with_mask(Field::VlanTci, TCI_PRESENT, TCI_PRESENT)
}

/// `set` bits are 1, `clear` bits are 0; the others may be either.
fn ct(set: u32, clear: u32) -> Match {
    with_ct(Match::new(), set, clear)
}

fn with_ct(matches: Match, set: u32, clear: u32) -> Match {
    matches.with_mask(Field::CtState, set, set | clear)
}

/// Semantics, egress 0 and 1.
fn tags_and_macs(flows: &mut Flows) {
    let table = egress_base::TABLE;
    let priority_tag = Match::new().with_mask(Field::VlanTci, TCI_PRESENT, TCI_PRESENT | TCI_VID);
    flows.add(table, egress_base::PRIORITY_TAG, priority_tag, vec![Action::PopVlan, resubmit(table)]);
    flows.add(table, egress_base::TAGGED, tagged(), drop_as(DropReason::Vlan));
    // What stands behind a stripped VID 0 or an 802.1ad tag that the switch does not look into is a tag too.
    for tpid in [TPID_CVLAN, TPID_SVLAN] {
        let inner = ip(tpid).with_mask(Field::VlanTci, 0u16, TCI_PRESENT);
        flows.add(table, egress_base::TAGGED, inner, drop_as(DropReason::Vlan));
    }
    flows.add(table, egress_base::SPOOFED_MAC, Match::new(), drop_as(DropReason::SpoofedMac));
}

/// Semantics, egress 2 to 5, as far as it does not depend on the port.
fn sources(flows: &mut Flows, permitted_ethertypes: &BTreeSet<u16>) {
    let table = egress_source::TABLE;
    let ipv6 = || ip(ethertype::IPV6);
    let accept = || vec![resubmit(deliver::TABLE)];
    // RFC 6980 and RFC 7113: discovery in fragments goes round every check that reads it.
    for kind in [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
        let reason = match kind {
            ROUTER_ADVERTISEMENT => DropReason::RouterAdvertisement,
            _ => DropReason::SpoofedNd,
        };
        let fragment = Part::Any.of(icmpv6(ipv6(), kind));
        flows.add(table, egress_source::ND_FRAGMENT, fragment, drop_as(reason));
    }
    for (unread, reason) in unread_headers() {
        flows.add(table, egress_source::ND_FRAGMENT, unread, drop_as(reason));
    }
    let request = udp(ethertype::IPV4, 68, 67).with(Field::Ipv4Src, 0u8);
    flows.add(table, egress_source::SETTLED, request, accept());
    for reply in [udp(ethertype::IPV4, 67, 68), udp(ethertype::IPV6, 547, 546)] {
        flows.add(table, egress_source::SETTLED, reply, drop_as(DropReason::DhcpServer));
    }
    let advertisement = icmpv6(ipv6(), ROUTER_ADVERTISEMENT);
    flows.add(table, egress_source::SETTLED, advertisement, drop_as(DropReason::RouterAdvertisement));
    for kind in solicitations() {
        let unspecified = icmpv6(ipv6(), kind).with(Field::Ipv6Src, 0u8);
        flows.add(table, egress_source::SETTLED, unspecified, accept());
    }
    let nobodys = icmpv6(ipv6(), NEIGHBOUR_ADVERTISEMENT);
    flows.add(table, egress_source::SPOOFED_ND, nobodys, drop_as(DropReason::SpoofedNd));
    let family = egress_source::FAMILY;
    flows.add(table, family, ip(ethertype::RARP), accept());
    flows.add(table, family, ip(ethertype::ARP), drop_as(DropReason::SpoofedArp));
    flows.add(table, family, ip(ethertype::IPV4), drop_as(DropReason::SpoofedIp));
    flows.add(table, family, ip(ethertype::IPV6), drop_as(DropReason::SpoofedIp));
    for number in permitted_ethertypes {
        flows.add(table, egress_source::ETHERTYPE, ip(*number), accept());
    }
    flows.add(table, egress_source::OTHER, Match::new(), drop_as(DropReason::Ethertype));
}

/// IPv6 whose header chain ends before the upper layer (RFC 7112 forbids it): what Open vSwitch cannot read it
/// matches as zeros, so that discovery or a DHCPv6 reply behind it would go round the checks above
/// (docs/decisions/0005). A chain cut short inside one packet has no protocol at all.
fn unread_headers() -> [(Match, DropReason); 3] {
    let ipv6 = || ip(ethertype::IPV6);
    let first = || Part::First.of(ipv6());
    let icmp = first().with(Field::IpProto, 58u8).with(Field::Icmpv6Type, 0u8).with(Field::Icmpv6Code, 0u8);
    let udp = first().with(Field::IpProto, 17u8).with(Field::UdpSrc, 0u8).with(Field::UdpDst, 0u8);
    let nothing = ipv6().with(Field::IpProto, 0u8);
    [(icmp, DropReason::SpoofedNd), (udp, DropReason::DhcpServer), (nothing, DropReason::SpoofedNd)]
}

fn solicitations() -> impl Iterator<Item = u8> {
    [ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION].into_iter().chain(MLD)
}

/// IP from an address of the port (semantics, egress 3, 4 and 6).
fn egress_without_rules(flows: &mut Flows) {
    let table = egress_ip::TABLE;
    let accept = || vec![resubmit(deliver::TABLE)];
    for client in [udp(ethertype::IPV4, 68, 67), udp(ethertype::IPV6, 546, 547)] {
        flows.add(table, egress_ip::SETTLED, client, accept());
    }
    for kind in solicitations() {
        flows.add(table, egress_ip::SETTLED, icmpv6(ip(ethertype::IPV6), kind), accept());
    }
    flows.add(
        table,
        egress_ip::GROUP_ADDRESSED,
        group_addressed(Match::new()),
        vec![load(register::MODE, MODE_EVERY_RULE), resubmit(egress_packet::TABLE)],
    );
    for number in IP {
        flows.add(table, egress_ip::TRACK, ip(number), EGRESS.track());
    }
}

/// Semantics, ingress 1 to 4.
fn ingress_without_rules(flows: &mut Flows, permitted_ethertypes: &BTreeSet<u16>) {
    let table = ingress_base::TABLE;
    flows.add(table, ingress_base::TAGGED, tagged(), drop_as(DropReason::Ethertype));
    let numbers = [ethertype::ARP, ethertype::RARP].into_iter().chain(permitted_ethertypes.iter().copied());
    let ethertypes = numbers.map(ip);
    let discovery =
        MLD.into_iter().chain([ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT]);
    let discovery = discovery.map(|kind| icmpv6(ip(ethertype::IPV6), kind));
    let dhcp = [udp(ethertype::IPV4, 67, 68), udp(ethertype::IPV6, 547, 546)];
    for settled in ethertypes.chain(discovery).chain(dhcp) {
        flows.add(table, ingress_base::SETTLED, settled, vec![resubmit(output::TABLE)]);
    }
    for number in IP {
        flows.add(
            table,
            ingress_base::GROUP_ADDRESSED,
            group_addressed(ip(number)),
            vec![load(register::MODE, MODE_EVERY_RULE), resubmit(ingress_packet::TABLE)],
        );
        flows.add(table, ingress_base::TRACK, ip(number), INGRESS.track());
    }
    flows.add(table, ingress_base::OTHER, Match::new(), drop_as(DropReason::Ethertype));
}

/// A packet table's answer when no rule matched.
fn packet(flows: &mut Flows, half: &Half) {
    for number in IP {
        let stateless = ip(number).with(register::MODE, MODE_STATELESS);
        flows.add(half.packet, egress_packet::STATELESS_MISS, stateless, half.track());
    }
    flows.add(half.packet, egress_packet::MISS, Match::new(), drop_as(DropReason::NoRule));
}

/// Semantics, "Rules and connections", as far as conntrack alone decides.
fn state(flows: &mut Flows, half: &Half) {
    let table = half.state;
    let invalid =
        |number: u16, protocol: u8| with_ct(ip(number), CT_INV | CT_TRK, 0).with(Field::IpProto, protocol);
    let no_messages = [
        invalid(ethertype::IPV4, 1).with(Field::Icmpv4Type, 0u8),
        invalid(ethertype::IPV6, 58).with(Field::Icmpv6Type, 129u8),
        // ICMPv6 that ends before its header shows zeros (docs/decisions/0005); of IPv4 that is an echo reply's type.
        invalid(ethertype::IPV6, 58).with(Field::Icmpv6Type, 0u8).with(Field::Icmpv6Code, 0u8),
    ];
    for no_message in no_messages {
        flows.add(table, egress_state::INVALID_NO_MESSAGE, no_message, drop_as(DropReason::CtInvalid));
    }
    for icmp in [invalid(ethertype::IPV4, 1), invalid(ethertype::IPV6, 58)] {
        // In fragments only the first shows its type, and what is too small to be reassembled is invalid too.
        let icmp = Part::Whole.of(icmp);
        let judge = vec![load(register::MODE, MODE_EVERY_RULE), resubmit(half.packet)];
        flows.add(table, egress_state::INVALID_ICMP, icmp, judge);
    }
    flows.add(table, egress_state::INVALID, ct(CT_INV | CT_TRK, 0), drop_as(DropReason::CtInvalid));
    for number in IP {
        // A later fragment shows no port, and SCTP is judged packet by packet.
        let new = with_ct(ip(number), CT_TRK | CT_NEW, CT_INV | CT_REL | CT_RPL);
        let ask = vec![load(register::NEXT, half.next), resubmit(half.service)];
        flows.add(table, egress_state::NEW, Part::NotLater.of(new), ask);
    }
    flows.add(half.service, egress_service::MISS, Match::new(), drop_as(DropReason::NoRule));
    for (set, clear, policy) in
        [(CT_TRK, CT_INV | CT_RPL, half.policy), (CT_TRK | CT_RPL, CT_INV, half.reply_policy)]
    {
        let judge = || vec![load(register::NEXT, half.next), resubmit(policy)];
        for number in IP {
            let sctp = with_ct(ip(number), set, clear).with(Field::IpProto, SCTP);
            flows.add(table, egress_state::SCTP, sctp, judge());
        }
        flows.add(table, egress_state::JUDGE, ct(set, clear), judge());
    }
    flows.add(table, egress_state::UNTRACKED, Match::new(), drop_as(DropReason::CtInvalid));
}

/// A policy table's answer when no rule matched, and the way of related packets past the commit.
fn policy(flows: &mut Flows, half: &Half) {
    let table = half.policy;
    flows.add(table, egress_policy::RELATED_MISS, ct(CT_REL | CT_TRK, 0), drop_as(DropReason::Revoked));
    for number in IP {
        // Another packet of the same SCTP connection may be admitted by its own port: nothing is stamped.
        let sctp = with_ct(ip(number), CT_TRK, CT_NEW | CT_INV | CT_REL).with(Field::IpProto, SCTP);
        flows.add(table, egress_policy::RELATED_MISS, sctp, drop_as(DropReason::NoRule));
    }
    for number in IP {
        let known = |part: Part| part.of(with_ct(ip(number), CT_TRK, CT_NEW | CT_INV));
        let mut revoke = vec![commit(0)];
        revoke.extend(drop_as(DropReason::Revoked));
        flows.add(table, egress_policy::REVOKED, known(Part::Whole), revoke);
        // Through `ct` the first fragment would join its later ones there, which are to be stamped if it was admitted.
        flows.add(table, egress_policy::REVOKED, known(Part::Any), drop_as(DropReason::Revoked));
    }
    flows.add(table, egress_policy::MISS, Match::new(), drop_as(DropReason::NoRule));
    flows.add(half.commit, egress_commit::RELATED, ct(CT_REL | CT_TRK, 0), vec![resubmit(next::TABLE)]);
}

fn delivery(flows: &mut Flows) {
    flows.add(deliver::TABLE, deliver::UNKNOWN, Match::new(), vec![resubmit(network::TABLE)]);
    flows.add(network::TABLE, network::OTHER, Match::new(), vec![resubmit(layout::trunk::TABLE)]);
    for (value, table) in [(NEXT_DELIVER, deliver::TABLE), (NEXT_OUTPUT, output::TABLE)] {
        let matches = ct(CT_TRK, CT_INV).with(register::NEXT, value);
        flows.add(next::TABLE, next::STEP, matches, vec![resubmit(table)]);
    }
    flows.add(next::TABLE, next::MISS, Match::new(), drop_as(DropReason::CtInvalid));
    flows.add(fragments::TABLE, fragments::MISS, Match::new(), drop_as(DropReason::NoRule));
    let ofport = Subfield { field: register::OFPORT, offset: 0, bits: register::OFPORT.bits() };
    flows.add(output::TABLE, output::PORT, Match::new(), vec![Action::OutputReg(ofport)]);
    for reason in DropReason::ALL {
        let matches = Match::new().with(register::REASON, *reason as u8);
        flows.add(layout::drop::TABLE, layout::drop::REASON, matches, Vec::new());
    }
}

/// Both halves use the same priorities, so that they read alike; this is what lets one function write both.
const _: () = {
    assert!(egress_packet::STATELESS_MISS == ingress_packet::STATELESS_MISS);
    assert!(egress_packet::MISS == ingress_packet::MISS);
    assert!(egress_state::INVALID_NO_MESSAGE == ingress_state::INVALID_NO_MESSAGE);
    assert!(egress_state::INVALID_ICMP == ingress_state::INVALID_ICMP);
    assert!(egress_state::INVALID == ingress_state::INVALID);
    assert!(egress_state::SCTP == ingress_state::SCTP);
    assert!(egress_state::CURRENT == ingress_state::CURRENT);
    assert!(egress_state::NEW == ingress_state::NEW);
    assert!(egress_service::RULE == ingress_service::RULE && egress_service::RULE == egress_policy::RULE);
    assert!(egress_service::MISS == ingress_service::MISS);
    assert!(egress_state::JUDGE == ingress_state::JUDGE);
    assert!(egress_state::UNTRACKED == ingress_state::UNTRACKED);
    assert!(egress_policy::FRAGMENT == ingress_policy::FRAGMENT);
    assert!(egress_policy::RULE == ingress_policy::RULE && egress_packet::RULE == ingress_packet::RULE);
    assert!(egress_policy::CONJUNCTION == ingress_policy::CONJUNCTION);
    assert!(egress_packet::CONJUNCTION == ingress_packet::CONJUNCTION);
    assert!(egress_policy::RELATED_MISS == ingress_policy::RELATED_MISS);
    assert!(egress_policy::REVOKED == ingress_policy::REVOKED);
    assert!(egress_policy::MISS == ingress_policy::MISS);
    assert!(egress_commit::RELATED == ingress_commit::RELATED);
    assert!(egress_commit::COMMIT == ingress_commit::COMMIT);
};
