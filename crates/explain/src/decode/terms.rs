//! The fields of a match and the actions of a flow, one by one, with names for the numbers in them.

use pipeline::{DropReason, layout};
use rust_openflow::{Action, Ct, CtZone, Field, Flow, PortNo, Subfield};

use super::look::loads;
use super::names::{Conjunction, Names};
use super::{Writer, tables};

/// A piece of a match or one action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    /// As ovs-ofctl prints it.
    pub text: String,
    /// What it means, where its numbers stand for something.
    pub means: Option<String>,
}

impl Term {
    /// What it means; else as ovs-ofctl prints it.
    #[must_use]
    pub fn words(&self) -> &str {
        self.means.as_deref().unwrap_or(&self.text)
    }
}

/// The terms of one flow, and the numbers in them that nothing says anything of.
pub(super) struct Terms<'a> {
    pub(super) names: &'a Names,
    pub(super) writer: Writer,
    pub(super) unnamed: Vec<String>,
}

impl Terms<'_> {
    pub(super) fn of_match(&mut self, flow: &Flow) -> Vec<Term> {
        let text = flow.matches.to_string();
        if text.is_empty() {
            return Vec::new();
        }
        // No value that is printed holds a comma, but a packet type, which is in no flow of a bridge of Ethernet frames.
        text.split(',').map(|text| Term { text: text.to_owned(), means: self.matched(flow, text) }).collect()
    }

    fn matched(&mut self, flow: &Flow, text: &str) -> Option<String> {
        let key = text.split_once('=').map_or(text, |(key, _)| key);
        let field = named_field(key)?;
        let (value, mask) = flow.matches.get(field)?;
        if mask != field.full_mask() {
            self.unnamed.push(format!("{text}: part of {key}"));
            return None;
        }
        let said = self.value(field, value);
        Some(match field {
            Field::InPort => format!("from {said}"),
            _ => said,
        })
    }

    /// What a number in a field stands for.
    fn value(&mut self, field: Field, value: u128) -> String {
        let number = u32::try_from(value).unwrap_or(u32::MAX);
        match field {
            Field::InPort => self.port(number),
            Field::Reg(5) => format!("port {}", self.port(number)),
            Field::Reg(6) => format!("VLAN {number}"),
            Field::CtMark => self.mark(number),
            Field::CtZone => format!("zone of VLAN {number}"),
            Field::ConjId => format!("both clauses of {}", self.remote(number)),
            Field::Reg(7) if self.writer == Writer::Neutron => self.remote(number),
            Field::Reg(register) if self.writer == Writer::Sgflow => self.register(register, number),
            _ => self.unknown(format!("{}={value:#x}", field.name())),
        }
    }

    /// A register of ours.
    fn register(&mut self, register: u8, number: u32) -> String {
        use layout::register as holds;
        match Field::Reg(register) {
            holds::SET => match self.names.set(number) {
                Some(set) => set,
                None => self.unknown(format!("set {number}")),
            },
            holds::ZONE => format!("zone {number:#x}"),
            holds::NEXT => match number {
                1 => "next deliver".to_owned(),
                2 => "next output".to_owned(),
                _ => self.unknown(format!("next {number}")),
            },
            holds::REASON => match reason(number) {
                Some(reason) => format!("reason {}", reason.name()),
                None => self.unknown(format!("reason {number}")),
            },
            holds::CHUNK => format!("chunk {number}"),
            holds::MODE => match number {
                0 => "every rule judges".to_owned(),
                1 => "stateless rules judge".to_owned(),
                _ => self.unknown(format!("mode {number}")),
            },
            holds::TAKEOVER => match number {
                0 => "not asked of Neutron's zone".to_owned(),
                1 => "a reply in Neutron's zone".to_owned(),
                2 => "asked of Neutron's zone".to_owned(),
                _ => self.unknown(format!("takeover {number}")),
            },
            _ => self.unknown(format!("reg{register}={number:#x}")),
        }
    }

    fn mark(&mut self, mark: u32) -> String {
        match (self.writer, mark) {
            (Writer::Neutron, 0) => return "not revoked".to_owned(),
            (Writer::Neutron, 1) => return "revoked".to_owned(),
            (Writer::Sgflow, 0) => return "unproven".to_owned(),
            (Writer::Sgflow, _) => {}
            _ => return self.unknown(format!("ct_mark {mark:#x}")),
        }
        let Some(generation) = self.names.generations.get(&mark) else {
            return self.unknown(format!("generation {mark}"));
        };
        let set = |set: &u32| self.names.set(*set).unwrap_or_else(|| format!("set {set}"));
        let stamped = generation.stamps.iter().map(|(direction, of)| format!("{direction} of {}", set(of)));
        let mut of: Vec<String> = stamped.collect();
        if of.is_empty() {
            of = generation.in_force.iter().map(set).collect();
        }
        let state = if generation.in_force.is_empty() { "not in force" } else { "in force" };
        format!("generation {mark} ({}, {state})", of.join(", "))
    }

    fn port(&mut self, number: u32) -> String {
        let Ok(ofport) = u16::try_from(number) else { return PortNo(number).to_string() };
        match self.names.port(ofport) {
            Some(label) => label,
            None => self.unknown(format!("port {ofport}")),
        }
    }

    /// A remote of ours, or a conjunction of Neutron's.
    fn remote(&mut self, id: u32) -> String {
        if self.writer == Writer::Sgflow {
            return match self.names.remote(id) {
                Some(remote) => remote,
                None => self.unknown(format!("remote {id}")),
            };
        }
        match self.names.conjunctions.get(&Conjunction::base(id)) {
            Some(conjunction) if conjunction.direction.is_some() => {
                conjunction_text(self.names, id, conjunction)
            }
            _ => self.unknown(format!("conjunction {id}")),
        }
    }

    fn unknown(&mut self, what: String) -> String {
        if !self.unnamed.contains(&what) {
            self.unnamed.push(what.clone());
        }
        what
    }

    fn table(&mut self, table: u8) -> String {
        match tables::name(table) {
            Some(name) => format!("{table} {name}"),
            None => self.unknown(format!("table {table}")),
        }
    }

    pub(super) fn of_actions(&mut self, actions: &[Action]) -> Vec<Term> {
        if actions.is_empty() {
            return vec![Term { text: "drop".to_owned(), means: None }];
        }
        actions.iter().map(|action| Term { text: action.to_string(), means: self.action(action) }).collect()
    }

    fn action(&mut self, action: &Action) -> Option<String> {
        Some(match action {
            Action::Output(port) if port.reserved_name().is_none() => {
                format!("output to {}", self.port(port.0))
            }
            Action::Output(PortNo::NORMAL) => "NORMAL: by learnt MACs".to_owned(),
            Action::OutputReg(Subfield { field: Field::Reg(5), .. }) => {
                "output to the port in reg5".to_owned()
            }
            Action::Resubmit { port: None, table: Some(table), ct: false } | Action::Goto(table) => {
                format!("to {}", self.table(*table))
            }
            Action::SetField { field, value, mask } if is_named(*field) && *mask == field.full_mask() => {
                self.value(*field, *value)
            }
            Action::Move {
                src: Subfield { field: Field::VlanVid, .. },
                dst: Subfield { field: VLAN, .. },
            } => "VLAN of the frame's tag".to_owned(),
            Action::Move {
                src: Subfield { field: VLAN, .. },
                dst: Subfield { field: Field::VlanVid, .. },
            } => "tag of the VLAN".to_owned(),
            // Part of a register, or a register to somewhere else: of nobody's that is known here.
            Action::SetField { field, .. }
            | Action::Move { dst: Subfield { field, .. }, .. }
            | Action::Push(Subfield { field, .. })
            | Action::Pop(Subfield { field, .. })
            | Action::OutputReg(Subfield { field, .. })
                if is_named(*field) =>
            {
                self.unknown(action.to_string());
                return None;
            }
            Action::Ct(ct) => self.ct(ct),
            Action::CtClear => "forget tracking".to_owned(),
            Action::Conjunction { id, clause, n_clauses } => {
                format!("clause {clause} of {n_clauses} of {}", self.remote(*id))
            }
            Action::Note(note) if self.writer == Writer::Sgflow => {
                let text = note.split(|byte| *byte == 0).next().unwrap_or_default();
                format!("note {}", String::from_utf8_lossy(text))
            }
            Action::Clone(nested) => {
                let nested: Vec<String> =
                    self.of_actions(nested).iter().map(|term| term.words().to_owned()).collect();
                format!("on a copy: ({})", nested.join(", "))
            }
            Action::Unknown(_) | Action::UnknownInstruction(_) => {
                self.unknown(action.to_string());
                return None;
            }
            _ => return None,
        })
    }

    fn ct(&mut self, ct: &Ct) -> String {
        let zone = match ct.zone {
            CtZone::Imm(zone) => format!("zone {zone}"),
            CtZone::Field(Subfield { field: layout::register::ZONE, .. }) => "the port's zone".to_owned(),
            CtZone::Field(Subfield { field: layout::register::VLAN, .. }) => "the VLAN's zone".to_owned(),
            CtZone::Field(subfield) => self.unknown(format!("zone {subfield}")),
        };
        let mut text = format!("{} in {zone}", if ct.commit { "commit" } else { "track" });
        for action in &ct.exec {
            let said = self.action(action).unwrap_or_else(|| action.to_string());
            text += &format!(" as {said}");
        }
        if let Some(table) = ct.table {
            text += &format!(", then {}", self.table(table));
        }
        text
    }
}

