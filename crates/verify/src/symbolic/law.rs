//! The semantics page as sets of packets: what a port may send and receive, in a state of connection tracking.
//!
//! Written from that page alone, as `policy::evaluator` is; the tests hold the same tables against both.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use policy::{Direction, Ethertype, GroupId, MacAddr, Policy, Port, PortId, Remote, Rule, RuleId, Service};

use super::space::{BLOCKS, Block, Exhausted, Region, Space};
use super::state::{OWN, State, Tuple};

const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
const UDP: u8 = 17;
const SCTP: u8 = 132;
const IPV6_FRAGMENT: u8 = 44;
const MLD: [u8; 4] = [130, 131, 132, 143];

/// A policy, ready to be asked.
pub(crate) struct Law<'a> {
    space: &'a Space,
    policy: &'a Policy,
    permitted_ethertypes: &'a BTreeSet<u16>,
    members: BTreeMap<&'a GroupId, Vec<Member>>,
    /// What the rules of some groups match: ports share them.
    matched: RefCell<HashMap<Question, Region>>,
    /// What a port sends before it is tracked is the same in every state.
    sent: RefCell<HashMap<PortId, (Region, Region)>>,
    received: OnceCell<(Region, Region)>,
    /// What rules admit is the same for ports of the same groups.
    admitted: RefCell<HashMap<Tracked, (Region, Region)>>,
    /// What ports of the same groups receive is the same.
    received_by: RefCell<HashMap<(BTreeSet<GroupId>, State), Verdict>>,
}

/// Packets of a way and a state, at ports of these groups.
type Tracked = (BTreeSet<GroupId>, Direction, State);

/// Groups, whether of the stateful ones among them, and what is asked.
type Question = (BTreeSet<GroupId>, bool, Subject);

/// A member's prefix, and the MAC that a short one is bound to.
type Member = (IpNet, Option<MacAddr>);

/// What rules are asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Subject {
    /// The way of the packet at the port.
    way: Direction,
    /// The way of the rules.
    rules: Direction,
    tuple: Tuple,
    /// The destination port of SCTP, which is the packet's own; none: any port will do.
    sctp_port: Option<Block>,
    /// Whether members that are bound to their MAC count.
    bound: bool,
}

/// Rules of the packet's own way about its own tuple.
fn own_subject(way: Direction) -> Subject {
    Subject { way, rules: way, tuple: OWN, sctp_port: Some(BLOCKS.second), bound: true }
}

/// Rules of the way of the connection's first packet, about that packet's tuple.
fn subject(way: Direction, state: State, tuple: Tuple) -> Subject {
    let sctp_port = match state {
        _ if state.is_related() => None,
        State::Reply => Some(BLOCKS.first),
        _ => Some(BLOCKS.second),
    };
    Subject { way, rules: state.original(way), tuple, sctp_port, bound: true }
}

/// What the law says of the packets of a port in a state.
#[derive(Clone)]
pub(crate) struct Verdict {
    /// What passes.
    pub(crate) accepted: Region,
    /// What is tracked: where a mark may say that the connection was admitted.
    pub(crate) tracked: Region,
    /// What may be stamped as admitted, whoever sends the next packet.
    pub(crate) admitted: Region,
}

impl<'a> Law<'a> {
    pub(crate) fn new(space: &'a Space, policy: &'a Policy, permitted_ethertypes: &'a BTreeSet<u16>) -> Self {
        let mut members: BTreeMap<&GroupId, Vec<Member>> = BTreeMap::new();
        for port in policy.ports.values() {
            let fixed = port.fixed_ips.iter().map(|ip| (IpNet::from(*ip), port.mac));
            let pairs = port.allowed_address_pairs.iter().map(|pair| (pair.ip, pair.mac.unwrap_or(port.mac)));
            let all: Vec<Member> =
                fixed.chain(pairs).map(|(ip, mac)| (ip, is_short(&ip).then_some(mac))).collect();
            for group in &port.security_groups {
                members.entry(group).or_default().extend(&all);
            }
        }
        for members in members.values_mut() {
            members.sort();
            members.dedup();
        }
        Law {
            space,
            policy,
            permitted_ethertypes,
            members,
            matched: RefCell::default(),
            sent: RefCell::default(),
            received: OnceCell::new(),
            admitted: RefCell::default(),
            received_by: RefCell::default(),
        }
    }

