//! The law on hosts with hybrid bridges: random frames, judged by random policies that change on the way, go in at guests' devices and from the
//! network, and come out where the evaluator says and nowhere else. After each change of the policy a driver that begins anew finds the kernel
//! as it would have made it: what the changes left there is what a cold start makes. Needs root.
//!
//! Worlds and steps are those of `crates/verify/tests/world`. `SGFLOW_HYBRID_VERDICTS` says how many verdicts there shall be at least,
//! `SGFLOW_HYBRID_VERDICTS_FIRST_WORLD` from which world on.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

#[path = "../../../crates/verify/tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;

use integration::{
    HybridDriver, HybridFirewall, IptablesLegacy, IptablesNft, NftablesAlone, PageFirewall as _,
};
use policy::PortProtocol;
use policy::evaluator::{Fragment, Transport};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::case::Binding;
use tests::sketch::{Body, CUSTOMER_TAG, SERVICE_TAG, Sketch, Tag};

use world::frames::{Sender, Sent};
use world::host::{Evaluated, TRUNK, VLANS, ofport};
use world::play::{self, Stage, is_filtered, play_on};
use world::policies::{LOCAL_PORTS, World, network_of, port_id};

const UPLINK: &str = "uplink";

#[test]
fn iptables_over_nf_tables_does_what_the_evaluator_says() {
    search::<IptablesNft>(0);
}

#[test]
fn the_old_iptables_does_what_the_evaluator_says() {
    search::<IptablesLegacy>(1_000_000);
}

#[test]
fn nftables_alone_does_what_the_evaluator_says() {
    search::<NftablesAlone>(2_000_000);
}

fn search<D: HybridDriver>(from: u64) {
    let wanted = of_environment("SGFLOW_HYBRID_VERDICTS", 150);
    let mut number = from + of_environment("SGFLOW_HYBRID_VERDICTS_FIRST_WORLD", 0);
    let (mut verdicts, mut admitted, mut policies) = (0, 0, 0);
    while verdicts < wanted {
        let (world, steps) = scenario(number);
        let mut played = Played::<D>::start(&world);
        if let Err(difference) = play_on(&mut played, &world, &steps) {
            panic!("world {number}: {difference}\n{steps:#?}\n{world:#?}");
        }
        verdicts += played.verdicts;
        admitted += played.admitted;
        policies += played.policies;
        number += 1;
    }
    println!(
        "{verdicts} verdicts under {policies} policies in {} worlds, {admitted} frames reached somebody",
        number - from
    );
    assert!(admitted > verdicts / 10, "hardly a frame reached anybody");
}

/// A world on a host.
struct Played<D> {
    firewall: HybridFirewall<D>,
    evaluated: Evaluated,
    verdicts: u64,
    admitted: u64,
    policies: u64,
}

impl<D: HybridDriver> Played<D> {
    fn start(world: &World) -> Self {
        let local = (0..LOCAL_PORTS).map(|port| Binding {
            port_id: Some(port_id(port).to_string()),
            interface: format!("tap{port}"),
            ofport: u32::from(ofport(port)),
            tag: Some(VLANS[network_of(port)]),
            uplink: false,
        });
        let uplink = Binding {
            port_id: None,
            interface: UPLINK.to_owned(),
            ofport: u32::from(TRUNK),
            tag: None,
            uplink: true,
        };
        let bindings: Vec<Binding> = local.chain([uplink]).collect();
        let config = tests::case::Config { permitted_ethertypes: world.permitted_ethertypes.clone() };
        let firewall = HybridFirewall::start(&bindings, &config).unwrap();
        let mut played = Played {
            firewall,
            evaluated: Evaluated::in_the_kernel(world),
            verdicts: 0,
            admitted: 0,
            policies: 0,
        };
        played.put_in_force(world);
        played
    }

    fn put_in_force(&mut self, world: &World) {
        self.firewall.put_in_force(&world.policy()).unwrap();
        self.firewall.restarted_finds_all_right().unwrap();
        self.policies += 1;
    }
}

impl<D: HybridDriver> Stage for Played<D> {
    fn set_policy(&mut self, world: &World) {
        self.evaluated.set_policy(world);
        self.put_in_force(world);
    }

    fn sweep(&mut self) {}

