//! What a switch holds against what it should hold: flow by flow, and for all packets.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Direction, Policy};
use rust_openflow::{Field, Flow, FlowKey, PortNo};

use crate::conntrack::{Conntrack, Stamp, Tracked};
use crate::error::Fault;
use crate::interpreter::run_from;
use crate::outcome::Visit;
use crate::packet::{Packet, Tag};
use crate::symbolic::{Difference, Joints, LocalPort, State, differences_side_by_side};
use crate::tables::{self, Tables};
use crate::{Outcome, RunError, Scripted};

/// Differences that are looked through for the flows that they meet. Each is followed through both tables.
const LOOKED_THROUGH: usize = 400;
/// The registers of the delivery: the network's VLAN.
const VLAN: Field = Field::Reg(6);

/// What is audited.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Every flow that frames from and to the ports meet, in canonical form, whoever put it there.
    pub held: &'a [Flow],
    /// What should be there, in canonical form.
    pub wanted: &'a [Flow],
    /// The tables at which the halves of a frame's way meet.
    pub joints: Joints,
    /// What is to be enforced.
    pub policy: &'a Policy,
    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6.
    pub permitted_ethertypes: &'a BTreeSet<u16>,
    /// The ports that frames come from and go to.
    pub ports: &'a [LocalPort],
    /// How many threads the proof may take.
    pub threads: usize,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// Flows that are not as they should be, by table, falling priority and match.
    pub findings: Vec<Finding>,
    /// Packets that tables and policy treat differently and that meet none of these flows.
    pub unexplained: Vec<Difference>,
    /// How many packets of all kinds tell tables and policy apart, one for each port, direction and state.
    pub differences: usize,
    /// Why there is no proof either way.
    pub unproven: Option<String>,
}

/// A flow that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What is wrong with it.
    pub deviation: Deviation,
    /// It was left out of the proof for this: nobody knows what passes by it.
    pub unfollowed: Option<Fault>,
    /// A packet that meets it, and is not treated as it should be.
    pub evidence: Option<Evidence>,
}

/// How a flow is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deviation {
    /// It is not there.
    Missing(Flow),
    /// It is there, and should not be.
    Extra(Flow),
    /// It is there with other actions, or another cookie.
    Altered {
        /// As it is.
        held: Flow,
        /// As it should be.
        wanted: Flow,
    },
}

/// A packet that shows a difference, and its ways.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The packet, as it comes to the first table of its ways.
    pub packet: Packet,
    /// What the tables do to it that the policy does not say. None: the proof does not know of the flow, as it leaves out
    /// the way to the network, or another flow hides it; the ways begin at the flow's table, whoever comes there.
    pub difference: Option<Difference>,
    /// Its way through the tables as they are.
    pub held: Way,
    /// Its way through the tables as they should be.
    pub wanted: Way,
}

/// A packet's way through tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Way {
    /// The tables that it came to, each with the flow that it found there.
    pub steps: Vec<(u8, Option<Flow>)>,
    /// Why it ends without a result.
    pub broken: Option<String>,
}

impl Audit {
    /// Whether the tables are the policy, for all packets and to the flow.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.findings.is_empty() && self.differences == 0 && self.unproven.is_none()
    }
}

impl Deviation {
    /// The flow as it is in the switch, or should be if there is none.
    #[must_use]
    pub fn flow(&self) -> &Flow {
        match self {
            Deviation::Missing(flow) | Deviation::Extra(flow) | Deviation::Altered { held: flow, .. } => flow,
        }
    }

    /// The flow in the switch.
    #[must_use]
    pub fn held(&self) -> Option<&Flow> {
        match self {
            Deviation::Missing(_) => None,
            Deviation::Extra(flow) | Deviation::Altered { held: flow, .. } => Some(flow),
        }
    }
}

/// Compares what a switch holds with what it should hold, and proves what it holds against the policy.
#[must_use]
pub fn audit(subject: &Subject<'_>) -> Audit {
    let mut findings = deviations(subject.held, subject.wanted);
    let left_out: BTreeSet<FlowKey> =
        findings.iter().filter(|f| f.unfollowed.is_some()).map(|f| f.deviation.flow().key()).collect();
    let followed = subject.held.iter().filter(|flow| !left_out.contains(&flow.key()));
    let mut audit = Audit::default();
    match (Tables::new(followed.cloned()), Tables::new(subject.wanted.iter().cloned())) {
        (Ok(held), Ok(wanted)) => prove(subject, &held, &wanted, &mut findings, &mut audit),
        (Err(refused), _) | (_, Err(refused)) => audit.unproven = Some(refused.to_string()),
    }
    audit.findings = findings;
    audit
}

