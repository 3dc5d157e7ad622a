//! A stride through the small worlds (`tests::small`) on a real Open vSwitch: real frames at its ports, against the
//! evaluator; each world is a change of the one before, whose connections go on. Needs root.

use std::error::Error;

use integration::{Firewall, PageFirewall as _, Sighting};
use policy::evaluator::{Host, Model, Settings};
use tests::case::{Binding, Config};
use tests::sketch::{CUSTOMER_TAG, Sketch, Tag};
use tests::small::{Bound, From, LOCAL, Probe, VLAN, World, port_id, probes};

const UPLINK: &str = "uplink";

/// One world in so many. No divisor of what the worlds are counted by, so that the stride meets every rule, and every way
/// to carry groups.
const STRIDE: usize = 127;

/// The switch and the evaluator's model of it.
struct Both {
    firewall: Firewall,
    model: Model,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn bindings() -> Vec<Binding> {
    let local = (0..LOCAL).map(|port| Binding {
        port_id: Some(port_id(port).to_string()),
        interface: format!("tap{port}"),
        ofport: u32::try_from(port + 1).expect("few ports"),
        tag: Some(VLAN),
        uplink: false,
    });
    let uplink = Binding { port_id: None, interface: UPLINK.to_owned(), ofport: 9, tag: None, uplink: true };
    local.chain([uplink]).collect()
}

fn model(world: &World) -> Model {
    let bindings = (0..LOCAL).map(|port| (port_id(port), VLAN)).collect();
    Model::new(&world.policy(), Settings::default(), Host { bindings })
}

/// The name of the port where a frame comes in.
fn name(from: From) -> String {
    match from {
        From::Port(port) => port_id(port).to_string(),
        From::Network => UPLINK.to_owned(),
    }
}

/// The frame as it is seen at a port: with the network's tag at the uplink.
fn bytes_at(probe: &Probe, port: &str) -> Result<Vec<u8>> {
    let mut sketch = Sketch::from(&probe.frame);
    if port == UPLINK {
        sketch.tags.push(Tag { ethertype: CUSTOMER_TAG, vid: VLAN });
    }
    Ok(sketch.bytes()?)
}

impl Both {
    /// Where the evaluator says that the frame comes out.
    fn by_evaluator(&mut self, probe: &Probe) -> Vec<String> {
        let (delivered, to_network) = match probe.from {
            From::Port(port) => {
                let outcome = self.model.send(&port_id(port), &probe.frame);
                (outcome.delivered, outcome.to_network)
            }
            From::Network => (self.model.receive(VLAN, &probe.frame), false),
        };
        let ports = delivered.into_iter().filter(|(_, judgement)| judgement.accepted());
        ports.map(|(id, _)| id.to_string()).chain(to_network.then(|| UPLINK.to_owned())).collect()
    }

    /// Sends all frames, those of one sender at once, and compares who receives what. Which of them arrived.
    fn send(&mut self, probes: &[Probe]) -> Result<Vec<bool>> {
        let mut wanted = Sighting::new();
        let mut arrived = vec![false; probes.len()];
        for from in (0..LOCAL).map(From::Port).chain([From::Network]) {
            let mut frames = Vec::new();
            for (n, probe) in probes.iter().enumerate().filter(|(_, probe)| probe.from == from) {
                frames.push(bytes_at(probe, &name(from))?);
                for port in self.by_evaluator(probe) {
                    arrived[n] = true;
                    let bytes = bytes_at(probe, &port)?;
                    wanted.entry(port).or_default().push(bytes);
                }
            }
            self.firewall.receive_all(&name(from), &frames)?;
        }
        let mut seen = self.firewall.sighting()?;
        wanted.values_mut().chain(seen.values_mut()).for_each(|frames| frames.sort());
        if wanted == seen {
            return Ok(arrived);
        }
        let shown = |sighting: &Sighting, than: &Sighting| -> Vec<String> {
            let others = |port: &String, frame: &Vec<u8>| than.get(port).is_some_and(|f| f.contains(frame));
            let frames = sighting.iter().flat_map(|(port, frames)| frames.iter().map(move |f| (port, f)));
            let alone = frames.filter(|(port, frame)| !others(port, frame));
            alone.map(|(port, frame)| format!("{port} {:?}", tests::frame_bytes::read(frame))).collect()
        };
        Err(format!(
            "the evaluator alone: {:#?}\nthe switch alone: {:#?}",
            shown(&wanted, &seen),
            shown(&seen, &wanted)
        )
        .into())
    }

    /// Sends frames, and what comes back of those that arrive now or are said to have arrived before.
    fn converse(&mut self, probes: &[Probe], before: &[bool]) -> Result<Vec<bool>> {
        let arrived = self.send(probes)?;
        let is_open = |n: usize| arrived[n] || before.get(n).copied().unwrap_or(false);
        let replies: Vec<Probe> = probes
            .iter()
            .enumerate()
            .filter(|(n, _)| is_open(*n))
            .filter_map(|(_, probe)| probe.reply())
            .collect();
        self.send(&replies)?;
        Ok(arrived)
    }

    /// Puts a world in force: the conversations of the one before go on, and then others begin anew.
    fn change_to(
        &mut self,
        world: &World,
        before: &[Probe],
        arrived: &[bool],
    ) -> Result<(Vec<Probe>, Vec<bool>)> {
        self.firewall.put_in_force(&world.policy())?;
        // What is admitted now and was not before, a cache may drop for some milliseconds more: growth is in force without a
        // wait for the revalidators (docs/pipeline.md).
        self.firewall.ovs().appctl("dpctl/del-flows", &[])?;
        self.model.set_policy(&world.policy());
        let again: Vec<Probe> = before.iter().map(Probe::again).collect();
        self.converse(&again, arrived).map_err(|error| format!("after the change: {error}"))?;
        self.firewall.ovs().appctl("dpctl/flush-conntrack", &[])?;
        self.model = model(world);
        let probes = probes(world);
        let arrived = self.converse(&probes, &[])?;
        Ok((probes, arrived))
    }
}

#[test]
fn a_stride_through_the_small_worlds() {
    let bounds = [Bound::one_rule(), Bound::two_rules_alike()];
    let worlds: Vec<World> = bounds.iter().flat_map(Bound::worlds).step_by(STRIDE).collect();
    let firewall = Firewall::start(&bindings(), &Config::default()).expect("a switch");
    let mut both = Both { firewall, model: model(&worlds[0]) };
    let (mut before, mut arrived, mut frames) = (Vec::new(), Vec::new(), 0);
    for world in &worlds {
        (before, arrived) = match both.change_to(world, &before, &arrived) {
            Ok(conversations) => conversations,
            Err(difference) => panic!("{world:?}\n{:#?}\n{difference}", world.policy()),
        };
        frames += before.len();
    }
    eprintln!("{} worlds, {frames} frames that begin something", worlds.len());
}