    /// The packets that exist: values that go together as Open vSwitch reads packets (ovs-fields(7)).
    pub(crate) fn possible(&self) -> Result<Region, Exhausted> {
        let space = self.space;
        let (first, later) = (space.is(BLOCKS.frag.low(1), 1u8)?, space.is(BLOCKS.frag.high(1), 1u8)?);
        let ip = self.ip(Ethertype::Ipv4)?.or(&self.ip(Ethertype::Ipv6)?)?;
        let ports = space.is(BLOCKS.first, 0u8)?.and(&space.is(BLOCKS.second, 0u8)?)?;
        let icmp = space.is(BLOCKS.proto, 1u8)?.or(&space.is(BLOCKS.proto, 58u8)?)?;
        let octets = space.is(BLOCKS.first.high(8), 0u8)?.and(&space.is(BLOCKS.second.high(8), 0u8)?)?;
        let v6_later = later.and(&self.ip(Ethertype::Ipv6)?)?;
        let v6_part = space.is(BLOCKS.proto, IPV6_FRAGMENT)?.and(&self.ip(Ethertype::Ipv6)?)?;
        let tag = space.matching(BLOCKS.tci, 0x1000, 0x1000)?;
        let no_tag = space.is(BLOCKS.tci, 0u8)?;
        let mut impossible = vec![
            later.minus(&first)?,
            first.minus(&ip)?,
            later.minus(&ports)?,
            icmp.minus(&octets)?,
            v6_later.minus(&v6_part)?,
            v6_part.minus(&later)?,
            tag.or(&no_tag)?.not()?,
        ];
        let icmp_tuple = space.is(BLOCKS.tuple_proto, 1u8)?.or(&space.is(BLOCKS.tuple_proto, 58u8)?)?;
        let high =
            space.is(BLOCKS.tuple_first.high(8), 0u8)?.and(&space.is(BLOCKS.tuple_second.high(8), 0u8)?)?;
        impossible.push(icmp_tuple.minus(&high)?);
        space.any(impossible)?.not()
    }

    /// "A frame that a filtered port sends", or "a frame to a filtered port".
    pub(crate) fn of(&self, port: &Port, way: Direction, state: State) -> Result<Verdict, Exhausted> {
        if way == Direction::Egress {
            return self.judged(port, way, state);
        }
        let key = (port.security_groups.clone(), state);
        if let Some(known) = self.received_by.borrow().get(&key) {
            return Ok(known.clone());
        }
        let verdict = self.judged(port, way, state)?;
        self.received_by.borrow_mut().insert(key, verdict.clone());
        Ok(verdict)
    }

    fn judged(&self, port: &Port, way: Direction, state: State) -> Result<Verdict, Exhausted> {
        let (settled, unicast) = match way {
            Direction::Egress => self.sent(port)?,
            Direction::Ingress => self.untracked(port, way, self.received()?)?,
        };
        let (admitted, kept) = self.admitted(port, way, state)?;
        Ok(Verdict {
            accepted: settled.or(&unicast.and(&admitted)?)?,
            tracked: if state == State::Invalid { self.space.none() } else { unicast },
            admitted: kept,
        })
    }

    /// Of what is settled without rules and accepted, and what is left for them: what is accepted without tracking, and
    /// what is tracked.
    fn untracked(
        &self,
        port: &Port,
        way: Direction,
        (settled, left): (Region, Region),
    ) -> Result<(Region, Region), Exhausted> {
        let own = own_subject(way);
        // "A stateless rule that matches accepts the frame without connection tracking … stateless rules are tried
        // first."
        let stateless = self.rules(port, false, own)?.and(&left)?;
        let left = left.minus(&stateless)?;
        // "… and group-addressed frames are judged packet by packet against the same rules."
        let group = self.group_addressed()?.and(&left)?;
        let by_packet = group.and(&self.rules(port, true, own)?)?;
        Ok((self.space.any(vec![settled, stateless, by_packet])?, left.minus(&group)?))
    }

