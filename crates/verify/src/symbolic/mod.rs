//! Proof that tables do what a policy says, for all packets at once.
//!
//! ```text
//!  Policy ──► law: the packets that pass, by port, direction and state ──┐
//!                                                                        ├──► equal, or a packet that tells them apart
//!  Tables ──► walk: the packets that come through, in the same state ────┘
//! ```
//!
//! A port's egress half ends where frames are delivered, its ingress half begins there; the delivery between them is
//! proved by itself, with registers that nobody has written, so that it cannot depend on the sender.
//!
//! A packet of a connection whose mark is a generation in force passes unjudged. That is right if nothing else holds such
//! a mark: the proof is that a port's connections are stamped only if its rules admit them, from whatever MAC, and that no
//! port with other groups stamps with a mark that passes here. That a policy which shrinks takes new generations is no
//! matter of one table, but of its history. Where tables were made for another policy ([`changes`]), the groups that it had
//! for a port are seen only by the set that they give it.

mod error;
mod law;
mod marks;
mod partition;
mod space;
mod state;
mod view;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use policy::{Direction, Policy, PortId, RuleId};
use rust_openflow::{Action, Field, Flow, PortNo};

use crate::packet::{Packet, Tag};
use crate::tables::Tables;

pub use error::ProofError;
pub use state::State;

use law::{Law, Verdict};
use marks::{MadeFor, Marks, SET, Sharers, StampedBy};
use partition::Partitions;
use space::{BLOCKS, Example, Region, Space};
use view::{Source, View};
use walk::{Event, Leaf, Tracker, Walk};

/// The tables at which halves meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joints {
    /// Where every frame enters.
    pub hook: u8,
    /// Where a frame comes that its sender may send.
    pub deliver: u8,
    /// Where a frame comes that is for a filtered port.
    pub ingress: u8,
    /// Where a frame comes that a local port may receive, its OpenFlow port in `reg5`.
    pub output: u8,
}

/// A port of the bridge that the policy names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalPort {
    /// Its id.
    pub id: PortId,
    /// Its OpenFlow port.
    pub ofport: u16,
    /// The VLAN of its network on this bridge.
    pub vlan: u16,
}

/// What tables do that the policy does not say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// They let a packet pass that the policy drops.
    Opens,
    /// They drop a packet that the policy lets pass.
    Closes,
    /// They stamp a connection as admitted that the policy does not admit.
    Stamps,
}

/// A packet that tells tables and policy apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The port concerned.
    pub port: PortId,
    /// Whether the port sends or receives it.
    pub direction: Direction,
    /// What the tracker says of it.
    pub state: State,
    /// What is wrong.
    pub fault: Fault,
    /// The packet; its `ct_*` fields are those after tracking.
    pub packet: Packet,
    /// The rules of the port's groups that match it.
    pub rules: Vec<RuleId>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Opens => "passes, and the policy drops it",
            Fault::Closes => "is dropped, and the policy lets it pass",
            Fault::Stamps => "has its connection stamped as admitted, and no rule admits it",
        };
        write!(f, "port {}, {}, {:?}: {} {fault}", self.port, self.direction, self.state, self.packet)?;
        // What the policy drops in spite of a rule, it drops for something else.
        if self.rules.is_empty() || self.fault != Fault::Closes {
            return Ok(());
        }
        let rules: Vec<&str> = self.rules.iter().map(RuleId::as_str).collect();
        write!(f, " ({})", rules.join(", "))
    }
}

/// Proves one table after another: what they have in common is worked out once. Nothing is forgotten, so it is for tables
/// that are much alike, and not for very many.
pub struct Prover {
    space: Space,
}

impl Prover {
    /// For tables of so many flows.
    #[must_use]
    pub fn new(flows: usize) -> Self {
        Prover { space: Space::new(flows) }
    }

