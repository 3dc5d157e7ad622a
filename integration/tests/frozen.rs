//! On the way from one policy to the next, on a real Open vSwitch whose revalidators stand still: what is cached goes by the old
//! flows, and what is not by the new ones, look by look. No frame may come out that both policies refuse, and none stay
//! away that both accept ("Change", semantics). `tests/tests/transitions.rs` tries every mix with the interpreter; here are those that a
//! real switch makes. Needs root.

use std::collections::BTreeMap;
use std::error::Error;

use lab::{Datapath, DummyPort, DummySpec, FailMode, Ovs, OvsOptions};
use pipeline::{Binding, Config, FlowOp, GenerationPool, Known, NetworkPort, OfPort, Renderer, Vlan, Zone};
use policy::Policy;
use policy::evaluator::{Host, Model, Settings};
use tests::sketch::{CUSTOMER_TAG, Sketch, Tag};
use tests::small::between::{Outputs, TRUNK, is_between, judged, ofport};
use tests::small::{Bound, From, LOCAL, Probe, VLAN, World, port_id, probes};

const BRIDGE: &str = "br-int";
/// One change in so many; no divisor of what the worlds are counted by. `SGFLOW_STRIDE` says another.
const STRIDE: usize = 211;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A switch, and what keeps its flows.
struct Switch {
    ovs: Ovs,
    ports: BTreeMap<u16, DummyPort>,
    renderer: Renderer,
    pool: GenerationPool,
    policy: Policy,
}