    fn send(&mut self, world: &World, sent: &Sent) -> Result<bool, String> {
        if is_tracked_otherwise(sent) || is_kept_by_bridges(sent) || is_stripped_by_the_switch(world, sent) {
            return Ok(false);
        }
        let fate = self.evaluated.judge(sent);
        let from = match sent.from {
            Sender::Local(port) => port_id(port).to_string(),
            Sender::Network(_) => UPLINK.to_owned(),
        };
        self.firewall.receive(&from, &bytes(sent)).map_err(|error| error.to_string())?;
        let seen = self.firewall.sighting().map_err(|error| error.to_string())?;
        let wanted: BTreeSet<String> = fate.outputs.iter().map(|port| name(*port)).collect();
        self.verdicts += 1;
        self.admitted += u64::from(!wanted.is_empty());
        if seen.keys().eq(&wanted) && seen.values().all(|frames| frames.len() == 1) {
            return Ok(!wanted.is_empty());
        }
        Err(format!("{sent:?}\nevaluator: {fate:?}\nhost:      {:?}", seen.keys().collect::<Vec<_>>()))
    }
}

fn name(port: u32) -> String {
    let local = (0..LOCAL_PORTS).find(|local| u32::from(ofport(*local)) == port);
    local.map_or_else(|| UPLINK.to_owned(), |local| port_id(local).to_string())
}

/// What the kernel's tracker takes for something else than the evaluator's model of the one in userspace does; and parts of datagrams, which
/// come out when they are whole (`flows/cases/fragments`).
fn is_tracked_otherwise(sent: &Sent) -> bool {
    const ACK: u8 = 0x10;
    const PSH: u8 = 0x08;
    // A message of SCTP or DCCP that does not begin a connection as these protocols do, which the models do not look at.
    const WITH_STATES: [u8; 2] = [PortProtocol::Sctp.number(), PortProtocol::Dccp.number()];
    let Some(packet) = sent.ip() else { return false };
    let is_query = |icmp_type: u8| match packet.src.is_ipv4() {
        true => [0, 8, 13, 14, 15, 16, 17, 18].contains(&icmp_type),
        false => [128, 129, 139, 140].contains(&icmp_type),
    };
    packet.fragment != Fragment::No
        || WITH_STATES.contains(&packet.protocol)
        || match packet.transport {
            // Port 0 is a port. The kernel follows each step of a TCP connection, of which any segment in its middle can be the first.
            Transport::Ports { src, dst, tcp_flags } => {
                let is_tcp = packet.protocol == PortProtocol::Tcp.number();
                src == 0 || dst == 0 || is_tcp && ![ACK, ACK | PSH].contains(&tcp_flags)
            }
            // A query with a code is a query; and there are more of them.
            Transport::Icmp { icmp_type, code, .. } => {
                is_query(icmp_type) && (code != 0 || ![0, 8, 128, 129].contains(&icmp_type))
            }
            // "One that ends early" is dropped before it comes to any rule.
            Transport::None => {
                PortProtocol::from_number(packet.protocol).is_some() || [1, 58].contains(&packet.protocol)
            }
        }
}

/// Destinations of IEEE 802.1Q, table 8-1, and senders that are none (`br_handle_frame`, net/bridge/br_input.c: `is_valid_ether_addr`).
fn is_kept_by_bridges(sent: &Sent) -> bool {
    let source = sent.frame.eth_src;
    source.is_group()
        || source.octets() == [0; 6]
        || matches!(sent.frame.eth_dst.octets(), [0x01, 0x80, 0xc2, 0, 0, last] if last & 0xf0 == 0)
}

/// A tag of VLAN 0 from a trusted port, which the switch behind a hybrid bridge takes away.
fn is_stripped_by_the_switch(world: &World, sent: &Sent) -> bool {
    matches!(sent.from, Sender::Local(_)) && sent.frame.vlan == Some(0) && !is_filtered(world, sent)
}

/// The frame as its sender sends it; what comes from the network has the tag of its VLAN besides.
fn bytes(sent: &Sent) -> Vec<u8> {
    let mut sketch = Sketch::from(&sent.frame);
    if let Body::Other(ethertype @ (CUSTOMER_TAG | SERVICE_TAG)) = sketch.body {
        sketch.tags.push(Tag { ethertype, vid: 1 });
        sketch.body = Body::Other(0x1234);
    }
    if let Sender::Network(network) = sent.from {
        sketch.tags.insert(0, Tag { ethertype: CUSTOMER_TAG, vid: VLANS[network] });
    }
    sketch.bytes().unwrap()
}

fn scenario(number: u64) -> (World, Vec<play::Step>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), chance);
    play::scenario(32..48).new_tree(&mut runner).unwrap().current()
}

fn of_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}
