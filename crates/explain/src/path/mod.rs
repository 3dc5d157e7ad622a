//! A packet's way through flow tables, half by half, and what the switch itself says of it.
//!
//! The way is followed by `verify`'s interpreter, which knows what the tracker would say. `ofproto/trace` does not fill
//! `ct_nw_src` and its like in (ovs-vswitchd 3.1), so that no trace from end to end meets the flows of a policy: each part between
//! two passes through the tracker is traced by itself, from the table in which it begins, with the registers and `ct_*` fields
//! that the packet has there (`ofproto/trace-packet-out`, ovs-vswitchd(8)).

pub mod neutron;

use policy::Direction;
use policy::evaluator::{Frame, Tracking};
use rust_openflow::{CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Field, Flow, Format, PortNo};
use serde::Serialize;
use verify::symbolic::{Joints, LocalPort};
use verify::{Conntrack, Packet, RunError, Stamp, Tables, Tracked, Tuple, Visit, run_from};

use pipeline::{LAYOUT, layout};

/// A half of a packet's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// The tables that it came to, each with the flow that it found there, in order.
    pub steps: Vec<Step>,
    /// What became of it.
    pub fate: Fate,
}

/// A look-up in a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The table.
    pub table: u8,
    /// The flow; none drops.
    pub flow: Option<Flow>,
    /// The packet as it was looked up.
    packet: Packet,
    recirculations: usize,
}

/// What tables make of a packet in a half of its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It passes this half.
    Passes,
    /// It is dropped for this reason, in the words of the law.
    Dropped(String),
    /// It ends somewhere, and no reason is said.
    Lost,
    /// The tables are no sound ones: why.
    Broken(String),
}

impl Fate {
    /// Whether the packet passes.
    pub fn passes(&self) -> bool {
        *self == Fate::Passes
    }
}

/// Where a packet is followed.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The flows of the switch.
    pub tables: &'a Tables,
    /// Where halves meet.
    pub joints: Joints,
    /// The port.
    pub port: &'a LocalPort,
}

/// Follows a frame that the port sends up to where it is delivered, or one that is for the port from there on. A packet of a
/// connection is taken for unproven, so that the tables judge it.
pub fn follow(place: Place<'_>, direction: Direction, frame: &Frame, tracking: &Tracking) -> Path {
    let Place { tables, joints, port } = place;
    let mut tracker = Told { tracking };
    let (table, packet) = match direction {
        Direction::Egress => (joints.hook, Packet::of_frame(PortNo(u32::from(port.ofport)), frame)),
        // From the network, its tag already taken for the VLAN.
        Direction::Ingress => {
            let packet = Packet::of_frame(PortNo::LOCAL, frame);
            (joints.deliver, packet.with(layout::register::VLAN, port.vlan))
        }
    };
    match run_from(tables, table, packet, &mut tracker) {
        Ok(outcome) => {
            let mut path = half(place, direction, &outcome.visits);
            // What is for a trusted port goes out to it at once.
            let goes_out = || outcome.ports().any(|out| out == PortNo(u32::from(port.ofport)));
            if path.fate == Fate::Lost && direction == Direction::Ingress && goes_out() {
                path.fate = Fate::Passes;
            }
            path
        }
        Err(error) => Path { steps: Vec::new(), fate: Fate::Broken(broken(&error)) },
    }
}

fn broken(error: &RunError) -> String {
    error.to_string()
}

fn half(place: Place<'_>, direction: Direction, visits: &[Visit]) -> Path {
    let Place { tables, joints, port } = place;
    let ofport = u128::from(port.ofport);
    let end = match direction {
        Direction::Egress => joints.deliver,
        Direction::Ingress => joints.output,
    };
    let is_of_port = |visit: &&Visit| match direction {
        Direction::Egress => true,
        // Before it is known for whom it is, and then for this port.
        Direction::Ingress => [0, ofport].contains(&visit.packet.get(layout::register::OFPORT)),
    };
    let mut steps = Vec::new();
    let mut fate = Fate::Lost;
    for visit in visits.iter().filter(is_of_port) {
        steps.push(Step {
            table: visit.table,
            flow: visit.flow.map(|id| tables.flow(id).clone()),
            packet: visit.packet.clone(),
            recirculations: visit.recirculations,
        });
        if visit.table == end {
            fate = Fate::Passes;
            break;
        }
        if visit.table == layout::drop::TABLE {
            let number = visit.packet.get(layout::register::REASON);
            let known = LAYOUT.reasons.iter().find(|(known, ..)| u128::from(*known) == number);
            fate = known.map_or(Fate::Lost, |(_, name, _)| Fate::Dropped((*name).to_owned()));
            break;
        }
    }
    Path { steps, fate }
}

/// A tracker that says the same of the packet each time, and what it was stamped with.
struct Told<'a> {
    tracking: &'a Tracking,
}

impl Conntrack for Told<'_> {
    fn ct(&mut self, _zone: u16, packet: &Packet, commit: Option<&Stamp>) -> Option<Tracked> {
        let mark = commit.and_then(|stamp| stamp.mark).map_or_else(
            || 0,
            |(value, mask)| {
                let before = u32::try_from(packet.get(Field::CtMark)).unwrap_or(0);
                before & !mask | value & mask
            },
        );
        let tracked = |state, tuple: Option<policy::evaluator::Tuple>| Tracked {
            state: state | CT_TRK,
            mark,
            label: 0,
            original: tuple.map(Tuple::from),
        };
        Some(match self.tracking {
            Tracking::Invalid => tracked(CT_INV, None),
            Tracking::New(tuple) => tracked(CT_NEW, Some(*tuple)),
            Tracking::Connection(connection) => {
                let reply = if connection.reply { CT_RPL } else { 0 };
                let kind = if connection.related { CT_REL } else { CT_EST };
                tracked(kind | reply, Some(connection.tuple))
            }
        })
    }
}

