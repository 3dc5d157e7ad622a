//! A real Open vSwitch with many bridges, a world on each.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::Duration;

use lab::{Datapath, DummyPort, DummySpec, FailMode, Ovs, OvsOptions};
use rust_openflow::client::Client;
use rust_openflow::message::FragMode;
use rust_openflow::{Field, FlowKey, FlowMod, Match, Message, PortNo};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::script::{Held, Script, Trial};
use crate::world::host::{TRUNK, ofport};
use crate::world::policies::LOCAL_PORTS;

/// Zones that the worlds' are counted from, and how many of the datapath's 65,536 each may use.
const FIRST_ZONE: u16 = 0x1000;
const ZONES: u16 = 8;
const WORLDS_WITH_OWN_ZONES: u16 = (u16::MAX - FIRST_ZONE) / ZONES;

/// A round of the revalidators takes so long or a little longer; each change begins one.
const BETWEEN_CHANGES: Duration = Duration::from_millis(3);

/// What became of the frames of a script.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// The OpenFlow ports that a frame came out at as it should, by its number, each as often as it did.
    pub(crate) outputs: Vec<Vec<u32>>,
    /// Whatever else came out.
    pub(crate) strays: Vec<(u32, Vec<u8>)>,
}

pub(crate) struct Switch {
    // Fields are dropped in this order: clients before the runtime and the switch that they talk to.
    lanes: Vec<Lane>,
    runtime: Runtime,
    ovs: Ovs,
    worlds: u16,
}

/// A bridge.
struct Lane {
    client: Client,
    ports: BTreeMap<u16, DummyPort>,
    held: Held,
}

impl Switch {
    pub(crate) fn start(bridges: usize) -> Self {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None }).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let lanes = (0..bridges).map(|number| Lane::new(&ovs, &runtime, number)).collect();
        Switch { lanes, runtime, ovs, worlds: 0 }
    }

    /// Writes scripts, one for each bridge from the first, of which each has zones that no other had for long.
    pub(crate) fn scripts<W>(
        &mut self,
        worlds: &[W],
        write: impl Fn(&W, u16, &mut Held) -> Script,
    ) -> Vec<Script> {
        let mut scripts = Vec::new();
        for (world, lane) in worlds.iter().zip(&mut self.lanes) {
            self.worlds = (self.worlds + 1) % WORLDS_WITH_OWN_ZONES;
            scripts.push(write(world, FIRST_ZONE + self.worlds * ZONES, &mut lane.held));
        }
        scripts
    }

    /// Plays scripts side by side, phase by phase, and forgets their connections.
    pub(crate) fn play(&self, scripts: &[Script]) -> Vec<Sightings> {
        let phases = scripts.iter().map(|script| script.phases.len()).max().unwrap_or(0);
        for phase in 0..phases {
            let current: Vec<_> = scripts.iter().map(|script| script.phases.get(phase)).collect();
            self.change(current.iter().map(|phase| phase.map_or(&[][..], |(changes, _)| changes)));
            self.receive(current.iter().map(|phase| phase.map_or(&[][..], |(_, trials)| trials)));
        }
        self.ovs.appctl("dpctl/flush-conntrack", &[]).unwrap();
        scripts.iter().zip(&self.lanes).map(|(script, lane)| lane.sightings(script)).collect()
    }

    /// Takes all flows away.
    pub(crate) fn clear(&mut self) {
        let all = [FlowMod::delete(None, Match::new())];
        self.change(self.lanes.iter().map(|_| &all[..]));
        self.lanes.iter_mut().for_each(|lane| lane.held.clear());
    }

    fn change<'a>(&self, changes: impl Iterator<Item = &'a [FlowMod]>) {
        let mut bundles = JoinSet::new();
        for (lane, changes) in self.lanes.iter().zip(changes) {
            let (client, changes) = (lane.client.clone(), changes.to_vec());
            bundles.spawn_on(async move { client.send_bundle(&changes).await }, self.runtime.handle());
        }
        for answer in self.runtime.block_on(bundles.join_all()) {
            answer.unwrap();
        }
        self.revalidate();
    }

    /// Returns when the caches agree with the tables. What hurries the revalidators is a change, so that changes are made
    /// until they have been round.
    fn revalidate(&self) {
        let client = &self.lanes[0].client;
        thread::scope(|scope| {
            let rounds = scope.spawn(|| self.ovs.wait_for_caches());
            while !rounds.is_finished() {
                self.runtime.block_on(client.confirmed(&Message::FlowMod(no_op()))).unwrap();
                thread::sleep(BETWEEN_CHANGES);
            }
            rounds.join().expect("no panic there").unwrap();
        });
    }

    fn receive<'a>(&self, trials: impl Iterator<Item = &'a [Trial]>) {
        let lanes: Vec<_> =
            self.lanes.iter().zip(trials).map(|(lane, trials)| lane.arrivals(trials)).collect();
        DummyPort::receive_in_lanes(&self.ovs, &lanes).unwrap();
    }
}

impl Lane {
    fn new(ovs: &Ovs, runtime: &Runtime, number: usize) -> Self {
        let bridge = format!("br{number}");
        ovs.add_bridge(&bridge, FailMode::Secure).unwrap();
        let ofports: Vec<u16> = (0..LOCAL_PORTS).map(ofport).chain([TRUNK]).collect();
        let spec = |n: &u16| DummySpec { ofport: Some(*n), ..DummySpec::new(&format!("b{number}p{n}")) };
        let ports = ovs.add_dummy_ports(&bridge, ofports.iter().map(spec).collect()).unwrap();
        let target = format!("unix:{}", ovs.mgmt(&bridge).display());
        let client = runtime.block_on(async {
            let (client, _) = Client::connect(&target).await.unwrap();
            // As the agent does; else no fragment has ports (ovs-ofctl(8), "set-frags").
            client.set_config(FragMode::NxMatch).await.unwrap();
            client
        });
        Lane { client, ports: ofports.into_iter().zip(ports).collect(), held: Held::new() }
    }

    fn arrivals<'a>(&'a self, trials: &'a [Trial]) -> Vec<(&'a DummyPort, &'a [u8])> {
        trials.iter().map(|trial| (&self.ports[&trial.from], trial.bytes.as_slice())).collect()
    }

    fn sightings(&self, script: &Script) -> Sightings {
        let mut numbers = HashMap::new();
        for (number, trial) in script.trials().enumerate() {
            for bytes in [&trial.delivered, &trial.to_network] {
                let other = numbers.insert(bytes.as_slice(), number);
                assert!(other.is_none(), "two frames alike: {:?}", trial.sent);
            }
        }
        let trials: Vec<_> = script.trials().collect();
        let mut sightings = Sightings { outputs: vec![Vec::new(); trials.len()], strays: Vec::new() };
        for (ofport, port) in &self.ports {
            for frame in port.take_sent().unwrap() {
                let number = numbers.get(frame.as_slice()).copied().filter(|number| {
                    let trial = trials[*number];
                    let wanted = if *ofport == TRUNK { &trial.to_network } else { &trial.delivered };
                    *wanted == frame
                });
                match number {
                    Some(number) => sightings.outputs[number].push(u32::from(*ofport)),
                    None => sightings.strays.push((u32::from(*ofport), frame)),
                }
            }
        }
        sightings
    }
}

/// Deletes a flow that nobody has.
fn no_op() -> FlowMod {
    let matches = Match::new().with(Field::InPort, PortNo::ANY.0);
    FlowMod::delete_strict(&FlowKey { table: 0, priority: 0, matches })
}
