//! What is explained, against the evaluator, the flows, and a real switch's own traces: the same verdict, the same reason, the same
//! rules, the same way. Needs root.
//!
//! `SGFLOW_EXPLAIN_PAIRS` says of how many packets (default 2,000), `SGFLOW_EXPLAIN_SEED` which (default 1).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of a test that cannot go on")]

#[path = "../../verify/tests/world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use explain::answer::answer;
use explain::decode::Sources;
use explain::path::{Fate, Place, follow};
use explain::question::{Content, PacketState, Question};
use explain::readable::Readable;
use lab::{Datapath, DummyPort, DummySpec, FailMode, Ovs, OvsOptions, UnixCtl};
use policy::evaluator::{
    Connection, Detail, Evaluator, Fragment, Frame, IpPacket, Payload, Settings, Tracking, Transport, Tuple,
    Verdict,
};
use policy::{Direction, MacAddr};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_openflow::Flow;
use verify::Tables;
use verify::symbolic::{Joints, LocalPort};

use world::frames::{Sender, Sent, sent};
use world::host::{Rendered, VLANS, ofport};
use world::policies::{LOCAL_PORTS, World, mac_of, network_of, port_id, world};

const BRIDGE: &str = "br-int";
/// None of its ports.
const NO_PORT: u16 = 0xfe00;
const PACKETS_OF_A_WORLD: usize = 40;
const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120, output: 127 };
/// Of so many packets each verdict is met often enough to say something.
const LEAST: usize = 20;

#[test]
fn policy_flows_and_switch_explain_alike() {
    let mut switch = Switch::start();
    let wanted = of_environment("SGFLOW_EXPLAIN_PAIRS", 2000);
    let mut runner = seeded(of_environment("SGFLOW_EXPLAIN_SEED", 1));
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    let mut done = 0;
    while done < wanted {
        let world = world().new_tree(&mut runner).unwrap().current();
        let flows: Vec<Flow> = Rendered::new(&world).flows().cloned().collect();
        switch.replace_flows(&flows);
        let tables = Tables::new(flows.into_iter().map(Flow::canonical)).unwrap();
        let settings =
            Settings { permitted_ethertypes: world.permitted_ethertypes.clone(), ..Settings::default() };
        let policy = world.policy();
        let evaluator = Evaluator::new(&policy, settings);
        let readable = Readable::new(tables.flows(), Sources { policy: Some(&policy), ..Sources::default() });
        for _ in 0..PACKETS_OF_A_WORLD {
            let asked = asked().new_tree(&mut runner).unwrap().current();
            let Some(case) = Case::of(&world, &asked) else { continue };
            let verdict = case.check(&evaluator, &tables, &readable, &mut switch);
            *verdicts.entry(verdict).or_default() += 1;
            done += 1;
        }
    }
    println!("{done} packets: {verdicts:?}");
    for verdict in [
        "accept (rule)",
        "accept (trusted)",
        "drop (no-rule)",
        "drop (spoofed-ip)",
        "drop (spoofed-mac)",
        "drop (revoked)",
    ] {
        assert!(verdicts.get(verdict).is_some_and(|count| *count >= LEAST), "{verdict}: {verdicts:?}");
    }
}

/// A frame, at which local port, which way, and what it is to the tracker.
#[derive(Clone, Debug)]
struct Asked {
    sent: Sent,
    port: usize,
    direction: Direction,
    state: PacketState,
}

fn asked() -> BoxedStrategy<Asked> {
    let states = [PacketState::New, PacketState::Established, PacketState::Reply, PacketState::Invalid];
    (sent(), 0..LOCAL_PORTS, any::<bool>(), select(states.to_vec()))
        .prop_map(|(sent, port, sends, state)| Asked {
            sent,
            port,
            direction: if sends { Direction::Egress } else { Direction::Ingress },
            state,
        })
        .boxed()
}

/// What is compared.
struct Case {
    question: Question,
    /// The frame and what the tracker says of it, by nobody's doing but the test's.
    frame: Frame,
    tracking: Tracking,
    port: LocalPort,
}