fn prove(subject: &Subject<'_>, held: &Tables, wanted: &Tables, findings: &mut [Finding], audit: &mut Audit) {
    let Subject { joints, policy, permitted_ethertypes, ports, threads, .. } = *subject;
    let found = match differences_side_by_side(threads, held, joints, policy, permitted_ethertypes, ports) {
        Ok(found) => found,
        Err(error) => {
            audit.unproven = Some(error.to_string());
            Vec::new()
        }
    };
    audit.differences = found.len();
    explain(subject, held, wanted, found, findings, audit);
    for finding in findings.iter_mut().filter(|finding| finding.evidence.is_none()) {
        finding.evidence = at_its_table(held, wanted, finding.deviation.flow());
    }
}

/// Finds for each flow a packet among those that tell tables and policy apart.
fn explain(
    subject: &Subject<'_>,
    held: &Tables,
    wanted: &Tables,
    mut found: Vec<Difference>,
    findings: &mut [Finding],
    audit: &mut Audit,
) {
    let Subject { joints, ports, .. } = *subject;
    // What everybody meets first is understood first.
    found.sort_by_key(|difference| difference.state != State::New);
    for difference in found.into_iter().take(LOOKED_THROUGH) {
        if findings.iter().all(|finding| finding.evidence.is_some()) && !findings.is_empty() {
            break;
        }
        let port = ports.iter().find(|port| port.id == difference.port);
        let Some(vlan) = port.map(|port| port.vlan) else { continue };
        // What becomes of a frame that its sender may send is another question.
        let end = (difference.direction == Direction::Egress).then_some(joints.deliver);
        let [as_is, as_wanted] = [held, wanted].map(|tables| follow(tables, joints, &difference, vlan));
        let visits = visits_until(&as_is, end).chain(visits_until(&as_wanted, end));
        let visits: Vec<&Visit> = visits.collect();
        let mut is_explained = false;
        for finding in findings.iter_mut().filter(|finding| meets(&visits, finding.deviation.flow())) {
            is_explained = true;
            finding.evidence.get_or_insert_with(|| Evidence {
                packet: difference.packet.clone(),
                difference: Some(difference.clone()),
                held: way(held, &as_is, end),
                wanted: way(wanted, &as_wanted, end),
            });
        }
        if !is_explained {
            audit.unexplained.push(difference);
        }
    }
}

/// Flows that are not as they should be.
fn deviations(held: &[Flow], wanted: &[Flow]) -> Vec<Finding> {
    let held_by_key: BTreeMap<FlowKey, &Flow> = held.iter().map(|flow| (flow.key(), flow)).collect();
    let wanted_by_key: BTreeMap<FlowKey, &Flow> = wanted.iter().map(|flow| (flow.key(), flow)).collect();
    let missing = wanted.iter().filter(|flow| !held_by_key.contains_key(&flow.key()));
    let other = held.iter().filter_map(|flow| match wanted_by_key.get(&flow.key()) {
        None => Some(Deviation::Extra(flow.clone())),
        Some(wanted) if wanted.cookie == flow.cookie && wanted.actions == flow.actions => None,
        Some(wanted) => Some(Deviation::Altered { held: flow.clone(), wanted: (*wanted).clone() }),
    });
    let mut all: Vec<Deviation> = missing.cloned().map(Deviation::Missing).chain(other).collect();
    all.sort_by(|a, b| {
        let (a, b) = (a.flow(), b.flow());
        (a.table, b.priority, &a.matches).cmp(&(b.table, a.priority, &b.matches))
    });
    let finding = |deviation: Deviation| {
        let unfollowed = deviation.held().and_then(|flow| tables::check(flow).err());
        Finding { deviation, unfollowed, evidence: None }
    };
    all.into_iter().map(finding).collect()
}

