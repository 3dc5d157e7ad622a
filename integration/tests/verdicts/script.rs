//! A world played on the evaluator, written down: what the switch is to be given, and what is to come of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pipeline::FlowOp;
use policy::evaluator::{Fragment, IpPacket, Transport};
use policy::{Ethertype, PortProtocol};
use rust_openflow::{Flow, FlowKey, FlowMod};
use tests::sketch::{Body, CUSTOMER_TAG, SERVICE_TAG, Sketch, Tag};

use crate::world::frames::{Sender, Sent, later_fragment};
use crate::world::host::{Evaluated, Fate, Rendered, TRUNK, VLANS, ofport};
use crate::world::play::{Stage, Step, is_filtered, play_on};
use crate::world::policies::{World, network_of};

/// The least that a device sends (IEEE 802.3, without the checksum); Open vSwitch fills up what is shorter
/// (`lib/netdev-dummy.c`, 3.1: `dp_packet_pad`).
const SHORTEST: usize = 60;

/// Bytes of both addresses of a frame, and of a tag.
const ADDRESSES: usize = 12;
const TAG: usize = 4;

/// A policy and the frames that are sent under it.
pub(crate) type Phase = (Vec<FlowMod>, Vec<Trial>);

/// A frame, and what the evaluator says of it.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) sent: Sent,
    /// The OpenFlow port that it comes in at.
    pub(crate) from: u16,
    pub(crate) bytes: Vec<u8>,
    /// The bytes that come out at a local port, and at the trunk.
    pub(crate) delivered: Vec<u8>,
    pub(crate) to_network: Vec<u8>,
    pub(crate) fate: Fate,
    /// The beginning of a datagram of which the sender sends no more: whoever tracks it waits for the rest.
    is_in_vain: bool,
}

impl Trial {
    /// Whether the frame came out as it should, given the OpenFlow ports where it did, sorted.
    pub(crate) fn agrees(&self, seen: &[u32]) -> bool {
        let Fate { outputs, .. } = &self.fate;
        if self.is_in_vain { seen.iter().all(|port| outputs.contains(port)) } else { seen == outputs }
    }
}

/// The flows that a bridge holds.
pub(crate) type Held = BTreeMap<FlowKey, Flow>;

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) phases: Vec<Phase>,
}

impl Script {
    /// Writes down how the steps go on a bridge that holds these flows, which become those that it holds at the end. The
    /// ports' zones are counted from the one given.
    pub(crate) fn new(world: &World, steps: &[Step], first_zone: u16, held: &mut Held) -> Self {
        let rendered = Rendered::in_zones(world, first_zone);
        let wanted: Held = rendered.flows().map(|flow| (flow.key(), flow.clone())).collect();
        let gone = held.keys().filter(|key| !wanted.contains_key(key)).map(FlowMod::delete_strict);
        let come = wanted.iter().filter(|(key, flow)| held.get(key) != Some(flow));
        let changes = gone.chain(come.map(|(_, flow)| FlowMod::add(flow))).collect();
        let mut recorder = Recorder {
            evaluated: Evaluated::new(world),
            rendered,
            phases: vec![(changes, Vec::new())],
            datagrams: BTreeMap::new(),
        };
        play_on(&mut recorder, world, steps).expect("what is written down differs from nothing");
        *held = recorder.rendered.flows().map(|flow| (flow.key(), flow.clone())).collect();
        Script { phases: recorder.phases }
    }

    pub(crate) fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.phases.iter().flat_map(|(_, trials)| trials)
    }
}

struct Recorder {
    evaluated: Evaluated,
    rendered: Rendered,
    phases: Vec<Phase>,
    /// The whole of the last datagram in fragments between two ends.
    datagrams: BTreeMap<(IpAddr, IpAddr), IpPacket>,
}

impl Stage for Recorder {
    fn set_policy(&mut self, world: &World) {
        self.evaluated.set_policy(world);
        let ops = self.rendered.set_policy(world);
        self.phase(ops);
    }