impl Switch {
    fn start() -> Result<Self> {
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None })?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        let mut renderer = Renderer::new(&Config::default(), Known::default());
        renderer.network_port(OfPort(TRUNK), Some(NetworkPort::Trunk));
        let mut specs = Vec::new();
        for port in 0..LOCAL {
            let ofport = ofport(port);
            let binding = Binding { ofport: OfPort(ofport), vlan: Vlan(VLAN), zone: Zone(0x1000 + ofport) };
            renderer.bind(&port_id(port), Some(binding));
            specs.push((ofport, Some(VLAN)));
        }
        specs.push((TRUNK, None));
        let spec = |(ofport, tag): &(u16, Option<u16>)| DummySpec {
            tag: *tag,
            ofport: Some(*ofport),
            ..DummySpec::new(&format!("tap{ofport}"))
        };
        let plugged = ovs.add_dummy_ports(BRIDGE, specs.iter().map(spec).collect())?;
        let ports = specs.iter().map(|(ofport, _)| *ofport).zip(plugged).collect();
        let pool = GenerationPool::new(1, u32::MAX);
        Ok(Switch { ovs, ports, renderer, pool, policy: Policy::default() })
    }

    /// The bundle that brings the policy into the switch; the caches are not waited for.
    fn change(&mut self, policy: &Policy) -> Result<()> {
        self.renderer.apply_policy(&Policy::diff(&self.policy, policy));
        self.policy = policy.clone();
        let batch = self.renderer.commit(&mut self.pool)?;
        self.send_bundle(&batch.ops)
    }

    /// The change is over: the caches follow, and what only they could still have asked for goes.
    fn settle(&mut self) -> Result<()> {
        self.ovs.wait_for_caches()?;
        let swept = self.renderer.sweep();
        self.send_bundle(&swept)
    }

    fn send_bundle(&self, ops: &[FlowOp]) -> Result<()> {
        let line = |op: &FlowOp| match op {
            FlowOp::Set(flow) => format!("add {flow}\n"),
            FlowOp::Remove(key) => format!("delete_strict {key}\n"),
        };
        let file = self.ovs.rundir().join("bundle");
        std::fs::write(&file, ops.iter().map(line).collect::<String>())?;
        let file = file.display().to_string();
        self.ovs.ofctl(&["-O", "OpenFlow14", "--bundle", "add-flows", BRIDGE, &file])?;
        Ok(())
    }

    /// Where the frame comes out.
    fn send(&self, probe: &Probe) -> Result<Outputs> {
        let mut sketch = Sketch::from(&probe.frame);
        let from = match probe.from {
            From::Port(port) => ofport(port),
            From::Network => {
                sketch.tags.push(Tag { ethertype: CUSTOMER_TAG, vid: VLAN });
                TRUNK
            }
        };
        self.ports[&from].receive(&sketch.bytes()?)?;
        let mut outputs = Outputs::new();
        for (ofport, port) in &self.ports {
            if !port.take_sent()?.is_empty() {
                outputs.insert(u32::from(*ofport));
            }
        }
        Ok(outputs)
    }

    /// Sends what both policies are asked about, and compares. Whether the frame came out by the old flows alone is no matter.
    fn is_between(&self, probe: &Probe, before: &Model, policies: [&Policy; 2]) -> Result<bool> {
        let by_policies = policies.map(|policy| {
            let mut model = before.clone();
            model.set_policy(policy);
            judged(&mut model, probe)
        });
        // A frame that goes from a stateless rule to a stateful one (docs/reliability.md).
        let may_be_held_up =
            policies.iter().any(|policy| policy.groups.values().any(|group| !group.stateful));
        let outputs = self.send(probe)?;
        if is_between(&outputs, &by_policies, may_be_held_up) {
            let [old, new] = by_policies;
            return Ok(format!("{old:?}") != format!("{new:?}"));
        }
        Err(format!("{probe:?}\ncame out at {outputs:?}, not as in {by_policies:?}").into())
    }

    /// One world becomes the next while nothing is revalidated. Gives the frames sent on the way, and those of which the two
    /// policies think differently.
    fn freeze(&mut self, old: &World, new: &World) -> Result<(usize, usize)> {
        let policies = [&old.policy(), &new.policy()];
        self.change(policies[0])?;
        self.settle()?;
        self.ovs.appctl("dpctl/flush-conntrack", &[])?;
        let bindings = (0..LOCAL).map(|port| (port_id(port), VLAN)).collect();
        let mut model = Model::new(policies[0], Settings::default(), Host { bindings });
        // Conversations under the old policy, which fill the caches.
        let mut open = Vec::new();
        let known = probes(old);
        for probe in &known {
            judged(&mut model, probe);
            if self.send(probe)?.is_empty() {
                continue;
            }
            open.push(*probe);
            if let Some(reply) = probe.reply() {
                judged(&mut model, &reply);
                self.send(&reply)?;
            }
        }
        self.ovs.appctl("revalidator/pause", &[])?;
        self.change(policies[1])?;
        let going_on = open.iter().flat_map(|probe| [Some(probe.again()), probe.reply()]).flatten();
        let first: Vec<Probe> = probes(new).into_iter().filter(|probe| !known.contains(probe)).collect();
        let refused = known.iter().filter(|probe| !open.contains(probe)).copied();
        let (mut frames, mut differing) = (0, 0);
        for probe in going_on.chain(refused).chain(first) {
            frames += 1;
            differing += usize::from(self.is_between(&probe, &model, policies)?);
        }
        self.ovs.appctl("revalidator/resume", &[])?;
        self.settle()?;
        Ok((frames, differing))
    }
}

#[test]
fn what_is_cached_and_what_is_not_agree_on_what_both_policies_say() {
    let stride = std::env::var("SGFLOW_STRIDE").map_or(STRIDE, |text| text.parse().expect("a number"));
    let worlds: Vec<World> = Bound::one_rule().worlds().collect();
    let mut switch = Switch::start().expect("a switch");
    let (mut changes, mut frames, mut differing) = (0, 0, 0);
    for pair in worlds.windows(2).step_by(stride) {
        match switch.freeze(&pair[0], &pair[1]) {
            Ok((sent, differ)) => {
                (changes, frames, differing) = (changes + 1, frames + sent, differing + differ)
            }
            Err(difference) => panic!("{:#?}\n{:#?}\n{difference}", pair[0].policy(), pair[1].policy()),
        }
    }
    println!("{changes} changes, {frames} frames on the way, {differing} of which the policies differ");
    assert!(differing > 0, "no frame was concerned by a change");
}
