//! Frames and changes of policy, one after the other, played on the evaluator and on the rendered flows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use policy::MacAddr;
use policy::evaluator::{Fragment, Transport};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use verify::Outcome;

use super::frames::{Sender, Sent, later_fragment, macs, sent};
use super::host::{Fate, Twice};
use super::policies::{Edit, LOCAL_PORTS, World, edit, network_of, world};
use super::routers::of_routers;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Sent),
    /// The same again, a reply, or an ICMP error about one of the frames before.
    Again(Index),
    Reply(Index),
    Error(Index),
    /// A datagram in parts, where one passed before.
    Parts(Index),
    /// The same again, from or to another MAC.
    OtherMacs(Index, Option<MacAddr>, Option<MacAddr>),
    Edit(Edit),
    Sweep,
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        8 => sent().prop_map(Step::Send),
        3 => any::<Index>().prop_map(Step::Again),
        4 => any::<Index>().prop_map(Step::Reply),
        2 => any::<Index>().prop_map(Step::Error),
        5 => any::<Index>().prop_map(Step::Parts),
        2 => (any::<Index>(), other_mac(), other_mac()).prop_map(|(index, src, dst)| Step::OtherMacs(index, src, dst)),
        4 => edit().prop_map(Step::Edit),
        1 => Just(Step::Sweep),
    ]
    .boxed()
}

/// A world, and what happens in it: steps, as many as the range says.
pub(crate) fn scenario(steps: Range<usize>) -> BoxedStrategy<(World, Vec<Step>)> {
    let any = (world(), vec(step(), steps));
    prop_oneof![3 => any.clone(), 1 => any.prop_map(of_routers)].boxed()
}

fn other_mac() -> BoxedStrategy<Option<MacAddr>> {
    prop::option::of(prop::sample::select(macs())).boxed()
}

/// Connections that go on after a change of policy.
const GOING_ON: usize = 3;

#[derive(Default)]
struct Scenario {
    sent: Vec<Sent>,
    /// Those that reached somebody: their connections are worth going on with.
    admitted: Vec<Sent>,
    /// Those that somebody may have got, and who.
    heard: Vec<(Sent, BTreeSet<usize>)>,
    /// Ends of datagrams that came in fragments: neither model tells two such datagrams apart.
    fragmented: BTreeSet<(IpAddr, IpAddr)>,
}

impl Scenario {
    /// After a change of policy the latest connections go on, one of them with a datagram in parts, and both ways, and an error
    /// is said about them.
    fn going_on(&mut self) -> Vec<Sent> {
        let latest = self.admitted.iter().rev().take(GOING_ON);
        let whole = latest.filter(|sent| sent.ip().is_some_and(|packet| packet.fragment == Fragment::No));
        let whole: Vec<Sent> = whole.copied().collect();
        let fragmented = &mut self.fragmented;
        let first = whole
            .iter()
            .filter_map(Sent::first_part)
            .find(|first| first.ip().is_some_and(|packet| fragmented.insert((packet.src, packet.dst))));
        let parts = first.into_iter().flat_map(|first| [first].into_iter().chain(later_fragment(&first)));
        let both_ways = |sent: Sent| [sent.error(), Some(sent.again()), sent.reply()];
        parts.chain(whole.into_iter().flat_map(both_ways).flatten()).collect()
    }

    /// "A connection keeps the direction of its first packet": the flows take what leaves a port and is no reply for one of a
    /// connection that left it first, and a reply that comes in likewise. A port may get both halves of a conversation,
    /// flooded, by a MAC that it shares or from a sender that takes its address; or get what it sends, from one that does.
    /// The evaluator goes by the direction of the first packet, the flows by that of this one.
    fn is_another_way_than_the_first(&self, world: &World, sent: &Sent) -> bool {
        let now = sides(sent, &receivers(world, sent));
        self.heard.iter().any(|(earlier, heard)| {
            let [same, turned] = relation(earlier, sent);
            let before = sides(earlier, heard);
            let by_port = before.iter().filter_map(|(port, side)| Some((side, now.get(port)?)));
            by_port.into_iter().any(|(first, this)| if first == this { turned } else { same })
        })
    }