    /// As [`differences`].
    ///
    /// # Errors
    /// As [`differences`].
    pub fn differences(
        &self,
        tables: &Tables,
        joints: Joints,
        policy: &Policy,
        permitted_ethertypes: &BTreeSet<u16>,
        ports: &[LocalPort],
    ) -> Result<Vec<Difference>, ProofError> {
        let made_for = MadeFor::ThisPolicy;
        self.answer(&Question { tables, joints, policy, permitted_ethertypes, made_for }, ports)
    }

    fn answer(&self, question: &Question<'_>, ports: &[LocalPort]) -> Result<Vec<Difference>, ProofError> {
        let mut proof = Proof::new(&self.space, question)?;
        let walked = proof.walk_all(ports)?;
        let marks = Marks::new(question.tables, proof.stamped_by(&walked));
        proof.judge_all(&walked, &marks)
    }
}

/// Compares tables with a policy, for all packets that `ports` send and receive. Ports that are trusted or have no
/// policy are compared too: they pass everything, or nothing.
///
/// # Errors
/// [`ProofError`]: the tables do something that cannot be followed, or that has no single result.
pub fn differences(
    tables: &Tables,
    joints: Joints,
    policy: &Policy,
    permitted_ethertypes: &BTreeSet<u16>,
    ports: &[LocalPort],
) -> Result<Vec<Difference>, ProofError> {
    Prover::new(tables.flows().len()).differences(tables, joints, policy, permitted_ethertypes, ports)
}

/// As [`differences`], for a policy that is not the one that the tables were made for: what would change if it came into
/// force. A mark that ports share passes until then at each of them, also where one of them has other groups afterwards.
///
/// Connections that such a mark lets pass need no look of their own. What was stamped with it, the tables admit at that port
/// without it as well, since a policy that shrinks takes new generations; so whatever the other policy would cut of them is
/// found as packets without a mark.
///
/// # Errors
/// As [`differences`].
pub fn changes(
    tables: &Tables,
    joints: Joints,
    policy: &Policy,
    permitted_ethertypes: &BTreeSet<u16>,
    ports: &[LocalPort],
) -> Result<Vec<Difference>, ProofError> {
    let made_for = MadeFor::Another;
    let question = Question { tables, joints, policy, permitted_ethertypes, made_for };
    Prover::new(tables.flows().len()).answer(&question, ports)
}

/// As [`differences`], with up to so many threads where there are ports enough for them. They are how it is worked out, and
/// nothing of them is seen: what is found is the same, in the same order. How many cores there are, the caller knows.
///
/// # Errors
/// As [`differences`].
pub fn differences_side_by_side(
    threads: usize,
    tables: &Tables,
    joints: Joints,
    policy: &Policy,
    permitted_ethertypes: &BTreeSet<u16>,
    ports: &[LocalPort],
) -> Result<Vec<Difference>, ProofError> {
    match (ports.len() / PORTS_A_THREAD).min(threads).min(MOST_THREADS) {
        0 | 1 => differences(tables, joints, policy, permitted_ethertypes, ports),
        threads => {
            let made_for = MadeFor::ThisPolicy;
            Question { tables, joints, policy, permitted_ethertypes, made_for }.side_by_side(ports, threads)
        }
    }
}

/// So many ports are worth a thread, which works out for itself what ports have in common; and so many threads the memory.
const PORTS_A_THREAD: usize = 50;
const MOST_THREADS: usize = 4;

/// What is proved.
#[derive(Clone, Copy)]
struct Question<'a> {
    tables: &'a Tables,
    joints: Joints,
    policy: &'a Policy,
    permitted_ethertypes: &'a BTreeSet<u16>,
    made_for: MadeFor,
}