    fn sweep(&mut self) {
        let ops = self.rendered.sweep();
        self.phase(ops);
    }

    fn send(&mut self, world: &World, sent: &Sent) -> Result<bool, String> {
        if is_icmp_of_the_other_family(sent) || is_a_first_part_without_a_header(sent) || self.closes(sent) {
            return Ok(false);
        }
        let number = self.phases.iter().map(|(_, trials)| trials.len()).sum();
        let bytes = numbered(&self.sketch(sent), number);
        let fate = if self.is_beginning_of_nothing(sent) {
            // The tracker waits for the rest, and has no connection.
            self.evaluated.clone().judge(sent)
        } else {
            self.evaluated.judge(sent)
        };
        let is_admitted = !fate.outputs.is_empty();
        if part(sent) == Some(Fragment::Later) && fate.egress.is_none() {
            self.last_was_not_in_vain(sent);
        }
        let trial = trial(world, sent, bytes, fate);
        let (_, trials) = self.phases.last_mut().expect("a policy is in force");
        trials.push(trial);
        Ok(is_admitted)
    }
}

impl Recorder {
    /// Another policy is in force.
    fn phase(&mut self, ops: Vec<FlowOp>) {
        let change = |op| match op {
            FlowOp::Set(flow) => FlowMod::add(&flow),
            FlowOp::Remove(key) => FlowMod::delete_strict(&key),
        };
        self.phases.push((ops.into_iter().map(change).collect(), Vec::new()));
    }

    /// Whether the frame would end a TCP connection that the tracker may hold: the models' connections do not close, while
    /// the tracker gives up one that was reset, and takes a reset for one by its sequence number only.
    fn closes(&self, sent: &Sent) -> bool {
        const FIN_OR_RST: u8 = 0x05;
        let Some((ends, flags)) = tcp(sent) else { return false };
        let trials = self.phases.iter().flat_map(|(_, trials)| trials);
        let mut earlier = trials.filter_map(|trial| tcp(&trial.sent));
        flags & FIN_OR_RST != 0 && earlier.any(|([src, dst], _)| ends == [src, dst] || ends == [dst, src])
    }

    /// Whether it is the first part of a datagram of which the sender's rules keep the rest.
    fn is_beginning_of_nothing(&self, sent: &Sent) -> bool {
        let Some(rest) = later_fragment(sent) else { return false };
        let mut evaluated = self.evaluated.clone();
        evaluated.judge(sent);
        evaluated.judge(&rest).egress.is_some()
    }

    /// The rest of the datagram follows whose beginning was sent last, if that was one.
    fn last_was_not_in_vain(&mut self, rest: &Sent) {
        let ends = |sent: &Sent| sent.ip().map(|packet| (packet.src, packet.dst));
        let last = self.phases.last_mut().and_then(|(_, trials)| trials.last_mut());
        if let Some(last) = last.filter(|last| ends(&last.sent) == ends(rest)) {
            last.is_in_vain = false;
        }
    }

    /// The frame with what a later fragment does not show: what its datagram carries.
    fn sketch(&mut self, sent: &Sent) -> Sketch {
        let mut sketch = sketch(sent);
        if let Body::Ip(datagram) = &mut sketch.body {
            let ends = (datagram.packet.src, datagram.packet.dst);
            match sent.ip().map(|packet| packet.fragment) {
                Some(Fragment::First) => _ = self.datagrams.insert(ends, datagram.packet),
                Some(Fragment::Later) => {
                    datagram.packet = self.datagrams.get(&ends).copied().unwrap_or(datagram.packet);
                }
                _ => {}
            }
        }
        sketch
    }
}

fn part(sent: &Sent) -> Option<Fragment> {
    sent.ip().map(|packet| packet.fragment)
}

