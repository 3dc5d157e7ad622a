//! A host twice: the evaluator's model, and the rendered flows in the interpreter.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{
    Binding, Config, FlowOp, GenerationPool, Known, LAYOUT, NetworkPort, Observed, OfPort, Onwards, Owner,
    Renderer, Vlan, Zone,
};
use policy::evaluator::{Datapath, DropReason, Frame, Host, Judgement, Model, Payload, Settings, Verdict};
use policy::{Policy, PortId};
use rust_openflow::{CT_NEW, Field, Flow, FlowKey, PortNo};
use verify::{Connections, Outcome, Packet, RunError, Tables, Visit, run};

use super::frames::{Sender, Sent};
use super::policies::{LOCAL_PORTS, World, network_of, port_id};

/// The port to the network.
pub(crate) const TRUNK: u16 = 100;
/// Local VLANs of the two networks.
pub(crate) const VLANS: [u16; 2] = [10, 20];
const DROP_TABLE: u8 = 128;
/// The zone of a port is this and its OpenFlow port.
const FIRST_ZONE: u16 = 0x1000;

/// The flows of a policy, kept by the renderer.
pub(crate) struct Rendered {
    renderer: Renderer,
    pool: GenerationPool,
    policy: Policy,
    flows: BTreeMap<FlowKey, Flow>,
}

impl Rendered {
    /// A world on a host whose local ports are those of [`LOCAL_PORTS`].
    pub(crate) fn new(world: &World) -> Self {
        Self::in_zones(world, FIRST_ZONE)
    }

    /// As [`Rendered::new`], the ports' zones counted from this one: hosts on one switch have no zone in common.
    pub(crate) fn in_zones(world: &World, first: u16) -> Self {
        let binding = |port| {
            let zone = Zone(first + ofport(port));
            Binding { ofport: OfPort(ofport(port)), vlan: Vlan(VLANS[network_of(port)]), zone }
        };
        let bindings = (0..LOCAL_PORTS).map(|port| (port_id(port), binding(port)));
        let mut rendered = Self::with_bindings(&world.permitted_ethertypes, bindings);
        rendered.set_policy(world);
        rendered
    }

    /// A host without a policy, its ports with OpenFlow port and VLAN.
    pub(crate) fn with_ports(
        permitted_ethertypes: &BTreeSet<u16>,
        ports: impl IntoIterator<Item = (PortId, u16, u16)>,
    ) -> Self {
        let bindings = ports.into_iter().map(|(id, ofport, vlan)| {
            let zone = Zone(FIRST_ZONE + ofport);
            (id, Binding { ofport: OfPort(ofport), vlan: Vlan(vlan), zone })
        });
        Self::with_bindings(permitted_ethertypes, bindings)
    }

    fn with_bindings(
        permitted_ethertypes: &BTreeSet<u16>,
        bindings: impl IntoIterator<Item = (PortId, Binding)>,
    ) -> Self {
        let config = Config { permitted_ethertypes: permitted_ethertypes.clone(), ..Config::default() };
        let mut renderer = Renderer::new(&config, Known::default());
        renderer.network_port(OfPort(TRUNK), Some(NetworkPort::Trunk));
        for (id, binding) in bindings {
            renderer.bind(&id, Some(binding));
        }
        let pool = GenerationPool::new(1, u32::MAX);
        Rendered { renderer, pool, policy: Policy::default(), flows: BTreeMap::new() }
    }

    /// Puts the world's policy in force, and gives what is changed for it.
    pub(crate) fn set_policy(&mut self, world: &World) -> Vec<FlowOp> {
        self.put_in_force(world.policy())
    }

    pub(crate) fn put_in_force(&mut self, policy: Policy) -> Vec<FlowOp> {
        self.renderer.apply_policy(&Policy::diff(&self.policy, &policy));
        self.policy = policy;
        let batch = self.renderer.commit(&mut self.pool).unwrap();
        self.apply(&batch.ops);
        batch.ops
    }

    /// What is left of sets that are out of use goes.
    pub(crate) fn sweep(&mut self) -> Vec<FlowOp> {
        let ops = self.renderer.sweep();
        self.apply(&ops);
        ops
    }

    pub(crate) fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    fn apply(&mut self, ops: &[FlowOp]) {
        for op in ops {
            match op {
                FlowOp::Set(flow) => _ = self.flows.insert(flow.key(), flow.clone()),
                FlowOp::Remove(key) => _ = self.flows.remove(key),
            }
        }
    }
}