impl Case {
    /// None where no question asks for this.
    fn of(world: &World, asked: &Asked) -> Option<Self> {
        let Asked { sent, direction, state, .. } = asked;
        let port = match (direction, sent.from) {
            (Direction::Egress, Sender::Local(port)) => port,
            (Direction::Egress, Sender::Network(_)) => return None,
            (Direction::Ingress, _) => asked.port,
        };
        // A port without a policy: there is nothing to answer from.
        world.ports[port].as_ref()?;
        let mut frame = sent.frame;
        if *direction == Direction::Ingress {
            frame.vlan = None;
            if !frame.eth_dst.is_group() {
                frame.eth_dst = mac_of(port);
            }
        }
        let (peer, own, content) = match &mut frame.payload {
            Payload::Ip(packet) if packet.fragment == Fragment::No => {
                let content = content(packet, *state)?;
                match direction {
                    Direction::Egress => (packet.dst, packet.src, content),
                    Direction::Ingress => (packet.src, packet.dst, content),
                }
            }
            Payload::Arp { op, sha, spa, tha, tpa } => {
                (*op, *sha, *tha) = (1, frame.eth_src, MacAddr([0; 6]));
                frame.eth_dst = MacAddr::BROADCAST;
                let (from, to) = ((*spa).into(), (*tpa).into());
                match direction {
                    Direction::Egress => (to, from, Content::Arp),
                    Direction::Ingress => (from, to, Content::Arp),
                }
            }
            Payload::Other(number) if ![0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8].contains(number) => {
                let nobody = "0.0.0.0".parse().unwrap();
                (nobody, nobody, Content::Ethertype(*number))
            }
            _ => return None,
        };
        let (peer_mac, own_mac) = match direction {
            Direction::Egress => (frame.eth_dst, frame.eth_src),
            Direction::Ingress => (frame.eth_src, frame.eth_dst),
        };
        let question = Question {
            port: port_id(port),
            direction: *direction,
            peer,
            peer_mac: Some(peer_mac),
            own: Some(own),
            own_mac: Some(own_mac),
            vlan: frame.vlan,
            content,
            state: *state,
        };
        let tracking = tracking(&frame, *direction, *state)?;
        let port = LocalPort { id: port_id(port), ofport: ofport(port), vlan: VLANS[network_of(port)] };
        (!is_open(&frame)).then_some(Case { question, frame, tracking, port })
    }

    fn check(
        &self,
        evaluator: &Evaluator,
        tables: &Tables,
        readable: &Readable,
        switch: &mut Switch,
    ) -> String {
        let Case { question, frame, tracking, port } = self;
        let direction = question.direction;
        let judgement = evaluator.judge(&question.port, direction, frame, tracking);
        let told = answer(evaluator, question).unwrap();
        let of = format!("{question:#?}\n{frame:?}\n{tracking:?}\n{told}");
        assert_eq!(told.accepted, judgement.accepted(), "{of}");
        let reason = match judgement.verdict {
            Verdict::Accept(basis) => basis.to_string(),
            Verdict::Drop(reason) => reason.to_string(),
        };
        assert_eq!(told.reason, reason, "{of}");
        let rules: Vec<_> =
            judgement.rules.iter().map(|(group, rule)| (group.to_string(), rule.to_string())).collect();
        let rules_told: Vec<_> =
            told.rules.iter().map(|rule| (rule.group.clone(), rule.rule.clone())).collect();
        assert_eq!(rules_told, rules, "{of}");

        let place = Place { tables, joints: JOINTS, port };
        let (asked, tracked) = question.frame(evaluator.policy()).unwrap();
        let path = follow(place, direction, &asked, &tracked);
        let fate = if told.accepted { Fate::Passes } else { Fate::Dropped(reason) };
        assert_eq!(path.fate, fate, "{of}\n{:#?}", path.steps);
        // Of the rules that admit it, the flow that let it pass is at least one's.
        let met = readable.rules_of(&path);
        let is_met =
            told.rules.iter().any(|rule| met.iter().any(|name| name.id.as_deref() == Some(&rule.rule)));
        assert_eq!(is_met, !told.rules.is_empty(), "{of}\n{met:?}\n{:#?}", path.steps);
        for stretch in path.stretches() {
            let [packet, action] = stretch.question();
            let trace = switch.trace(&packet, &action);
            assert_eq!(stretch.compare(tables, &trace), None, "{of}\n{packet} {action}\n{trace}");
        }
        judgement.verdict.to_string()
    }
}

