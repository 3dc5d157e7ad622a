//! What flows of ours are for: the slot of `flows/pipeline.toml` that each fills, and the phrase of that slot.

mod phrases;

use pipeline::layout::{self, SlotLayout, TableLayout, register};
use pipeline::{FlowKind, LAYOUT, Name, Observed, decode_cookie};
use policy::Direction;
use rust_openflow::{Action, Field, Flow};

use super::look::{clauses, loaded, loads, number, onwards, outputs, small};
use super::names::{Names, direction_of};
use super::terms::{dropped_for, reason};
use super::words::{self, Wanted, packets};

/// A slot, and what the flow in it is for.
pub(super) struct Meaning {
    pub(super) slot: &'static str,
    pub(super) purpose: Option<String>,
}

/// Priority of the hook's second flow.
const FLOOR: u16 = 3;

/// `None` where no flow of ours ever stands.
pub(super) fn meaning(flow: &Flow, names: &Names) -> Option<Meaning> {
    if is_hook_of_driver(flow) && flow.priority == FLOOR {
        let purpose = "frames that no flow of Neutron's takes enter the firewall here".to_owned();
        return Some(Meaning { slot: "floor", purpose: Some(purpose) });
    }
    let table = LAYOUT.tables.iter().find(|table| table.id == flow.table)?;
    let slot = table.slots.iter().find(|slot| slot.priority == flow.priority)?;
    let mut purpose = Fill { flow, names }.purpose(table, slot);
    if let (Some(reason), Some(purpose)) = (dropped_for(&flow.actions), &mut purpose) {
        *purpose += &format!(": dropped as {}", reason.name());
    }
    Some(Meaning { slot: slot.name, purpose })
}

/// Whether sgflow's driver in Neutron's agent wrote it there: the hook, with a cookie of the agent's, and again below the flows of
/// Neutron's own driver (integration/neutron/sgflow_neutron/sgflow_neutron/hook.py).
pub(super) fn is_hook_of_driver(flow: &Flow) -> bool {
    flow.table == layout::transient::TABLE
        && flow.matches.is_empty()
        && [layout::transient::ALL, FLOOR].contains(&flow.priority)
        && flow.actions == [Action::resubmit(layout::classify::TABLE)]
}

/// What the cookie of a flow of ours says: kind and object.
pub(super) fn cookie(flow: &Flow, names: &Names) -> Option<(&'static str, Option<String>)> {
    let (kind, object) = decode_cookie(flow.cookie)?;
    let (_, name, _) = LAYOUT.kinds.iter().find(|(id, ..)| *id == kind as u8)?;
    let number = || u32::try_from(object).ok();
    let what = match kind {
        FlowKind::Port => u16::try_from(object).ok().and_then(|ofport| names.port(ofport)),
        FlowKind::Set | FlowKind::Rule => names.set(number()?),
        FlowKind::Remote => names.remote(number()?),
        FlowKind::Network => Some(format!("VLAN {object}")),
        FlowKind::Observe => match Observed::read(flow)? {
            Observed::PortDrops(port, ..) | Observed::Echo(port) | Observed::Admitted(Some(port), _) => {
                names.port(port.0)
            }
            Observed::Drops(_) | Observed::Admitted(None, _) => None,
        },
        FlowKind::Static | FlowKind::Member => None,
    };
    Some((name, what))
}

/// What fills a phrase.
struct Fill<'a> {
    flow: &'a Flow,
    names: &'a Names,
}