/// The OpenFlow port of a local port.
pub(crate) fn ofport(port: usize) -> u16 {
    u16::try_from(port + 1).unwrap()
}

/// The host as the evaluator knows it.
#[derive(Clone)]
pub(crate) struct Evaluated(Model);

/// A host judged twice.
pub(crate) struct Twice {
    rendered: Rendered,
    tables: Tables,
    connections: Connections,
    evaluated: Evaluated,
    /// Table and priority of every flow that some frame has found.
    found: BTreeSet<(u8, u16)>,
}

/// What became of a frame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Fate {
    /// OpenFlow ports that the frame came out at, each as often as it did.
    pub(crate) outputs: Vec<u32>,
    /// Why the sender's frame went no further.
    pub(crate) egress: Option<Reason>,
    /// Why a receiver did not get it, by OpenFlow port.
    pub(crate) ingress: BTreeMap<u32, Reason>,
}

/// Why a frame was dropped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// Whether the tracker called the frame new; the evaluator does not say.
    pub(crate) is_new: bool,
}

impl Reason {
    fn of_evaluator(reason: DropReason) -> Self {
        Reason { text: reason.to_string(), is_new: false }
    }
}

impl Evaluated {
    /// On a host that tracks in userspace.
    pub(crate) fn new(world: &World) -> Self {
        Self::tracking(world, Datapath::default())
    }

    /// On a host that tracks in the kernel.
    pub(crate) fn in_the_kernel(world: &World) -> Self {
        Self::tracking(world, Datapath { tracks_sctp_ports: true })
    }

    fn tracking(world: &World, datapath: Datapath) -> Self {
        let settings = Settings { permitted_ethertypes: world.permitted_ethertypes.clone(), datapath };
        let bindings = (0..LOCAL_PORTS).map(|port| (port_id(port), VLANS[network_of(port)])).collect();
        Evaluated(Model::new(&world.policy(), settings, Host { bindings }))
    }

    pub(crate) fn set_policy(&mut self, world: &World) {
        self.0.set_policy(&world.policy());
    }

    /// What becomes of the frame.
    pub(crate) fn judge(&mut self, sent: &Sent) -> Fate {
        let mut fate = Fate::default();
        let (delivered, to_network) = match sent.from {
            Sender::Local(port) => {
                let outcome = self.0.send(&port_id(port), &sent.frame);
                if let Verdict::Drop(reason) = outcome.egress.verdict {
                    fate.egress = Some(Reason::of_evaluator(reason));
                }
                (outcome.delivered, outcome.to_network)
            }
            Sender::Network(network) => (self.0.receive(VLANS[network], &sent.frame), false),
        };
        let ofports: BTreeMap<_, _> =
            (0..LOCAL_PORTS).map(|port| (port_id(port), u32::from(ofport(port)))).collect();
        for (id, judgement) in delivered {
            let Judgement { verdict, .. } = judgement;
            match verdict {
                Verdict::Accept(_) => fate.outputs.push(ofports[&id]),
                // A port without a policy has no flows that could count what it does not get.
                Verdict::Drop(DropReason::NoPolicy) => {}
                Verdict::Drop(reason) => _ = fate.ingress.insert(ofports[&id], Reason::of_evaluator(reason)),
            }
        }
        if to_network {
            fate.outputs.push(u32::from(TRUNK));
        }
        fate.outputs.sort_unstable();
        fate
    }
}

/// The tables, with flows that look at some of what there is to be seen: they change nothing.
fn watched(rendered: &Rendered) -> Tables {
    let reasons = || pipeline::DropReason::ALL.iter().copied();
    let some = (0..LOCAL_PORTS).step_by(2).map(|port| OfPort(ofport(port)));
    let of_port = some.flat_map(|port| {
        let admitted = Onwards::ALL.map(|onwards| Observed::Admitted(Some(port), onwards));
        let drops = reasons().map(move |reason| Observed::PortDrops(port, Owner::NOBODY, reason));
        drops.chain(admitted).chain([Observed::Echo(port)])
    });
    let of_all = reasons().filter(|reason| *reason != pipeline::DropReason::Vlan).map(Observed::Drops);
    let looks = of_port.chain(of_all).chain([Observed::Admitted(None, Onwards::Deliver)]);
    let flows = rendered.flows().cloned().chain(looks.map(Observed::flow));
    Tables::new(flows).unwrap_or_else(|refused| panic!("{refused}"))
}