    /// What the rules admit of all that is tracked in a state; and what may be stamped so.
    fn admitted(&self, port: &Port, way: Direction, state: State) -> Result<(Region, Region), Exhausted> {
        let key = (port.security_groups.clone(), way, state);
        if let Some(known) = self.admitted.borrow().get(&key) {
            return Ok(known.clone());
        }
        let admitted = match state.tuple() {
            // "ICMP and ICMPv6 that conntrack calls invalid … except echo replies … are judged packet by packet.
            // Any other invalid frame: dropped."
            None => {
                let by_packet = self.rules(port, true, own_subject(way))?;
                (self.messages()?.and(&by_packet)?, self.space.none())
            }
            Some(tuple) => {
                let subject = subject(way, state, tuple);
                let kept = self.rules(port, true, Subject { bound: false, ..subject })?;
                (self.rules(port, true, subject)?, kept)
            }
        };
        self.admitted.borrow_mut().insert(key, admitted.clone());
        Ok(admitted)
    }

    /// "1. Delivered are frames to one of its MACs, and group-addressed or flooded ones."
    pub(crate) fn delivered(&self, port: &Port) -> Result<Region, Exhausted> {
        let mut all = vec![self.group_addressed()?];
        for mac in macs(port) {
            all.push(self.space.is(BLOCKS.eth_dst, number_of(mac))?);
        }
        self.space.any(all)
    }

    /// Of these packets those that are most likely to be met at a port, if there are any: its own end has its MAC and an address of it, the other end
    /// has none of these.
    pub(crate) fn likely(
        &self,
        packets: &Region,
        port: &Port,
        direction: Direction,
    ) -> Result<Region, Exhausted> {
        let space = self.space;
        let (mac, own, peer) = match direction {
            Direction::Egress => (BLOCKS.eth_src, BLOCKS.src, BLOCKS.dst),
            Direction::Ingress => (BLOCKS.eth_dst, BLOCKS.dst, BLOCKS.src),
        };
        let has = |block: Block, ip: &IpAddr| match ip {
            IpAddr::V4(ip) => {
                space.is(BLOCKS.eth_type, 0x0800u16)?.and(&space.is(block.high(32), ip.to_bits())?)
            }
            IpAddr::V6(ip) => space.is(BLOCKS.eth_type, 0x86ddu16)?.and(&space.is(block, ip.to_bits())?),
        };
        let mut wishes = vec![space.is(mac, number_of(port.mac))?];
        for ip in &port.fixed_ips {
            wishes.push(has(own, ip)?);
            wishes.push(has(peer, ip)?.not()?);
        }
        wishes.into_iter().try_fold(packets.clone(), |packets, wish| {
            let fewer = packets.and(&wish)?;
            Ok(if fewer.is_empty() { packets } else { fewer })
        })
    }

    /// What a port sends that is accepted without tracking, and what is tracked.
    fn sent(&self, port: &Port) -> Result<(Region, Region), Exhausted> {
        if let Some(known) = self.sent.borrow().get(&port.id) {
            return Ok(known.clone());
        }
        let sent = self.untracked(port, Direction::Egress, self.sent_by(port)?)?;
        self.sent.borrow_mut().insert(port.id.clone(), sent.clone());
        Ok(sent)
    }