impl Fill<'_> {
    fn purpose(&self, table: &TableLayout, slot: &SlotLayout) -> Option<String> {
        if let Some(phrase) = phrases::of(table.name, slot.name) {
            return self.filled(phrase);
        }
        match (table.id, slot.name) {
            (layout::classify::TABLE, "port") => self.sender(),
            (layout::egress_source::TABLE, "settled" | "family") => Some(self.settled()),
            (layout::ingress_base::TABLE, "settled") => {
                Some(format!("{} pass without rules", packets(&self.flow.matches)))
            }
            (layout::egress_base::TABLE, "tagged") => Some("frames that a guest tagged itself".to_owned()),
            (layout::ingress_base::TABLE, "tagged") => Some("frames that still have a tag".to_owned()),
            (layout::drop::TABLE, _) => self.counted(slot.name),
            (layout::names::TABLE, _) => self.name(),
            (_, "nd_fragment") => Some(self.cut_short()),
            (_, "related_miss") => Some(self.related_miss()),
            (_, "rule") => self.rule(),
            (_, "conjunction") => self.conjunction(),
            _ => None,
        }
    }

    /// The phrase with all that it asks for; `None` if the flow does not say it.
    fn filled(&self, phrase: &str) -> Option<String> {
        let mut text = String::new();
        let mut rest = phrase;
        while let Some((before, tail)) = rest.split_once('{') {
            let (key, after) = tail.split_once('}')?;
            text += before;
            text += &self.value(key)?;
            rest = after;
        }
        Some(text + rest)
    }

    fn value(&self, key: &str) -> Option<String> {
        let matches = &self.flow.matches;
        match key {
            "packets" => Some(packets(matches)),
            "port" => small(matches, Field::InPort).map(|port| self.port(port)),
            "whose" => self.whose(),
            "set" => number(matches, register::SET).map(|set| self.set(set)),
            "mac" => words::mac(matches, Field::EthSrc).or(words::mac(matches, Field::EthDst)),
            "vlan" => small(matches, register::VLAN).map(|vlan| vlan.to_string()),
            "direction" => direction_of(self.flow.table).map(|direction| direction.to_string()),
            "service" => Some(Wanted::of(matches).text()),
            "to" => onwards(&self.flow.actions).first().and_then(|table| table_name(*table)),
            "receivers" => Some(self.receivers()),
            "way" => Some(self.way().to_owned()),
            _ => None,
        }
    }

    fn port(&self, ofport: u16) -> String {
        self.names.port(ofport).unwrap_or_else(|| format!("port {ofport}"))
    }

    fn set(&self, set: u32) -> String {
        self.names.set(set).unwrap_or_else(|| format!("set {set}"))
    }

    fn remote(&self, remote: u32) -> String {
        self.names.remote(remote).unwrap_or_else(|| format!("remote {remote}"))
    }

    /// Whether a packet goes the way of its connection's first one, as `ct_state` says.
    fn way(&self) -> &'static str {
        let reply = rust_openflow::CT_RPL;
        match super::look::has_bits(&self.flow.matches, Field::CtState, reply, reply) {
            true => "replies",
            false => "packets of the connection's own direction",
        }
    }

    fn receivers(&self) -> String {
        let filtered = loaded(&self.flow.actions, register::OFPORT);
        let filtered = filtered.into_iter().filter_map(|port| u16::try_from(port).ok());
        let ports: Vec<String> =
            filtered.chain(outputs(&self.flow.actions)).map(|port| self.port(port)).collect();
        if ports.is_empty() { "nobody".to_owned() } else { ports.join(", ") }
    }

    fn sender(&self) -> Option<String> {
        let port = self.port(small(&self.flow.matches, Field::InPort)?);
        let load = |field| loads(&self.flow.actions, field).and_then(|value| u32::try_from(value).ok());
        let vlan = load(register::VLAN);
        Some(match (load(register::SET), vlan) {
            // Of ports to the network alone the tag is looked at: the VLAN is its own, or there is none.
            (None, vlan) if self.flow.matches.get(Field::VlanTci).is_some() => {
                let vlan =
                    vlan.map_or_else(|| "the VLAN of their tag".to_owned(), |vlan| format!("VLAN {vlan}"));
                format!("{} from the network, by {port}: on {vlan}", packets(&self.flow.matches))
            }
            (Some(set), Some(vlan)) => format!("{port} sends, on VLAN {vlan}: filtered as {}", self.set(set)),
            (None, Some(vlan)) => format!("{port} sends, on VLAN {vlan}: trusted"),
            _ => return None,
        })
    }

    fn settled(&self) -> String {
        let what = packets(&self.flow.matches);
        match (dropped_for(&self.flow.actions), self.flow.priority) {
            (Some(_), layout::egress_source::FAMILY) => format!("{what} of any other sender"),
            (Some(_), _) => format!("{what} of a guest"),
            (None, _) => format!("{what} pass without rules"),
        }
    }

    /// IPv6 that is in fragments, or whose header is, shows no type and no port: all of these are matched as 0.
    fn cut_short(&self) -> String {
        let wanted = Wanted::of(&self.flow.matches);
        match (wanted.protocol, wanted.icmp) {
            (Some(17), _) => "UDP over IPv6 that ends before its ports".to_owned(),
            (Some(58), (Some(0), _)) => "ICMPv6 that ends before its type".to_owned(),
            (Some(58), _) => packets(&self.flow.matches),
            _ => "IPv6 whose headers end before what it carries".to_owned(),
        }
    }

    fn related_miss(&self) -> String {
        let is_sctp = Wanted::of(&self.flow.matches).protocol == Some(132);
        if is_sctp { "sctp packets that no rule admits" } else { "related connections that no rule admits" }
            .to_owned()
    }

    fn counted(&self, slot: &str) -> Option<String> {
        let why = reason(number(&self.flow.matches, register::REASON)?)?;
        let (.., doc) = LAYOUT.reasons.iter().find(|(id, ..)| *id == why as u8)?;
        let (whose, sampled) = match slot {
            "port" => (format!(" of {}", self.whose()?), " and sampled"),
            "sample" => (String::new(), " and sampled"),
            _ => (String::new(), ""),
        };
        Some(format!("drops{whose} counted{sampled} as {}: {doc}", why.name()))
    }

    /// The port that a flow which only looks is about.
    fn whose(&self) -> Option<String> {
        let matches = &self.flow.matches;
        let port = small(matches, register::OFPORT).or(small(matches, Field::InPort))?;
        Some(if port == 0 { "no port of this host".to_owned() } else { self.port(port) })
    }

    fn name(&self) -> Option<String> {
        Some(match Name::of(self.flow)? {
            Name::Set(id, ..) => format!("name: {}", self.set(id.0)),
            Name::Group(id, group) => format!("name: remote {id} is security group {group}"),
            Name::AddressGroup(id, group) => format!("name: remote {id} is address group {group}"),
            Name::Port(ofport, port) => format!("name: port {ofport} is {port}"),
        })
    }

    fn rule(&self) -> Option<String> {
        let set = self.set(number(&self.flow.matches, register::SET)?);
        let direction = direction_of(self.flow.table)?;
        Some(format!("{direction} rule of {set}{}: {}", self.how(), rule_text(self.flow, direction)))
    }

    /// What of the packet the rules of the table are asked about, where that is not its connection.
    fn how(&self) -> &'static str {
        let tables = [layout::egress_packet::TABLE, layout::ingress_packet::TABLE];
        if tables.contains(&self.flow.table) { ", packet by packet" } else { "" }
    }

    /// The three kinds of flows of a conjunction.
    fn conjunction(&self) -> Option<String> {
        let direction = direction_of(self.flow.table)?;
        if let Some(remote) = number(&self.flow.matches, Field::ConjId) {
            return Some(format!(
                "{direction} rules about {}: both clauses hold, admitted",
                self.remote(remote)
            ));
        }
        let clauses = clauses(&self.flow.actions);
        let remotes: Vec<String> = clauses.iter().map(|(remote, _)| self.remote(*remote)).collect();
        let remotes = remotes.join(", ");
        match number(&self.flow.matches, register::SET) {
            Some(set) => {
                let service = Wanted::of(&self.flow.matches).text();
                let way = if direction == Direction::Egress { "to" } else { "from" };
                Some(format!(
                    "{direction} rule of {}{}: {service} {way} {remotes}",
                    self.set(set),
                    self.how()
                ))
            }
            None => {
                let member = words::member(&self.flow.matches);
                Some(format!("{direction}: {member} is a member of {remotes}"))
            }
        }
    }
}

