//! Tables 71 to 73, 81, 82 and 91 to 94: the firewall driver.
//!
//! `reg5` is the port, `reg6` the VLAN, `reg7` the conjunction that admitted the packet. Connections are tracked in a zone a
//! VLAN; `ct_mark` 1 marks one that lost its rule.

use policy::Direction;
use rust_openflow::{Action, CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Field, Flow, PortNo};

use super::{port, sender};
use crate::decode::look::{clauses, has_bits, loads, number, onwards, outputs, small};
use crate::decode::names::{Conjunction, Names};
use crate::decode::ours::rule_text;
use crate::decode::terms::conjunction_text;
use crate::decode::words::{self, Wanted, packets};

type Said = Option<(&'static str, String)>;

const DROPPED: u8 = 93;
const ACCEPTED: u8 = 94;

pub(super) fn meaning(flow: &Flow, names: &Names) -> Said {
    let own = small(&flow.matches, Field::Reg(5)).map(|ofport| port(names, ofport));
    match (flow.table, own) {
        (71 | 72 | 81 | 82 | 73, None)
            if flow.priority == 0 && flow.matches.is_empty() && flow.actions.is_empty() =>
        {
            said("miss", "what no flow takes: dropped")
        }
        (71, None) if flow.priority == 110 => {
            said("again", "packets that conntrack has seen begin anew: their tracking is forgotten")
        }
        (71, Some(own)) => base_egress(flow, names, &own),
        (81, Some(own)) => base_ingress(flow, &own),
        (72, own) => rules(flow, names, Direction::Egress, own),
        (82, own) => rules(flow, names, Direction::Ingress, own),
        (73, own) => accept_or_ingress(flow, names, own),
        (91..=94, _) => last(flow, names),
        _ => None,
    }
}

fn said(slot: &'static str, purpose: impl Into<String>) -> Said {
    Some((slot, purpose.into()))
}

fn goes_to(flow: &Flow, table: u8) -> bool {
    onwards(&flow.actions) == [table]
}

fn base_egress(flow: &Flow, names: &Names, own: &str) -> Said {
    // All but permitted ethertypes are of the port by which they came in.
    let is_sent = sender(flow, names).is_some();
    let what = packets(&flow.matches);
    match flow.priority {
        95 if goes_to(flow, ACCEPTED) && is_sent => {
            said("own_address", format!("{own} may send {what}, without rules"))
        }
        95 if goes_to(flow, ACCEPTED) => said("permitted", format!("{own} may send {what}: permitted")),
        80 if goes_to(flow, 73) => said("dhcp_client", format!("{own} may send {what}, without rules")),
        70 if goes_to(flow, DROPPED) => said("dhcp_server", format!("{what} of {own}, a guest: dropped")),
        65 if onwards(&flow.actions) == [72] => {
            said("track", format!("{own} may send {what}: tracked, then its rules judge"))
        }
        10 if goes_to(flow, DROPPED) => {
            said("spoofed", format!("whatever else {own} sends, as spoofed: dropped"))
        }
        _ => None,
    }
}

fn base_ingress(flow: &Flow, own: &str) -> Said {
    let what = packets(&flow.matches);
    let is_delivered = !outputs(&flow.actions).is_empty();
    match flow.priority {
        100 if is_delivered => said("settled", format!("{own} receives {what} without rules")),
        95 if is_delivered => said("dhcp_reply", format!("{own} receives {what} without rules")),
        90 if onwards(&flow.actions) == [82] => {
            said("track", format!("{what} to {own}: tracked, then its rules judge"))
        }
        80 if goes_to(flow, 82) => said("tracked", format!("tracked packets to {own}: its rules judge")),
        _ => None,
    }
}

/// Priorities of rules (`flow_priority_offset`): 70 to 73 with a remote group, 74 to 77 without.
fn rules(flow: &Flow, names: &Names, direction: Direction, own: Option<String>) -> Said {
    match (flow.priority, own) {
        (74..=77, Some(own)) => said(
            "rule",
            format!(
                "{direction} rule of {own}: {}{}",
                rule_text(flow, direction),
                connections(flow, " (known connections)", " (new connections)")
            ),
        ),
        (70..=73, own) => conjunction(flow, names, direction, own),
        (40 | 50, own) => others(flow, direction, own),
        _ => None,
    }
}

fn connections(flow: &Flow, known: &'static str, new: &'static str) -> &'static str {
    match has_bits(&flow.matches, Field::CtState, CT_EST, CT_EST) {
        true => known,
        false if has_bits(&flow.matches, Field::CtState, CT_NEW, CT_NEW) => new,
        false => "",
    }
}