/// The tracker asks the protocol's number alone what a packet is, and finds no query in what IPv4 carries as ICMPv6: it is
/// invalid, unless the first octet says otherwise. The models take it for any other protocol.
fn is_icmp_of_the_other_family(sent: &Sent) -> bool {
    sent.ip().is_some_and(|packet| {
        let other = if packet.src.is_ipv4() { Ethertype::Ipv6 } else { Ethertype::Ipv4 };
        packet.protocol == other.icmp()
    })
}

/// A part that others follow has eight octets at least, and in them all that anybody looks at: there are no such frames, but
/// for chains of IPv6 headers that a frame of the models does not tell (`integration/tests/headers_that_end_early.rs`).
fn is_a_first_part_without_a_header(sent: &Sent) -> bool {
    sent.ip().is_some_and(|packet| {
        let has_header = PortProtocol::from_number(packet.protocol).is_some()
            || packet.protocol == packet.ethertype().icmp();
        has_header && packet.fragment == Fragment::First && packet.transport == Transport::None
    })
}

/// The frame as its sender sends it; what comes from the network has the tag of its VLAN besides.
fn sketch(sent: &Sent) -> Sketch {
    /// What stands behind a tag of which the frame tells nothing but the kind, as in `verify::Packet::of_frame`.
    const SOME_VID: u16 = 1;
    const SOME_ETHERTYPE: u16 = 0x1234;
    let mut sketch = Sketch::from(&sent.frame);
    if let Body::Other(ethertype @ (CUSTOMER_TAG | SERVICE_TAG)) = sketch.body {
        sketch.tags.push(Tag { ethertype, vid: SOME_VID });
        sketch.body = Body::Other(SOME_ETHERTYPE);
    }
    sketch
}

/// The bytes of a frame, no other frame of its world having the same: all but the parts of a datagram, of which there is
/// one between two ends, are filled up, and end in a number.
fn numbered(sketch: &Sketch, number: usize) -> Vec<u8> {
    let mut bytes = sketch.bytes().expect("a short datagram");
    let is_part = matches!(&sketch.body, Body::Ip(datagram) if datagram.part.is_some());
    if !is_part {
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes.extend(u32::try_from(number).expect("a few frames").to_be_bytes());
    }
    bytes
}

fn trial(world: &World, sent: &Sent, bytes: Vec<u8>, fate: Fate) -> Trial {
    let (from, vlan) = match sent.from {
        Sender::Local(port) => (ofport(port), VLANS[network_of(port)]),
        Sender::Network(network) => (TRUNK, VLANS[network]),
    };
    let tagged = |frame: &[u8]| {
        let [high, low] = vlan.to_be_bytes();
        let [a, b] = CUSTOMER_TAG.to_be_bytes();
        [&frame[..ADDRESSES], &[a, b, high, low], &frame[ADDRESSES..]].concat()
    };
    // "VID 0 is stripped and judged untagged" (semantics, egress 0).
    let is_stripped = sent.frame.vlan == Some(0) && is_filtered(world, sent);
    let delivered = match is_stripped {
        true => [&bytes[..ADDRESSES], &bytes[ADDRESSES + TAG..]].concat(),
        false => bytes.clone(),
    };
    let to_network = tagged(&delivered);
    let bytes = if from == TRUNK { tagged(&bytes) } else { bytes };
    let is_in_vain = part(sent) == Some(Fragment::First);
    Trial { sent: *sent, from, bytes, delivered, to_network, fate, is_in_vain }
}

/// Ends and flags of a TCP segment.
fn tcp(sent: &Sent) -> Option<([(IpAddr, u16); 2], u8)> {
    let packet = sent.ip().filter(|packet| packet.protocol == PortProtocol::Tcp.number())?;
    match packet.transport {
        Transport::Ports { src, dst, tcp_flags } => Some(([(packet.src, src), (packet.dst, dst)], tcp_flags)),
        _ => None,
    }
}