    /// What is settled without rules and accepted, and what is left for them.
    fn sent_by(&self, port: &Port) -> Result<(Region, Region), Exhausted> {
        let space = self.space;
        // "0. A frame that carries a VLAN tag: dropped (VID 0 is stripped and judged untagged)".
        let mut tagged =
            vec![space.matching(BLOCKS.tci, 0x1000, 0x1000)?.minus(&space.is(BLOCKS.tci.low(12), 0u8)?)?];
        for tag in VLAN_TAGS {
            tagged.push(space.is(BLOCKS.eth_type, tag)?);
        }
        let untagged = space.any(tagged)?.not()?;
        let (mut settled, mut left) = (Vec::new(), Vec::new());
        // "1. Source MAC is none of the pairs' MACs: dropped".
        for mac in macs(port) {
            let from = space.is(BLOCKS.eth_src, number_of(mac))?.and(&untagged)?;
            let pairs = pairs_of(port, mac);
            settled.push(from.and(&self.arp_sent(mac, &pairs)?)?);
            settled.push(from.and(&self.ethertypes()?)?);
            for (accepted, rest) in [self.ipv4_sent(&pairs)?, self.ipv6_sent(&pairs)?] {
                settled.push(from.and(&accepted)?);
                left.push(from.and(&rest)?);
            }
        }
        Ok((space.any(settled)?, space.any(left)?))
    }

    /// "2. ARP …: accepted when (source MAC, `arp_spa`) is a pair and `arp_sha` is the source MAC, or when it is a
    /// probe …. RARP: accepted."
    fn arp_sent(&self, mac: MacAddr, pairs: &[IpNet]) -> Result<Region, Exhausted> {
        let space = self.space;
        let probe = space.is(BLOCKS.src.high(32), 0u8)?;
        let sender = self.addresses(BLOCKS.src, Ethertype::Ipv4, pairs)?.or(&probe)?;
        let own = sender.and(&space.is(BLOCKS.sha, number_of(mac))?)?;
        space.is(BLOCKS.eth_type, ARP)?.and(&own)?.or(&space.is(BLOCKS.eth_type, RARP)?)
    }

    /// Step 3: accepted, and left for the rules.
    fn ipv4_sent(&self, pairs: &[IpNet]) -> Result<(Region, Region), Exhausted> {
        let space = self.space;
        let ip = self.ip(Ethertype::Ipv4)?;
        let from_pair = self.addresses(BLOCKS.src, Ethertype::Ipv4, pairs)?;
        let nobody = space.is(BLOCKS.src.high(32), 0u8)?;
        let client = self.udp(68, 67)?.and(&from_pair.or(&nobody)?)?;
        let rest = from_pair.minus(&client)?.minus(&self.udp(67, 68)?)?;
        Ok((ip.and(&client)?, ip.and(&rest)?))
    }

    /// Step 4, "checked in this order".
    fn ipv6_sent(&self, pairs: &[IpNet]) -> Result<(Region, Region), Exhausted> {
        let space = self.space;
        let from_pair = self.addresses(BLOCKS.src, Ethertype::Ipv6, pairs)?;
        let nobody = space.is(BLOCKS.src, 0u8)?;
        let part = space.is(BLOCKS.frag.low(1), 1u8)?;
        let mut rest = self.ip(Ethertype::Ipv6)?.minus(&self.ends_early()?)?;
        let mut accepted = Vec::new();
        let mut next = |what: Region, passes: Option<Region>| -> Result<(), Exhausted> {
            let here = rest.and(&what)?;
            rest = rest.minus(&what)?;
            if let Some(passes) = passes {
                accepted.push(here.and(&passes)?);
            }
            Ok(())
        };
        // "DHCPv6 client (UDP 546→547) from a pair: accepted. UDP 547→546: dropped. Router advertisement: dropped."
        next(self.udp(546, 547)?.and(&from_pair)?, Some(space.all()))?;
        next(self.udp(547, 546)?, None)?;
        next(self.icmpv6(134)?, None)?;
        // "a fragmented ND, RS or RA is dropped".
        for icmp_type in [133, 135, 136] {
            next(self.icmpv6(icmp_type)?.and(&part)?, None)?;
        }
        // "Neighbour advertisement (136): accepted when its code is 0 and `nd_target` lies in a pair of that MAC".
        let own = self.addresses(BLOCKS.nd_target, Ethertype::Ipv6, pairs)?;
        next(self.icmpv6(136)?, Some(own.and(&space.is(BLOCKS.second, 0u8)?)?))?;
        // "Neighbour solicitation (135), router solicitation (133), MLD (130, 131, 132, 143): accepted when the source
        // is a pair of that MAC, or `::`."
        for icmp_type in [135, 133].into_iter().chain(MLD) {
            let from = from_pair.or(&nobody)?;
            next(self.icmpv6(icmp_type)?.and(&from)?, Some(space.all()))?;
        }
        Ok((space.any(accepted)?, rest.and(&from_pair)?))
    }