impl Twice {
    pub(crate) fn new(world: &World) -> Self {
        let (rendered, evaluated) = (Rendered::new(world), Evaluated::new(world));
        let tables = watched(&rendered);
        Twice { rendered, tables, connections: Connections::default(), evaluated, found: BTreeSet::new() }
    }

    pub(crate) fn set_policy(&mut self, world: &World) {
        self.rendered.set_policy(world);
        self.evaluated.set_policy(world);
        self.reload();
    }

    pub(crate) fn sweep(&mut self) {
        self.rendered.sweep();
        self.reload();
    }

    fn reload(&mut self) {
        self.tables = watched(&self.rendered);
    }

    /// Table and priority of every flow that some frame has found.
    pub(crate) fn found(&self) -> &BTreeSet<(u8, u16)> {
        &self.found
    }

    /// What the evaluator says.
    pub(crate) fn by_evaluator(&mut self, sent: &Sent) -> Fate {
        self.evaluated.judge(sent)
    }

    /// What the flows do.
    pub(crate) fn by_flows(&mut self, sent: &Sent) -> Result<(Fate, Outcome), RunError> {
        let outcome = run(&self.tables, packet(sent), &mut self.connections)?;
        let found = outcome.visits.iter().filter_map(|visit| visit.flow).map(|id| self.tables.flow(id));
        self.found.extend(found.map(|flow| (flow.table, flow.priority)));
        let ports = outcome.ports().filter(|port| *port != PortNo::CONTROLLER);
        let mut outputs: Vec<u32> = ports.map(|port| port.0).collect();
        outputs.sort_unstable();
        let mut fate = Fate { outputs, ..Fate::default() };
        let sender = match sent.from {
            Sender::Local(port) => Some(u32::from(ofport(port))),
            Sender::Network(_) => None,
        };
        for visit in outcome.visits_of(DROP_TABLE) {
            let receiver = u32::try_from(visit.packet.get(Field::Reg(5))).unwrap();
            match sender {
                Some(sender) if !was_delivered(&outcome, visit) => {
                    assert!(receiver == sender || receiver == 0, "dropped on egress as another port");
                    fate.egress = Some(reason(visit));
                }
                // The sender's own copy of a frame to many never comes out where it came in.
                Some(sender) if receiver == sender => {}
                _ => _ = fate.ingress.insert(receiver, reason(visit)),
            }
        }
        Ok((fate, outcome))
    }

    /// The way of a packet, for people.
    pub(crate) fn way(&self, outcome: &Outcome) -> String {
        let line = |visit: &Visit| {
            let flow = visit.flow.map_or("no flow".to_owned(), |id| self.tables.flow(id).to_string());
            format!("    ct_state={:#x} {flow}\n", visit.packet.get(Field::CtState))
        };
        outcome.visits.iter().map(line).collect()
    }
}

/// The packet that the trunk or the port lets in.
pub(crate) fn packet(sent: &Sent) -> Packet {
    match sent.from {
        Sender::Local(port) => Packet::of_frame(PortNo(u32::from(ofport(port))), &sent.frame),
        Sender::Network(network) => {
            let payload = match sent.frame.vlan {
                Some(_) => Payload::Other(0x8100),
                None => sent.frame.payload,
            };
            let outer = Frame { vlan: Some(VLANS[network]), payload, ..sent.frame };
            Packet::of_frame(PortNo(u32::from(TRUNK)), &outer)
        }
    }
}

/// Whether the frame had come past the sender's half before this visit.
fn was_delivered(outcome: &Outcome, visit: &Visit) -> bool {
    const DELIVER: u8 = 110;
    outcome.visits.iter().take_while(|other| !std::ptr::eq(*other, visit)).any(|v| v.table == DELIVER)
}

fn reason(visit: &Visit) -> Reason {
    let value = visit.packet.get(Field::Reg(10));
    let known = LAYOUT.reasons.iter().find(|(number, ..)| u128::from(*number) == value);
    let text = known.map_or_else(|| format!("unknown reason {value}"), |(_, name, _)| (*name).to_owned());
    Reason { text, is_new: visit.packet.get(Field::CtState) & u128::from(CT_NEW) != 0 }
}