/// The way of a difference's packet: from the port, or from where it is delivered to.
fn follow(
    tables: &Tables,
    joints: Joints,
    difference: &Difference,
    vlan: u16,
) -> (Outcome, Option<RunError>) {
    let packet = &difference.packet;
    let mut told = Told(Tracked::read(packet));
    let (packet, table) = match difference.direction {
        Direction::Egress => (packet.untracked(), joints.hook),
        Direction::Ingress => (packet.untracked().with(VLAN, vlan), joints.deliver),
    };
    match run_from(tables, table, packet, &mut told) {
        Ok(outcome) => (outcome, None),
        Err(error) => (Outcome::default(), Some(error)),
    }
}

/// A tracker that says of every packet what the difference takes for granted.
struct Told(Tracked);

impl Conntrack for Told {
    fn ct(&mut self, _zone: u16, _packet: &Packet, _commit: Option<&Stamp>) -> Option<Tracked> {
        Some(self.0)
    }
}

/// The look-ups before a table.
fn visits_until((outcome, _): &(Outcome, Option<RunError>), end: Option<u8>) -> impl Iterator<Item = &Visit> {
    outcome.visits.iter().take_while(move |visit| Some(visit.table) != end)
}

/// Whether the packet comes by a flow: that of its own, or one of a conjunction's.
fn meets(visits: &[&Visit], flow: &Flow) -> bool {
    let holds = |packet: &Packet| {
        let terms = flow.matches.iter().filter(|(field, ..)| *field != Field::ConjId);
        terms.into_iter().all(|(field, value, mask)| packet.get(field) & mask == value)
    };
    visits.iter().any(|visit| visit.table == flow.table && holds(&visit.packet))
}

fn way(tables: &Tables, run: &(Outcome, Option<RunError>), end: Option<u8>) -> Way {
    let step = |visit: &Visit| (visit.table, visit.flow.map(|id| tables.flow(id).clone()));
    let at_end = run.0.visits.iter().find(|visit| Some(visit.table) == end);
    let steps = visits_until(run, end).chain(at_end).map(step).collect();
    Way { steps, broken: run.1.as_ref().map(ToString::to_string) }
}

/// A packet that has what a flow asks for, if it has another way from its table on.
fn at_its_table(held: &Tables, wanted: &Tables, flow: &Flow) -> Option<Evidence> {
    [0, 1].into_iter().find_map(|filling| {
        let packet = packet_for(flow, filling)?;
        let [as_is, as_wanted] = [held, wanted].map(|tables| {
            match run_from(tables, flow.table, packet.clone(), &mut Scripted::default()) {
                Ok(outcome) => (outcome, None),
                Err(error) => (Outcome::default(), Some(error)),
            }
        });
        let (held, wanted) = (way(held, &as_is, None), way(wanted, &as_wanted, None));
        (held != wanted).then_some(Evidence { packet, difference: None, held, wanted })
    })
}

/// What a flow asks for, and as `filling` what it does not ask for and others may.
fn packet_for(flow: &Flow, filling: u128) -> Option<Packet> {
    let asked = |field| flow.matches.get(field).map(|(value, _)| value);
    let unasked: &[Field] = match (asked(Field::EthType), asked(Field::IpProto)) {
        (Some(0x0800), Some(1)) => &[Field::Ipv4Src, Field::Ipv4Dst, Field::Icmpv4Type],
        (Some(0x86dd), Some(58)) => &[Field::Ipv6Src, Field::Ipv6Dst, Field::Icmpv6Type],
        (Some(0x0800), _) => &[Field::Ipv4Src, Field::Ipv4Dst, Field::IpProto],
        (Some(0x86dd), _) => &[Field::Ipv6Src, Field::Ipv6Dst, Field::IpProto],
        _ => &[],
    };
    let always = [VLAN, Field::EthSrc, Field::EthDst];
    let unasked = always.iter().chain(unasked);
    let mut packet = unasked.fold(Packet::new(PortNo(0)), |packet, field| packet.with(*field, filling));
    for (field, value, mask) in flow.matches.iter().filter(|(field, ..)| *field != Field::ConjId) {
        let is_of_tag = matches!(field, Field::VlanTci | Field::VlanVid | Field::VlanPcp);
        if is_of_tag && packet.tags().is_empty() && value != 0 {
            packet = packet.with_tag(Tag::new(0x8100, u16::from(filling != 0)));
        }
        if !is_of_tag || !packet.tags().is_empty() {
            packet.set(field, value, mask).ok()?;
        }
    }
    Some(packet)
}