    /// RFC 7113, section 3, and docs/decisions/0005: what ends before it says what it is.
    fn ends_early(&self) -> Result<Region, Exhausted> {
        let space = self.space;
        let first = space.is(BLOCKS.frag, 1u8)?;
        let zeros = space.is(BLOCKS.first, 0u8)?.and(&space.is(BLOCKS.second, 0u8)?)?;
        let unseen = space.is(BLOCKS.proto, 58u8)?.or(&space.is(BLOCKS.proto, UDP)?)?.and(&zeros)?;
        space.is(BLOCKS.proto, 0u8)?.or(&first.and(&unseen)?)
    }

    fn received(&self) -> Result<(Region, Region), Exhausted> {
        if let Some(known) = self.received.get() {
            return Ok(known.clone());
        }
        let received = self.received_by_all()?;
        Ok(self.received.get_or_init(|| received).clone())
    }

    fn received_by_all(&self) -> Result<(Region, Region), Exhausted> {
        let space = self.space;
        // A tag that is still there makes another ethertype of the frame.
        let untagged = space.is(BLOCKS.tci, 0u8)?;
        // "ARP, RARP: accepted. Permitted ethertypes: accepted; others: dropped."
        let mut settled = vec![self.ethertypes()?];
        for ethertype in [ARP, RARP] {
            settled.push(space.is(BLOCKS.eth_type, ethertype)?);
        }
        // "2. ICMPv6 130, 131, 132, 134, 135, 136, 143: accepted. DHCP replies (UDP 67→68, 547→546): accepted."
        let v6 = self.ip(Ethertype::Ipv6)?;
        for icmp_type in MLD.into_iter().chain([134, 135, 136]) {
            settled.push(v6.and(&self.icmpv6(icmp_type)?)?);
        }
        settled.push(self.ip(Ethertype::Ipv4)?.and(&self.udp(67, 68)?)?);
        settled.push(v6.and(&self.udp(547, 546)?)?);
        let settled = space.any(settled)?;
        let left = self.ip(Ethertype::Ipv4)?.or(&v6)?.minus(&settled)?;
        Ok((settled.and(&untagged)?, left.and(&untagged)?))
    }

    /// What the rules of the port's stateful, or stateless, groups match.
    fn rules(&self, port: &Port, stateful: bool, subject: Subject) -> Result<Region, Exhausted> {
        let key = (port.security_groups.clone(), stateful, subject);
        if let Some(known) = self.matched.borrow().get(&key) {
            return Ok(known.clone());
        }
        let groups = port.security_groups.iter().filter_map(|id| self.policy.groups.get(id));
        let rules = groups.filter(|group| group.stateful == stateful).flat_map(|group| &group.rules);
        let mut matched = Vec::new();
        for rule in rules.filter(|rule| rule.direction == subject.rules) {
            matched.push(self.matched_by(rule, subject)?);
        }
        let matched = self.space.any(matched)?;
        self.matched.borrow_mut().insert(key, matched.clone());
        Ok(matched)
    }

    /// The rules of the port's groups that match any of these packets, in their order.
    pub(crate) fn matching_rules(
        &self,
        port: &Port,
        way: Direction,
        state: State,
        packets: &Region,
    ) -> Result<Vec<RuleId>, Exhausted> {
        let own = own_subject(way);
        let is_group_addressed = packets.minus(&self.group_addressed()?)?.is_empty();
        let tracked =
            state.tuple().filter(|_| !is_group_addressed).map_or(own, |tuple| subject(way, state, tuple));
        let mut matching = Vec::new();
        for group in port.security_groups.iter().filter_map(|id| self.policy.groups.get(id)) {
            let subject = if group.stateful { tracked } else { own };
            for rule in group.rules.iter().filter(|rule| rule.direction == subject.rules) {
                let here = self.matched_by(rule, subject)?.and(packets)?;
                matching.extend((!here.is_empty()).then(|| rule.id.clone()));
            }
        }
        Ok(matching)
    }