    /// The frames of a step; none if it has nothing to refer to.
    fn frames(&mut self, step: &Step) -> Vec<Sent> {
        let earlier =
            |index: &Index| (!self.sent.is_empty()).then(|| self.sent[index.index(self.sent.len())]);
        let sent = match step {
            Step::Send(sent) => Some(*sent),
            Step::Again(index) => earlier(index).map(|sent| sent.again()),
            Step::Reply(index) => earlier(index).and_then(|sent| sent.reply()),
            Step::Error(index) => earlier(index).and_then(|sent| sent.error()),
            Step::Parts(index) => {
                let passed: Vec<Sent> = self.admitted.iter().filter_map(Sent::first_part).collect();
                (!passed.is_empty()).then(|| passed[index.index(passed.len())])
            }
            Step::OtherMacs(index, src, dst) => earlier(index).map(|sent| sent.with_macs(*src, *dst)),
            Step::Edit(_) => return self.going_on(),
            Step::Sweep => None,
        };
        let Some(sent) = sent else { return Vec::new() };
        let part = sent.ip().filter(|packet| packet.fragment != Fragment::No);
        if part.is_some_and(|packet| !self.fragmented.insert((packet.src, packet.dst))) {
            return Vec::new();
        }
        self.sent.push(sent);
        [sent].into_iter().chain(later_fragment(&sent)).collect()
    }
}

/// Whether a frame leaves a port or comes in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Leaves,
    ComesIn,
}

fn sides(sent: &Sent, heard: &BTreeSet<usize>) -> BTreeMap<usize, Side> {
    let from = match sent.from {
        Sender::Local(port) => Some((port, Side::Leaves)),
        Sender::Network(_) => None,
    };
    heard.iter().map(|port| (*port, Side::ComesIn)).chain(from).collect()
}

/// Whether the frame belongs to the conversation of an earlier one by its addresses, in the same direction or in the other.
fn relation(earlier: &Sent, sent: &Sent) -> [bool; 2] {
    let Some((first, second)) = earlier.ip().zip(sent.ip()) else { return [false; 2] };
    let (src, dst) = match second.transport {
        // An error goes against the packet that it is about.
        Transport::Icmp { quoted: Some(quoted), .. } => (quoted.dst, quoted.src),
        _ => (second.src, second.dst),
    };
    [(src, dst) == (first.src, first.dst), (dst, src) == (first.src, first.dst)]
}

/// The ports of this host that a frame goes to, as far as its MAC says.
fn receivers(world: &World, sent: &Sent) -> BTreeSet<usize> {
    let network = match sent.from {
        Sender::Local(port) => network_of(port),
        Sender::Network(network) => network,
    };
    let to = sent.frame.eth_dst;
    let others =
        (0..LOCAL_PORTS).filter(|port| network_of(*port) == network && sent.from != Sender::Local(*port));
    let by_mac: BTreeSet<_> = others.clone().filter(|port| world.macs(*port).contains(&to)).collect();
    if to.is_group() || by_mac.is_empty() { others.collect() } else { by_mac }
}

/// Frames of which the evaluator and the flows are known to think differently, each with the sentence of the law.
fn is_open(world: &World, sent: &Sent) -> bool {
    to_the_sender_itself(world, sent)
        || ends_early(world, sent)
        || is_sctp_in_fragments(sent)
        || is_its_own_reply(sent)
}

/// "A connection keeps the direction of its first packet": the flows take a packet that leaves and is no reply for one of a
/// connection that began here. It may be of one that came in if both ends have one address.
fn is_its_own_reply(sent: &Sent) -> bool {
    sent.ip().is_some_and(|packet| packet.src == packet.dst)
}

/// "Fragments are judged by the whole datagram's ports where the frame is tracked", and SCTP is tracked without: later
/// fragments the flows let pass with the first datagram of a connection alone, the evaluator never.
fn is_sctp_in_fragments(sent: &Sent) -> bool {
    sent.ip().is_some_and(|packet| packet.protocol == 132 && packet.fragment != Fragment::No)
}

/// docs/decisions/0005: where rules judge the packet itself, a packet that ends before its header shows port 0 or type 0 to
/// the flows; to the evaluator it has none.
fn ends_early(world: &World, sent: &Sent) -> bool {
    const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
    let Some(packet) = sent.ip() else { return false };
    let by_packet = sent.frame.eth_dst.is_group() || world.groups.iter().any(|group| !group.stateful);
    by_packet
        && packet.transport == Transport::None
        && packet.fragment != Fragment::Later
        && (WITH_PORTS.contains(&packet.protocol) || packet.protocol == packet.ethertype().icmp())
}