fn conjunction(flow: &Flow, names: &Names, direction: Direction, own: Option<String>) -> Said {
    let name = |id: u32| {
        let conjunction = names.conjunctions.get(&Conjunction::base(id));
        conjunction.map_or_else(|| format!("conjunction {id}"), |known| conjunction_text(names, id, known))
    };
    if let (Some(own), Some(id)) = (&own, number(&flow.matches, Field::ConjId)) {
        let is_new = if id % 2 == 1 { " (new connections)" } else { " (known connections)" };
        return said(
            "admitted",
            format!("{direction} of {own}: both clauses of {} hold: admitted{is_new}", name(id)),
        );
    }
    let clauses = clauses(&flow.actions);
    let (_, clause) = clauses.first()?;
    let of: Vec<String> = clauses.iter().map(|(id, _)| name(*id)).collect();
    let of = of.join(", ");
    let which = connections(flow, " (known connections)", " (new connections)");
    let way = if direction == Direction::Egress { "to" } else { "from" };
    match (own, clause) {
        (Some(own), 2) => said(
            "service",
            format!("{direction} rule of {own}: {} {way} {of}{which}", Wanted::of(&flow.matches).text()),
        ),
        (None, 1) => {
            let address = words::member(&flow.matches);
            let vlan = small(&flow.matches, Field::Reg(6))?;
            said("member", format!("{address} on VLAN {vlan} is a member of {of}{which}"))
        }
        _ => None,
    }
}

/// What is left when no rule took it: known connections, and what is dropped.
fn others(flow: &Flow, direction: Direction, own: Option<String>) -> Said {
    let has = |value, mask| has_bits(&flow.matches, Field::CtState, value, mask);
    let way = if direction == Direction::Egress { "sent by" } else { "to" };
    match (flow.priority, own) {
        (50, None) if has(CT_INV | CT_TRK, CT_INV | CT_TRK) && goes_to(flow, DROPPED) => {
            said("invalid", "packets that conntrack calls invalid: dropped")
        }
        (50, Some(own)) if goes_to(flow, DROPPED) && number(&flow.matches, Field::CtMark) == Some(1) => {
            said("revoked", format!("connections {way} {own} that lost their rule: dropped"))
        }
        (50, Some(own)) if has(CT_EST | CT_RPL, CT_EST | CT_RPL) => {
            said("replies", format!("replies {way} {own} of connections that were admitted pass"))
        }
        (50, Some(own)) if has(CT_REL, CT_REL) => {
            said("related", format!("packets {way} {own} that are related to an admitted connection pass"))
        }
        (40, Some(own)) if goes_to(flow, DROPPED) => {
            said("no_rule", format!("new connections {way} {own} that no {direction} rule admits: dropped"))
        }
        (40, Some(own)) if loads(&flow.actions, Field::CtMark) == Some(1) => said(
            "revoke",
            format!(
                "{} connections {way} {own} that no {direction} rule admits any more: marked as revoked",
                packets(&flow.matches)
            ),
        ),
        _ => None,
    }
}

fn accept_or_ingress(flow: &Flow, names: &Names, own: Option<String>) -> Said {
    match (flow.priority, own) {
        (100, None) if goes_to(flow, 81) => {
            let to = loads(&flow.actions, Field::Reg(5)).and_then(|port| u16::try_from(port).ok())?;
            let vlan = small(&flow.matches, Field::Reg(6))?;
            let mac = words::mac(&flow.matches, Field::EthDst)?;
            said(
                "to_port",
                format!(
                    "VLAN {vlan}, to MAC {mac}: to {} on this host, whose ingress rules judge",
                    port(names, to)
                ),
            )
        }
        (90, Some(own)) => said(
            "commit",
            format!("new {} connections of {own} that its rules admitted: committed", packets(&flow.matches)),
        ),
        (80, Some(own)) if goes_to(flow, ACCEPTED) => {
            said("accepted", format!("what {own} sends, once admitted, to whoever is not on this host"))
        }
        _ => None,
    }
}

fn last(flow: &Flow, names: &Names) -> Said {
    let to = outputs(&flow.actions).first().map(|to| port(names, *to));
    match (flow.table, flow.priority, to) {
        (91, 1, None) if goes_to(flow, ACCEPTED) => {
            said("accepted", "new connections that egress rules admitted (for others to count or log)")
        }
        (92, 0, None) if flow.actions.is_empty() => {
            said("accepted", "new connections that ingress rules admitted (for others to count or log)")
        }
        (93, 0, None) if flow.actions.is_empty() => {
            said("dropped", "whatever the firewall drops (for others to count or log)")
        }
        (94, 1, None) if matches!(flow.actions[..], [Action::Output(PortNo::NORMAL)]) => {
            said("normal", "accepted frames go on by learnt MACs")
        }
        (94, 12, Some(to)) => {
            said("direct", format!("accepted {} go straight to {to}", packets(&flow.matches)))
        }
        (94, 10, Some(to)) => {
            said("direct", format!("accepted {} leave the host by {to}", packets(&flow.matches)))
        }
        _ => None,
    }
}