/// A conjunction of Neutron's driver by the group that it is about, or by who is in it: `conjunction 54 (web)`.
pub(super) fn conjunction_text(names: &Names, id: u32, conjunction: &Conjunction) -> String {
    let known = match (&conjunction.remote, conjunction.members.first()) {
        (Some(remote), _) => names.group(&remote.group),
        (None, None) => "no members".to_owned(),
        (None, Some(first)) => match conjunction.members.len() {
            1 => plain(*first),
            many => format!("{} and {} more", plain(*first), many - 1),
        },
    };
    format!("conjunction {id} ({known})")
}

/// An address without the length of its prefix where that is all of it.
pub(super) fn plain(net: ipnet::IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// The reason of a drop, by its number.
pub(super) fn reason(number: u32) -> Option<DropReason> {
    DropReason::ALL.iter().copied().find(|reason| u32::from(*reason as u8) == number)
}

/// The reason for which a flow of ours drops.
pub(super) fn dropped_for(actions: &[Action]) -> Option<DropReason> {
    loads(actions, layout::register::REASON).and_then(|number| reason(u32::try_from(number).ok()?))
}

/// The network's VLAN, ours and Neutron's.
const VLAN: Field = layout::register::VLAN;

/// Fields whose numbers stand for something; all others say what they are.
fn named_field(key: &str) -> Option<Field> {
    match key {
        "in_port" => Some(Field::InPort),
        "ct_mark" => Some(Field::CtMark),
        "ct_zone" => Some(Field::CtZone),
        "conj_id" => Some(Field::ConjId),
        _ => Field::from_name(key).filter(|field| is_named(*field)),
    }
}

fn is_named(field: Field) -> bool {
    matches!(
        field,
        Field::Reg(_) | Field::XReg(_) | Field::XXReg(_) | Field::Metadata | Field::CtMark | Field::CtLabel
    )
}