fn content(packet: &mut IpPacket, state: PacketState) -> Option<Content> {
    let (detail, target) = match &mut packet.transport {
        Transport::Ports { src, dst, tcp_flags } => {
            *tcp_flags = match (packet.protocol, state) {
                (6, PacketState::New) => 0x02,
                (6, _) => 0x10,
                _ => 0,
            };
            (Detail::Ports { src: *src, dst: *dst }, None)
        }
        Transport::Icmp { icmp_type, code, nd_target, quoted } => {
            *quoted = None;
            let has_target = packet.src.is_ipv6() && matches!(*icmp_type, 135 | 136);
            // A question without a target is about the source's.
            if has_target != nd_target.is_some() {
                return None;
            }
            (Detail::Icmp { icmp_type: *icmp_type, code: *code }, *nd_target)
        }
        Transport::None => (Detail::None, None),
    };
    Some(Content::Ip { protocol: packet.protocol, detail, nd_target: target })
}

/// What a tracker says of the frame, or none if it says no such thing.
fn tracking(frame: &Frame, direction: Direction, state: PacketState) -> Option<Tracking> {
    let Payload::Ip(packet) = &frame.payload else {
        return (state == PacketState::New).then_some(Tracking::Invalid);
    };
    let own = packet.tuple();
    let turned = |detail| Tuple { src: own.dst, dst: own.src, protocol: own.protocol, detail };
    let reversed = match own.detail {
        Detail::Ports { src, dst } => turned(Detail::Ports { src: dst, dst: src }),
        Detail::Icmp { icmp_type: 0, code } => turned(Detail::Icmp { icmp_type: 8, code }),
        Detail::Icmp { icmp_type: 129, code } => turned(Detail::Icmp { icmp_type: 128, code }),
        Detail::Icmp { .. } if state == PacketState::Reply => return None,
        detail => turned(detail),
    };
    let other = direction.opposite();
    Some(match state {
        PacketState::New => Tracking::New(own),
        PacketState::Established => {
            Tracking::Connection(Connection { original: direction, tuple: own, reply: false, related: false })
        }
        PacketState::Reply => {
            Tracking::Connection(Connection { original: other, tuple: reversed, reply: true, related: false })
        }
        PacketState::Related | PacketState::Invalid => Tracking::Invalid,
    })
}

/// What the evaluator and the flows are known to think differently of: docs/decisions/0005.
fn is_open(frame: &Frame) -> bool {
    let Payload::Ip(packet) = &frame.payload else { return false };
    let has_header = [6, 17, 33, 132, 136, 1, 58].contains(&packet.protocol);
    packet.transport == Transport::None && has_header || packet.protocol == 0
}

/// A real switch that is asked for traces.
struct Switch {
    ctl: UnixCtl,
    _ports: Vec<DummyPort>,
    ovs: Ovs,
}

impl Switch {
    fn start() -> Self {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None }).unwrap();
        ovs.add_bridge(BRIDGE, FailMode::Secure).unwrap();
        let spec = |n: u16| DummySpec { ofport: Some(n), ..DummySpec::new(&format!("d{n}")) };
        let ports = ovs.add_dummy_ports(BRIDGE, [1, 2, 3, 4, 5, 6, 7, 100].map(spec).to_vec()).unwrap();
        ovs.ofctl(&["set-frags", BRIDGE, "nx-match"]).unwrap();
        let ctl = ovs.connect_ctl().unwrap();
        Switch { ctl, _ports: ports, ovs }
    }

    fn replace_flows(&mut self, flows: &[Flow]) {
        let mut text = String::new();
        for flow in flows {
            // The text of ovs-ofctl has no truncated output to TABLE; to a port that is not there does as little.
            let flow = flow.to_string().replace("output(port=TABLE,", &format!("output(port={NO_PORT},"));
            writeln!(text, "{flow}").unwrap();
        }
        let file = self.ovs.rundir().join("flows");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        self.ovs.ofctl(&["-O", "OpenFlow14", "replace-flows", BRIDGE, &file]).unwrap();
    }

    fn trace(&mut self, packet: &str, action: &str) -> String {
        let call = ("ofproto/trace-packet-out", vec![BRIDGE, packet, action]);
        let mut answers =
            self.ctl.call_all(&[call]).unwrap_or_else(|error| panic!("{error}: {packet} {action}"));
        answers.remove(0)
    }
}

fn seeded(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn of_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}