/// A part of the way that the switch can be asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch<'p> {
    steps: &'p [Step],
}

impl Path {
    /// Its parts between passes through the tracker.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch<'_>> {
        self.steps
            .chunk_by(|left, right| left.recirculations == right.recirculations)
            .map(|steps| Stretch { steps })
    }
}

/// Where the switch goes another way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Detour {
    /// The table.
    pub table: u8,
    /// The flow that the packet should find there, as a trace prints it.
    pub expected: String,
    /// What the switch found there.
    pub traced: String,
}

impl Stretch<'_> {
    /// What `ofproto/trace-packet-out` is asked: the packet, and the action that brings it to the first table of this part.
    pub fn question(&self) -> [String; 2] {
        let first = &self.steps[0];
        [packet_text(&first.packet), format!("resubmit(,{})", first.table)]
    }

    /// Compares the way with what the switch answered: nothing, or the first step that it takes otherwise.
    pub fn compare(&self, tables: &Tables, trace: &str) -> Option<Detour> {
        let mut traced = look_ups(trace);
        for step in self.steps {
            // Copies for other ports come between, through the same tables.
            let here = traced.clone();
            let is_it = |(table, found): (u8, &str)| table == step.table && is_same(tables, step, found);
            if !traced.any(is_it) {
                let mut instead = here.filter(|(table, _)| *table == step.table);
                let instead = instead.next().map_or("it does not come there", |(_, found)| found);
                return Some(Detour {
                    table: step.table,
                    expected: step.flow.as_ref().map_or_else(|| NO_MATCH.to_owned(), as_traced),
                    traced: instead.to_owned(),
                });
            }
        }
        None
    }
}

const NO_MATCH: &str = "No match.";

/// Whether what a trace says it found is the flow of the step, or one that does the same: of several at one priority a
/// switch takes any. Table, match and priority are what a flow is known by; its cookie is not: our hook beside Neutron's agent bears that agent's.
fn is_same(tables: &Tables, step: &Step, found: &str) -> bool {
    let Some(flow) = &step.flow else { return found == NO_MATCH };
    let found = without_cookie(found);
    found == without_cookie(&as_traced(flow))
        || tables.flows().iter().any(|other| {
            other.table == flow.table
                && other.priority == flow.priority
                && other.actions == flow.actions
                && without_cookie(&as_traced(other)) == found
        })
}

fn without_cookie(traced: &str) -> &str {
    traced.split_once(", cookie ").map_or(traced, |(flow, _)| flow)
}

/// `124. ip,reg7=0x3, priority 100, cookie 0x5367030000000003`, `113. No match.`: table and flow, up to where the tracker is
/// passed (ofproto/ofproto-dpif-xlate.c, 3.1: `xlate_report_table`).
fn look_ups(trace: &str) -> impl Iterator<Item = (u8, &str)> + Clone {
    let here = trace.lines().take_while(|line| !line.starts_with("====="));
    here.filter_map(|line| {
        let (table, found) = line.trim_start().split_once(". ")?;
        Some((table.parse().ok()?, found))
    })
}

/// A flow in the words of a trace.
fn as_traced(flow: &Flow) -> String {
    let cookie = if flow.cookie == 0 { String::new() } else { format!(", cookie {:#x}", flow.cookie) };
    let comma = if flow.matches.is_empty() { "" } else { ", " };
    format!("{}{comma}priority {}{cookie}", flow.matches, flow.priority)
}

/// Bits of `ct_state` by their names in a trace.
const STATE_BITS: [(u32, &str); 6] =
    [(CT_NEW, "new"), (CT_EST, "est"), (CT_REL, "rel"), (CT_RPL, "rpl"), (CT_INV, "inv"), (CT_TRK, "trk")];

/// A packet as `ofproto/trace` takes it.
fn packet_text(packet: &Packet) -> String {
    let parts = Field::all().filter(|field| {
        !matches!(
            field,
            Field::XReg(_)
                | Field::XXReg(_)
                | Field::InPortNxm
                | Field::VlanVid
                | Field::VlanPcp
                | Field::IpTos
        )
    });
    let of = |field: Field| {
        let value = packet.get(field);
        (value != 0).then(|| format!("{}={}", field.name(), value_text(field, value)))
    };
    parts.filter_map(of).collect::<Vec<_>>().join(",")
}

fn value_text(field: Field, value: u128) -> String {
    let small = u32::try_from(value).unwrap_or(u32::MAX);
    match field.format() {
        _ if field == Field::InPort && small == PortNo::LOCAL.0 => "LOCAL".to_owned(),
        Format::Mac => {
            let bytes = u64::try_from(value).unwrap_or(0).to_be_bytes();
            bytes[2..].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
        }
        Format::Ipv4 => std::net::Ipv4Addr::from_bits(small).to_string(),
        Format::Ipv6 => std::net::Ipv6Addr::from_bits(value).to_string(),
        Format::CtState => {
            let names = STATE_BITS.iter().filter(|(bit, _)| small & bit != 0).map(|(_, name)| *name);
            names.collect::<Vec<_>>().join("|")
        }
        Format::Frag => if value == 1 { "first" } else { "later" }.to_owned(),
        Format::Hex | Format::TcpFlags => format!("{value:#x}"),
        _ => value.to_string(),
    }
}