impl Question<'_> {
    /// Each thread proves some of the ports. Which marks let packets pass is only known when all have been walked.
    fn side_by_side(&self, ports: &[LocalPort], threads: usize) -> Result<Vec<Difference>, ProofError> {
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for ports in ports.chunks(ports.len().div_ceil(threads)) {
                let (to_us, stamped) = mpsc::channel();
                let (marks, from_us) = mpsc::channel::<Arc<Marks>>();
                let worker = scope.spawn(move || {
                    let space = Space::new(self.tables.flows().len());
                    let mut proof = Proof::new(&space, self)?;
                    let walked = proof.walk_all(ports)?;
                    // Where nobody listens or answers, another thread came to no end, and says why.
                    to_us.send(proof.stamped_by(&walked)).ok();
                    match from_us.recv() {
                        Ok(marks) => proof.judge_all(&walked, &marks),
                        Err(mpsc::RecvError) => Ok(Vec::new()),
                    }
                });
                workers.push((worker, stamped, marks));
            }
            let mut stamped_by = StampedBy::new();
            let mut are_all_walked = true;
            for (_, stamped, _) in &workers {
                match stamped.recv() {
                    Ok(of_some) => of_some
                        .into_iter()
                        .for_each(|(mark, by)| stamped_by.entry(mark).or_default().extend(by)),
                    Err(mpsc::RecvError) => are_all_walked = false,
                }
            }
            let marks = Arc::new(Marks::new(self.tables, stamped_by));
            let mut found = Vec::new();
            for (worker, _, to_worker) in workers {
                if are_all_walked {
                    to_worker.send(Arc::clone(&marks)).ok();
                }
                drop(to_worker);
                found.push(worker);
            }
            let mut all = Vec::new();
            for worker in found {
                all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(all)
        })
    }
}

struct Proof<'a, 't> {
    space: &'a Space,
    law: Law<'a>,
    possible: Region,
    joints: Joints,
    policy: &'a Policy,
    made_for: MadeFor,
    partitions: Partitions<'t>,
    /// Some flow looks at the zone of a packet.
    zone_matters: bool,
    /// What becomes of all packets that go on at a table after tracking, by state and what they bring along.
    tracked: HashMap<(u8, State, View), Rc<AfterTracking>>,
    /// The packets that exist in a state.
    asked: BTreeMap<State, Region>,
    found: Vec<Difference>,
}

/// What one half of a port does in one state.
struct Half {
    direction: Direction,
    state: State,
    /// What comes through.
    through: Region,
    /// What is stamped as admitted, with its mark.
    stamps: Vec<(u32, Region)>,
}

/// What becomes of all packets of a view after they were tracked.
struct AfterTracking {
    through: Region,
    stamps: Vec<(u32, Region)>,
}

/// Whether a flow does something else with a packet's zone than track it there.
fn looks_at_zone(flow: &Flow) -> bool {
    fn moves_it(actions: &[Action]) -> bool {
        actions.iter().any(|action| match action {
            Action::Move { src, .. } => src.field == Field::Reg(8) || src.field == Field::CtZone,
            Action::Clone(actions) => moves_it(actions),
            _ => false,
        })
    }
    let is_matched = |field| flow.matches.get(field).is_some();
    is_matched(Field::Reg(8)) || is_matched(Field::CtZone) || moves_it(&flow.actions)
}

fn stamps(leaves: &[Leaf]) -> Vec<(u32, Region)> {
    let stamps = leaves.iter().filter_map(|leaf| match leaf.event {
        Event::Commit { mark, .. } if mark != 0 => Some((mark, leaf.region.clone())),
        _ => None,
    });
    stamps.collect()
}

/// Where a delivery comes from: no local port.
const NOBODY: u32 = PortNo::CONTROLLER.0;

impl<'a> Proof<'a, 'a> {
    fn new(space: &'a Space, question: &Question<'a>) -> Result<Self, ProofError> {
        let Question { tables, joints, policy, permitted_ethertypes, made_for } = *question;
        let law = Law::new(space, policy, permitted_ethertypes);
        Ok(Proof {
            space,
            possible: law.possible()?,
            law,
            joints,
            policy,
            made_for,
            partitions: Partitions::new(tables),
            zone_matters: tables.flows().iter().any(looks_at_zone),
            tracked: HashMap::new(),
            asked: BTreeMap::new(),
            found: Vec::new(),
        })
    }
}