    fn matched_by(&self, rule: &Rule, subject: Subject) -> Result<Region, Exhausted> {
        let service = self.service(rule, subject)?.and(&self.ip(rule.ethertype)?)?;
        service.and(&self.remote(rule, subject)?)
    }

    fn service(&self, rule: &Rule, subject: Subject) -> Result<Region, Exhausted> {
        let (space, tuple) = (self.space, subject.tuple);
        match rule.service {
            Service::Any => Ok(space.all()),
            Service::Protocol(number) => space.is(tuple.proto, number),
            Service::Ports { protocol, range } => {
                let protocol_matches = space.is(tuple.proto, protocol.number())?;
                let Some(range) = range else { return Ok(protocol_matches) };
                let block = match protocol.number() {
                    // "each packet of a connection must besides pass the rules by its own port".
                    SCTP => subject.sctp_port,
                    _ => Some(tuple.second),
                };
                let Some(block) = block else { return Ok(protocol_matches) };
                let ports = space.between(block, range.min.into(), range.max.into())?;
                // A later fragment shows no port.
                let shown = match block == BLOCKS.first || block == BLOCKS.second {
                    true => space.is(BLOCKS.frag.high(1), 0u8)?,
                    false => space.all(),
                };
                protocol_matches.and(&ports)?.and(&shown)
            }
            Service::Icmp { icmp_type, code } => {
                let mut region = space.is(tuple.proto, rule.ethertype.icmp())?;
                for (block, wanted) in [(tuple.first, icmp_type), (tuple.second, code)] {
                    let Some(wanted) = wanted else { continue };
                    region = region.and(&space.is(block, wanted)?)?;
                    if block == BLOCKS.first || block == BLOCKS.second {
                        region = region.and(&space.is(BLOCKS.frag.high(1), 0u8)?)?;
                    }
                }
                Ok(region)
            }
        }
    }

    /// "egress, remote = destination"; "ingress, remote = source".
    fn remote(&self, rule: &Rule, subject: Subject) -> Result<Region, Exhausted> {
        let block = match subject.rules {
            Direction::Ingress => subject.tuple.src,
            Direction::Egress => subject.tuple.dst,
        };
        let mac = match subject.way {
            Direction::Ingress => BLOCKS.eth_src,
            Direction::Egress => BLOCKS.eth_dst,
        };
        match &rule.remote {
            Remote::Any => Ok(self.space.all()),
            Remote::Prefix(prefix) => self.addresses(block, rule.ethertype, &[*prefix]),
            Remote::AddressGroup(id) => {
                let group = self.policy.address_groups.get(id);
                let addresses: Vec<IpNet> =
                    group.into_iter().flat_map(|group| group.addresses.iter().copied()).collect();
                self.addresses(block, rule.ethertype, &addresses)
            }
            Remote::Group(id) => {
                let members = self.members.get(id).map_or(&[][..], Vec::as_slice);
                let free: Vec<IpNet> =
                    members.iter().filter(|(_, mac)| mac.is_none()).map(|(ip, _)| *ip).collect();
                let mut all = vec![self.addresses(block, rule.ethertype, &free)?];
                // "it counts only for frames whose remote MAC … is that member's MAC".
                for (ip, bound_to) in members.iter().filter(|_| subject.bound) {
                    let Some(bound_to) = bound_to else { continue };
                    let theirs = self.space.is(mac, number_of(*bound_to))?;
                    all.push(self.addresses(block, rule.ethertype, &[*ip])?.and(&theirs)?);
                }
                self.space.any(all)
            }
        }
    }

