//! The same as JSON: docs/flows-command.md says what each field is.

use explain::decode::{Decoded, Decoding, Names, Subject, Term};
use policy::Direction;
use serde_json::{Value, json};

use super::source::Taken;
use super::view::{Counts, chosen};

pub(super) fn of(taken: &Taken, decoding: &Decoding, subject: Option<&Subject>) -> Value {
    let names = &decoding.names;
    let flows = chosen(decoding, subject);
    let counts = Counts::of(flows.iter().copied());
    let unread = taken.dump.unread.iter();
    let unread = unread.map(|line| json!({"line": line.number, "text": line.text, "reason": line.reason}));
    json!({
        "source": taken.place,
        "subject": subject.map(|subject| subject_json(subject, names)),
        "counts": {
            "all": decoding.flows.len(),
            "flows": counts.flows,
            "named": counts.named,
            "sgflow": counts.sgflow,
            "neutron": counts.neutron,
            "openvswitch": counts.openvswitch,
            "other": counts.other,
            "unread": taken.dump.unread.len(),
        },
        "flows": flows.iter().map(|flow| flow_json(flow, names)).collect::<Vec<_>>(),
        "ports": names.ports.keys().map(|ofport| port_json(*ofport, names)).collect::<Vec<_>>(),
        "sets": sets_json(names),
        "remotes": remotes_json(names),
        "generations": generations_json(names),
        "conjunctions": conjunctions_json(names),
        "unread": unread.collect::<Vec<_>>(),
    })
}

fn subject_json(subject: &Subject, names: &Names) -> Value {
    match subject {
        Subject::Port(ofport) => json!({"kind": "port", "port": reference(*ofport, names)}),
        Subject::Group(id) => json!({"kind": "group", "id": id, "name": names.group(id)}),
        Subject::Rule(id) => json!({"kind": "rule", "id": id}),
    }
}

fn flow_json(flow: &Decoded, names: &Names) -> Value {
    let counters = flow.counters;
    let cookie = flow.cookie.map(|cookie| {
        let (kind, object) = match &flow.cookie_means {
            Some((kind, object)) => (Some(*kind), object.clone()),
            None => (None, None),
        };
        json!({"value": format!("{cookie:#x}"), "kind": kind, "object": object})
    });
    let rules = flow.concerns.rules.iter().map(|rule| json!({"id": rule.id, "text": rule.text}));
    json!({
        "line": flow.line,
        "writer": flow.writer.name(),
        "table": flow.table,
        "table_name": flow.table_name,
        "slot": flow.slot,
        "priority": flow.priority,
        "purpose": flow.purpose,
        "named": flow.is_named(),
        "unnamed": flow.unnamed,
        "cookie": cookie,
        "packets": counters.map(|counters| counters.packets),
        "bytes": counters.map(|counters| counters.bytes),
        "seconds": counters.map(|counters| counters.duration_s),
        "match": terms_json(&flow.matches),
        "actions": terms_json(&flow.actions),
        "ports": flow.concerns.ports.iter().map(|ofport| reference(*ofport, names)).collect::<Vec<_>>(),
        "groups": flow.concerns.groups,
        "rules": rules.collect::<Vec<_>>(),
        "text": flow.text,
    })
}

fn terms_json(terms: &[Term]) -> Value {
    terms.iter().map(|term| json!({"text": term.text, "means": term.means})).collect()
}

/// What a port is known by.
fn reference(ofport: u16, names: &Names) -> Value {
    let known = names.ports.get(&ofport);
    let number = Some(ofport).filter(|_| known.is_none_or(|port| !port.has_no_number));
    json!({
        "ofport": number,
        "id": known.and_then(|port| port.id.clone()),
        "interface": known.and_then(|port| port.interface.clone()),
    })
}

fn port_json(ofport: u16, names: &Names) -> Value {
    let mut value = reference(ofport, names);
    if let Some(port) = names.ports.get(&ofport) {
        value["macs"] = json!(port.macs);
        value["addresses"] = json!(port.addresses);
        value["vlan"] = json!(port.vlan);
        value["set"] = json!(port.set);
        value["zone"] = json!(port.zone);
        value["groups"] = json!(port.groups);
        value["trusted"] = json!(port.is_trusted);
        value["network"] = json!(port.leads_to_network);
    }
    value
}

fn sets_json(names: &Names) -> Value {
    let set = |(number, set): (&u32, &explain::decode::SetName)| json!({"number": number, "groups": set.groups, "stateless": set.stateless});
    names.sets.iter().map(set).collect()
}

fn remotes_json(names: &Names) -> Value {
    let remote = |(number, remote): (&u32, &explain::decode::RemoteName)| json!({"number": number, "kind": kind(remote.is_address_group), "group": remote.group});
    names.remotes.iter().map(remote).collect()
}

fn kind(is_address_group: bool) -> &'static str {
    if is_address_group { "address_group" } else { "security_group" }
}

fn generations_json(names: &Names) -> Value {
    let of = |pairs: &std::collections::BTreeSet<(Direction, u32)>| -> Value {
        pairs.iter().map(|(direction, set)| json!({"direction": direction.to_string(), "set": set})).collect()
    };
    let generation = |(number, name): (&u32, &explain::decode::GenerationName)| json!({"number": number, "stamped_by": of(&name.stamps), "in_force_for": name.in_force});
    names.generations.iter().map(generation).collect()
}

fn conjunctions_json(names: &Names) -> Value {
    let conjunction = |(base, name): (&u32, &explain::decode::Conjunction)| {
        let remote = name.remote.as_ref();
        json!({
            "first": base,
            "direction": name.direction.map(|direction| direction.to_string()),
            "ethertype": name.ethertype.map(|ethertype| ethertype.to_string()),
            "members": name.members.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "services": name.services,
            "ports": name.ports.iter().map(|ofport| reference(*ofport, names)).collect::<Vec<_>>(),
            "remote": remote.map(|remote| json!({"kind": kind(remote.is_address_group), "group": remote.group})),
        })
    };
    names.conjunctions.iter().map(conjunction).collect()
}