/// A port and what it does.
struct Walked<'p> {
    port: &'p LocalPort,
    halves: Vec<Half>,
    /// The sets by which its packets are tracked.
    sets: BTreeSet<Option<Source>>,
}

impl Proof<'_, '_> {
    /// What all ports do, one after the other.
    fn walk_all<'p>(&mut self, ports: &'p [LocalPort]) -> Result<Vec<Walked<'p>>, ProofError> {
        let mut deliveries: BTreeMap<u16, Vec<Leaf>> = BTreeMap::new();
        let mut walked = Vec::new();
        for port in ports {
            let delivery = match deliveries.remove(&port.vlan) {
                Some(delivery) => delivery,
                None => self.delivery(port.vlan)?,
            };
            walked.push(self.walk_port(port, &delivery)?);
            deliveries.insert(port.vlan, delivery);
        }
        Ok(walked)
    }

    fn stamped_by(&self, walked: &[Walked<'_>]) -> StampedBy {
        let mut stamped_by = StampedBy::new();
        for walked in walked {
            let Some(sharers) = self.sharers(walked) else { continue };
            for (mark, _) in walked.halves.iter().flat_map(|half| &half.stamps) {
                stamped_by.entry(*mark).or_default().insert(sharers.clone());
            }
        }
        stamped_by
    }

    /// Whom a port shares its marks with; nobody if the policy is to say so, and does not know it.
    fn sharers(&self, walked: &Walked<'_>) -> Option<Sharers> {
        match self.made_for {
            MadeFor::ThisPolicy => {
                let port = self.policy.ports.get(&walked.port.id)?;
                Some(Sharers::Groups(port.security_groups.clone()))
            }
            MadeFor::Another => Some(Sharers::Sets(walked.sets.clone())),
        }
    }

    /// Compares with the law.
    fn judge_all(mut self, walked: &[Walked<'_>], marks: &Marks) -> Result<Vec<Difference>, ProofError> {
        let mut in_force_by_sharers: BTreeMap<Option<Sharers>, Region> = BTreeMap::new();
        for walked in walked {
            let sharers = self.sharers(walked);
            let in_force = match (in_force_by_sharers.get(&sharers), &sharers) {
                (Some(known), _) => known.clone(),
                (None, Some(sharers)) => self.is_any_of(marks.of(sharers))?,
                // It is closed, whatever the mark.
                (None, None) => self.space.none(),
            };
            in_force_by_sharers.insert(sharers, in_force.clone());
            for half in &walked.halves {
                self.judge(walked.port, half, &in_force)?;
            }
        }
        Ok(self.found)
    }

    /// Walks both halves of a port in every state.
    fn walk_port<'p>(&mut self, port: &'p LocalPort, delivery: &[Leaf]) -> Result<Walked<'p>, ProofError> {
        let ofport = u32::from(port.ofport);
        let Joints { hook, deliver, ingress, output } = self.joints;
        let sent = [(self.space.all(), View::entering(ofport))];
        let sent = self.walk(&sent, hook, &[deliver], None)?;
        let received: Vec<(Region, View)> = delivery
            .iter()
            .filter(|leaf| leaf.event == Event::Reached(ingress))
            .filter(|leaf| leaf.view.get(Field::Reg(5)) == Some(Source::Const(u128::from(ofport))))
            .map(|leaf| (leaf.region.clone(), leaf.view.clone()))
            .collect();
        let received = self.walk(&received, ingress, &[output], None)?;
        let out = Event::Output(PortNo(ofport));
        let unasked = self.through(delivery, &out)?;
        let mut view = View::entering(NOBODY);
        view.set(Field::Reg(5), Source::Const(u128::from(ofport)));
        let leaves = self.walk(&[(self.space.all(), view)], output, &[], None)?;
        let put_out = self.through(&leaves, &out)?;
        let mut halves = Vec::new();
        for state in State::ALL {
            let (through, stamps) = self.half(&sent, deliver, state)?;
            halves.push(Half { direction: Direction::Egress, state, through, stamps });
            let (through, stamps) = self.half(&received, output, state)?;
            let through = through.and(&put_out)?.or(&unasked)?;
            halves.push(Half { direction: Direction::Ingress, state, through, stamps });
        }
        let tracked = sent.iter().chain(&received).filter(|leaf| matches!(leaf.event, Event::Tracked { .. }));
        let sets = tracked.map(|leaf| leaf.view.get(SET)).collect();
        Ok(Walked { port, halves, sets })
    }

    /// What comes through to a table in a state, and what is stamped, of what was walked up to where it is tracked.
    fn half(
        &mut self,
        untracked: &[Leaf],
        goal: u8,
        state: State,
    ) -> Result<(Region, Vec<(u32, Region)>), ProofError> {
        let mut through = self.through(untracked, &Event::Reached(goal))?;
        let mut stamps = Vec::new();
        for leaf in untracked {
            let Event::Tracked { zone, table } = leaf.event else { continue };
            let after = self.after_tracking(zone, table, &leaf.view, goal, state)?;
            through = through.or(&after.through.and(&leaf.region)?)?;
            for (mark, region) in &after.stamps {
                stamps.push((*mark, region.and(&leaf.region)?));
            }
        }
        Ok((through, stamps))
    }

    /// All packets of a view on their way from where they were tracked. Which port it is about makes no difference, or
    /// is an error: what tells the ports apart is forgotten.
    fn after_tracking(
        &mut self,
        zone: u16,
        table: u8,
        view: &View,
        goal: u8,
        state: State,
    ) -> Result<Rc<AfterTracking>, ProofError> {
        let mut view = view.clone();
        view.forget(Field::InPort);
        view.forget(Field::Reg(5));
        let zone = if self.zone_matters { zone } else { 0 };
        if !self.zone_matters {
            view.set(Field::Reg(8), Source::Const(0));
        }
        state.write(zone, &mut view);
        let key = (table, state, view);
        if let Some(known) = self.tracked.get(&key) {
            return Ok(known.clone());
        }
        let leaves = self.walk(&[(self.space.all(), key.2.clone())], table, &[goal], Some(state))?;
        if leaves.iter().any(|leaf| leaf.view.get(Field::Reg(5)).is_some()) {
            return Err(ProofError::Redirected);
        }
        let through = self.through(&leaves, &Event::Reached(goal))?;
        let after = Rc::new(AfterTracking { through, stamps: stamps(&leaves) });
        self.tracked.insert(key, after.clone());
        Ok(after)
    }

    fn through(&self, leaves: &[Leaf], goal: &Event) -> Result<Region, ProofError> {
        let through = leaves.iter().filter(|leaf| leaf.event == *goal).map(|leaf| leaf.region.clone());
        Ok(self.space.any(through.collect())?)
    }

    /// Compares one half in one state with the law.
    fn judge(&mut self, port: &LocalPort, half: &Half, in_force: &Region) -> Result<(), ProofError> {
        let asked = match self.asked.get(&half.state) {
            Some(asked) => asked.clone(),
            None => self.possible.and(&half.state.possible(self.space)?)?,
        };
        self.asked.insert(half.state, asked.clone());
        let through = half.through.and(&asked)?;
        let verdict = self.verdict(port, half.direction, half.state)?;
        let kept = verdict.tracked.and(in_force)?;
        // "trusted ports send and receive everything": flooded frames too.
        let is_trusted = self.policy.ports.get(&port.id).is_some_and(|port| port.is_trusted());
        let (closes, opens) = if through == verdict.accepted.or(&kept)?.and(&asked)? {
            (self.space.none(), self.space.none())
        } else {
            let closes = verdict.accepted.and(&asked)?.minus(&through)?;
            let opens = through.minus(&verdict.accepted)?.minus(&kept)?;
            (closes, if is_trusted { self.space.none() } else { opens })
        };
        let stamped = half.stamps.iter().map(|(_, region)| region.clone()).collect();
        let stamps = self.space.any(stamped)?.and(&asked)?.minus(&verdict.admitted)?;
        for (fault, region) in [(Fault::Opens, opens), (Fault::Closes, closes), (Fault::Stamps, stamps)] {
            let region = match self.policy.ports.get(&port.id) {
                Some(policy) => self.law.likely(&region, policy, half.direction)?,
                None => region,
            };
            if let Some(example) = region.example() {
                let packet = packet_of(&example, port.ofport, half.direction, half.state);
                let rules = match self.policy.ports.get(&port.id) {
                    Some(policy) => {
                        let packet = self.space.only(&example)?;
                        self.law.matching_rules(policy, half.direction, half.state, &packet)?
                    }
                    None => Vec::new(),
                };
                let (port, direction, state) = (port.id.clone(), half.direction, half.state);
                self.found.push(Difference { port, direction, state, fault, packet, rules });
            }
        }
        Ok(())
    }

    fn is_any_of(&self, marks: impl Iterator<Item = u32>) -> Result<Region, ProofError> {
        let all: Result<Vec<_>, _> = marks.map(|mark| self.space.is(BLOCKS.mark, mark)).collect();
        Ok(self.space.any(all?)?)
    }

    fn verdict(&self, port: &LocalPort, direction: Direction, state: State) -> Result<Verdict, ProofError> {
        let (all, none) = (self.space.all(), self.space.none());
        let closed = Verdict { accepted: none.clone(), tracked: none.clone(), admitted: none.clone() };
        // "A filtered port with no policy yet is closed: it sends and receives nothing."
        let Some(policy) = self.policy.ports.get(&port.id) else { return Ok(closed) };
        let delivered = match direction {
            Direction::Egress => all,
            Direction::Ingress => self.law.delivered(policy)?,
        };
        // "trusted ports send and receive everything".
        if policy.is_trusted() {
            return Ok(Verdict { accepted: delivered, ..closed });
        }
        let verdict = self.law.of(policy, direction, state)?;
        Ok(Verdict {
            accepted: verdict.accepted.and(&delivered)?,
            tracked: verdict.tracked.and(&delivered)?,
            admitted: verdict.admitted,
        })
    }

    /// What becomes of frames on a network, whoever sent them.
    fn delivery(&mut self, vlan: u16) -> Result<Vec<Leaf>, ProofError> {
        let mut view = View::entering(NOBODY);
        view.set(Field::Reg(6), Source::Const(u128::from(vlan)));
        let ends = [self.joints.ingress];
        self.walk(&[(self.space.all(), view)], self.joints.deliver, &ends, Some(State::New))
    }

    fn walk(
        &mut self,
        from: &[(Region, View)],
        table: u8,
        ends: &[u8],
        state: Option<State>,
    ) -> Result<Vec<Leaf>, ProofError> {
        let tracker = state.map(|state| move |zone: u16, view: &mut View| state.write(zone, view));
        let mut walk = Walk {
            space: self.space,
            partitions: &mut self.partitions,
            ends,
            tracker: tracker.as_ref().map(|tracker| tracker as &Tracker<'_>),
            leaves: Vec::new(),
        };
        for state in from {
            walk.enter(table, state.clone(), 0)?;
        }
        Ok(walk.leaves)
    }
}

/// The packet that an example stands for, tracked.
fn packet_of(example: &Example, ofport: u16, direction: Direction, state: State) -> Packet {
    let mut packet = Packet::new(match direction {
        Direction::Egress => PortNo(u32::from(ofport)),
        Direction::Ingress => PortNo(NOBODY),
    });
    let tci = u16::try_from(example.get(BLOCKS.tci)).unwrap_or(0);
    if tci & 0x1000 != 0 {
        packet = packet.with_tag(Tag { tpid: 0x8100, tci });
    }
    let mut view = View::entering(u32::from(ofport));
    state.write(0, &mut view);
    for (field, block) in view.bits_of_packets(example) {
        packet = packet.with(field, example.get(block));
    }
    packet.with(Field::CtState, state.bits())
}