pub(crate) fn is_filtered(world: &World, sent: &Sent) -> bool {
    match sent.from {
        Sender::Local(port) => world.ports[port].as_ref().is_some_and(|port| !port.trusted),
        Sender::Network(_) => false,
    }
}

/// "One zone a port": what a port sends to a MAC of its own comes back to its ingress half, and is tracked there once more
/// before nobody gets it. A connection that no ingress rule admits then has a mark of 0: errors about it are dropped until
/// its next packet is judged. The evaluator delivers no frame to its sender. Only the sender's own connections are
/// concerned, and to spare them would take a flow for each of its MACs.
fn to_the_sender_itself(world: &World, sent: &Sent) -> bool {
    match sent.from {
        Sender::Local(port) => world.macs(port).contains(&sent.frame.eth_dst),
        Sender::Network(_) => false,
    }
}

/// Whether the frame reached anybody; the difference if there is one.
fn compare(twice: &mut Twice, sent: &Sent) -> Result<bool, String> {
    let wanted = twice.by_evaluator(sent);
    let (seen, outcome) = twice.by_flows(sent).map_err(|error| format!("{sent:?}\n{error}"))?;
    if agree(&wanted, &seen, &outcome) {
        return Ok(!seen.outputs.is_empty());
    }
    Err(format!("{sent:?}\nevaluator: {wanted:?}\nflows:     {seen:?}\n{}", twice.way(&outcome)))
}

/// The same frames come out, for the same reasons others do not. Two differences have no meaning:
/// a later fragment that the tracker keeps for ever counts as no drop;
/// "No rule matches: dropped, `no-rule`": to the tracker in userspace a connection that was never answered is new again, so
/// the flows do not call it `revoked`.
fn agree(wanted: &Fate, seen: &Fate, outcome: &Outcome) -> bool {
    let is_kept = !outcome.kept_in.is_empty();
    let same = |wanted: Option<&String>, seen: Option<(&String, bool)>| match (wanted, seen) {
        (Some(wanted), Some((seen, is_new))) => {
            wanted == seen || (is_new && wanted == "revoked" && seen == "no-rule")
        }
        (wanted, None) => wanted.is_none() || is_kept,
        (None, Some(_)) => false,
    };
    let egress = seen.egress.as_ref().map(|reason| (&reason.text, reason.is_new));
    wanted.outputs == seen.outputs
        && same(wanted.egress.as_ref().map(|reason| &reason.text), egress)
        && wanted.ingress.keys().chain(seen.ingress.keys()).all(|port| {
            let seen = seen.ingress.get(port).map(|reason| (&reason.text, reason.is_new));
            same(wanted.ingress.get(port).map(|reason| &reason.text), seen)
        })
}

/// What steps are played on.
pub(crate) trait Stage {
    fn set_policy(&mut self, world: &World);

    fn sweep(&mut self);

    /// Whether the frame reached anybody; the difference if there is one.
    fn send(&mut self, world: &World, sent: &Sent) -> Result<bool, String>;
}

impl Stage for Twice {
    fn set_policy(&mut self, world: &World) {
        Twice::set_policy(self, world);
    }

    fn sweep(&mut self) {
        Twice::sweep(self);
    }

    fn send(&mut self, _: &World, sent: &Sent) -> Result<bool, String> {
        compare(self, sent)
    }
}

/// Plays the steps on both; gives table and priority of the flows that were found.
pub(crate) fn play(world: &World, steps: &[Step]) -> Result<BTreeSet<(u8, u16)>, String> {
    let mut twice = Twice::new(world);
    play_on(&mut twice, world, steps)?;
    Ok(twice.found().clone())
}

/// Plays the steps, leaving out the frames of which [`is_open`] and [`Scenario::is_another_way_than_the_first`] speak.
pub(crate) fn play_on(stage: &mut impl Stage, world: &World, steps: &[Step]) -> Result<(), String> {
    let mut world = world.clone();
    let mut scenario = Scenario::default();
    for step in steps {
        match step {
            Step::Edit(edit) => {
                world.apply(edit);
                stage.set_policy(&world);
            }
            Step::Sweep => stage.sweep(),
            _ => {}
        }
        for sent in &scenario.frames(step) {
            if is_open(&world, sent) || scenario.is_another_way_than_the_first(&world, sent) {
                continue;
            }
            scenario.heard.push((*sent, receivers(&world, sent)));
            if stage.send(&world, sent)? {
                scenario.admitted.push(*sent);
            }
        }
    }
    Ok(())
}