    /// "ICMP and ICMPv6 …, except echo replies": messages, which are whole and no echo replies.
    fn messages(&self) -> Result<Region, Exhausted> {
        let space = self.space;
        let mut messages = Vec::new();
        for (family, echo_reply) in [(Ethertype::Ipv4, 0u8), (Ethertype::Ipv6, 129)] {
            let icmp = space.is(BLOCKS.proto, family.icmp())?.minus(&space.is(BLOCKS.first, echo_reply)?)?;
            // One that ends before its header is no message, and shows zeros (docs/decisions/0005).
            let zeros = space.is(BLOCKS.first, 0u8)?.and(&space.is(BLOCKS.second, 0u8)?)?;
            messages.push(self.ip(family)?.and(&icmp.minus(&zeros)?)?);
        }
        space.any(messages)?.and(&space.is(BLOCKS.frag, 0u8)?)
    }

    fn ethertypes(&self) -> Result<Region, Exhausted> {
        let all: Result<Vec<_>, _> = self
            .permitted_ethertypes
            .iter()
            .map(|ethertype| self.space.is(BLOCKS.eth_type, *ethertype))
            .collect();
        self.space.any(all?)
    }

    fn group_addressed(&self) -> Result<Region, Exhausted> {
        self.space.matching(BLOCKS.eth_dst, 1 << 40, 1 << 40)
    }

    fn ip(&self, family: Ethertype) -> Result<Region, Exhausted> {
        self.space.is(BLOCKS.eth_type, family.number())
    }

    fn udp(&self, src: u16, dst: u16) -> Result<Region, Exhausted> {
        let ports = self.space.is(BLOCKS.first, src)?.and(&self.space.is(BLOCKS.second, dst)?)?;
        self.space.is(BLOCKS.proto, UDP)?.and(&ports)
    }

    fn icmpv6(&self, icmp_type: u8) -> Result<Region, Exhausted> {
        let typed =
            self.space.is(BLOCKS.first, icmp_type)?.minus(&self.space.is(BLOCKS.frag.high(1), 1u8)?)?;
        self.space.is(BLOCKS.proto, 58u8)?.and(&typed)
    }

    /// The packets whose address of this family lies in a prefix.
    fn addresses(&self, block: Block, family: Ethertype, prefixes: &[IpNet]) -> Result<Region, Exhausted> {
        let mut of_family: Vec<IpNet> =
            prefixes.iter().map(IpNet::trunc).filter(|prefix| Ethertype::of(prefix) == family).collect();
        of_family.sort();
        let all: Result<Vec<_>, _> = of_family
            .iter()
            .map(|prefix| {
                let (value, bits) = match prefix.network() {
                    IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
                    IpAddr::V6(ip) => (ip.to_bits(), 128),
                };
                let mask = u128::MAX.checked_shl(u32::from(bits - prefix.prefix_len())).unwrap_or(0);
                self.space.matching(block.high(u32::from(bits)), value, mask)
            })
            .collect();
        self.space.any(all?)
    }
}

/// "A member whose prefix is shorter than /8 (IPv4) or /16 (IPv6)".
fn is_short(prefix: &IpNet) -> bool {
    prefix.prefix_len() < if prefix.addr().is_ipv4() { 8 } else { 16 }
}

/// "A port's MACs are mac_address and every pair's MAC."
fn macs(port: &Port) -> BTreeSet<MacAddr> {
    let pairs = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
    pairs.chain([port.mac]).collect()
}

/// "(mac_address, each fixed IP), each allowed address pair, and for IPv6 also each MAC's EUI-64 link-local address".
fn pairs_of(port: &Port, mac: MacAddr) -> Vec<IpNet> {
    let fixed = port.fixed_ips.iter().filter(|_| mac == port.mac).map(|ip| IpNet::from(*ip));
    let allowed = port.allowed_address_pairs.iter().filter(|pair| pair.mac.unwrap_or(port.mac) == mac);
    let link_local = IpNet::from(IpAddr::V6(mac.link_local()));
    fixed.chain(allowed.map(|pair| pair.ip)).chain([link_local]).collect()
}

fn number_of(mac: MacAddr) -> u64 {
    mac.0.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}