/// `tcp/22 from 10.0.0.0/8`: what a rule without a group as its other end admits.
pub(super) fn rule_text(flow: &Flow, direction: Direction) -> String {
    let service = Wanted::of(&flow.matches).text();
    match (words::source(&flow.matches), words::destination(&flow.matches)) {
        (Some(from), _) => format!("{service} from {from}"),
        (None, Some(to)) => format!("{service} to {to}"),
        (None, None) if direction == Direction::Egress => format!("{service} to anybody"),
        (None, None) => format!("{service} from anybody"),
    }
}

fn table_name(table: u8) -> Option<String> {
    LAYOUT.tables.iter().find(|known| known.id == table).map(|known| format!("{table} {}", known.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots whose phrase depends on more than what fills it.
    const IN_CODE: [(&str, &str); 15] = [
        ("classify", "port"),
        ("egress_base", "tagged"),
        ("ingress_base", "tagged"),
        ("egress_source", "settled"),
        ("egress_source", "family"),
        ("egress_source", "nd_fragment"),
        ("ingress_base", "settled"),
        ("drop", "port"),
        ("drop", "sample"),
        ("drop", "reason"),
        ("names", "name"),
        ("policy", "related_miss"),
        ("policy", "rule"),
        ("policy", "conjunction"),
        ("packet", "rule"),
    ];

    #[test]
    fn every_slot_has_a_phrase() {
        for table in LAYOUT.tables {
            for slot in table.slots {
                let is_in_code =
                    IN_CODE.iter().any(|(of, name)| table.name.ends_with(of) && *name == slot.name)
                        || (table.name.ends_with("packet") && slot.name == "conjunction");
                assert!(
                    phrases::of(table.name, slot.name).is_some() != is_in_code,
                    "{} {}: one phrase, and one alone",
                    table.name,
                    slot.name
                );
            }
        }
    }
}
