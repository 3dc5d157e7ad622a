//! Who may reach whom with one service, judged by the evaluator: the sender's egress and the receiver's ingress.
//!
//! A group is judged by a few of its ports: first of each that carries another set of groups. How many that were is said.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use explain::question::{Content, PacketState, Question};
use explain::words::group_name;
use policy::evaluator::{Evaluator, Settings, Verdict};
use policy::{Direction, Ethertype, Policy, Port};
use serde::{Deserialize, Serialize};

use super::found::{is_group, is_port};
use crate::explain::PacketOptions;

/// So many rows and columns at most.
const SIDE: usize = 64;
/// So many ports of a group are judged.
const REPRESENTATIVES: usize = 4;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatrixQuery {
    /// What stands for rows and columns.
    #[serde(default)]
    by: By,
    /// What senders are searched for by.
    #[serde(default)]
    from: String,
    /// The same of receivers.
    #[serde(default)]
    to: String,
    proto: String,
    dport: Option<u16>,
    /// The addresses that are used.
    #[serde(default)]
    family: Family,
    /// An address that is nobody's.
    outside: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    #[default]
    Groups,
    Ports,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Family {
    #[default]
    Ipv4,
    Ipv6,
}

/// What is answered.
#[derive(Serialize)]
pub(super) struct Matrix {
    from: Vec<End>,
    to: Vec<End>,
    /// By sender, then by receiver.
    cells: Vec<Vec<Cell>>,
    /// Senders and receivers that were found and have no room.
    left_out: [usize; 2],
}

/// A sender or a receiver.
#[derive(Serialize)]
struct End {
    kind: &'static str,
    id: String,
    name: String,
    /// Its ports that have an address of the family.
    ports: usize,
    #[serde(skip)]
    judged: Vec<Place>,
}

/// An address, and whose it is.
#[derive(Clone)]
struct Place {
    ip: IpAddr,
    port: Option<Arc<Port>>,
}

/// Whether the one reaches the other.
#[derive(Default, Serialize)]
struct Cell {
    /// Pairs that were judged.
    judged: usize,
    /// Of these, how many may.
    allowed: usize,
    /// The first that may not, or, where all may, the first.
    example: Option<Example>,
}

#[derive(Serialize)]
struct Example {
    from: String,
    to: String,
    allowed: bool,
    /// At which end it is dropped.
    direction: Option<String>,
    /// Why it is dropped, or on what ground it passes, in the words of the law.
    reason: String,
}

/// Judges all pairs.
///
/// # Errors
/// There is no such protocol, or it has no ports.
pub(super) fn matrix(policy: &Policy, settings: Settings, query: &MatrixQuery) -> Result<Matrix, String> {
    let ethertype = if query.family == Family::Ipv4 { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
    let packet = PacketOptions { proto: query.proto.clone(), dport: query.dport, ..PacketOptions::default() };
    let content = packet.content(ethertype).map_err(|reason| reason.to_string())?;
    let is_ipv4 = query.family == Family::Ipv4;
    if query.outside.is_some_and(|outside| outside.is_ipv4() != is_ipv4) {
        return Err(format!("the address outside is not of {ethertype}"));
    }
    let evaluator = Evaluator::new(policy, settings);
    let (from, more_from) = ends(policy, query, &query.from, is_ipv4);
    let (to, more_to) = ends(policy, query, &query.to, is_ipv4);
    let row = |from: &End| to.iter().map(|to| cell(&evaluator, content, from, to)).collect();
    let cells = from.iter().map(row).collect();
    Ok(Matrix { from, to, cells, left_out: [more_from, more_to] })
}

/// What was searched for, as far as there is room, and how many more there are.
fn ends(policy: &Policy, query: &MatrixQuery, search: &str, is_ipv4: bool) -> (Vec<End>, usize) {
    let outside = query.outside.filter(|_| search.trim().is_empty()).map(|ip| End {
        kind: "outside",
        id: ip.to_string(),
        name: ip.to_string(),
        ports: 0,
        judged: vec![Place { ip, port: None }],
    });
    let room = SIDE - usize::from(outside.is_some());
    let (found, count): (Vec<End>, usize) = match query.by {
        By::Groups => {
            let mut found: Vec<_> = policy.groups.values().filter(|group| is_group(search, group)).collect();
            found.sort_by_key(|group| (group_name(policy, &group.id), &group.id));
            let shown = found.iter().take(room);
            (shown.map(|group| group_end(policy, group, is_ipv4)).collect(), found.len())
        }
        By::Ports => {
            let found: Vec<_> = policy.ports.values().filter(|port| is_port(search, policy, port)).collect();
            let end = |port: &&Arc<Port>| {
                let judged: Vec<Place> = place(port, is_ipv4).into_iter().collect();
                let (id, name) = (port.id.to_string(), port.id.to_string());
                End { kind: "port", id, name, ports: judged.len(), judged }
            };
            (found.iter().take(room).map(end).collect(), found.len())
        }
    };
    let left_out = count - found.len();
    (outside.into_iter().chain(found).collect(), left_out)
}

fn group_end(policy: &Policy, group: &policy::SecurityGroup, is_ipv4: bool) -> End {
    let carries = |port: &&Arc<Port>| port.security_groups.contains(&group.id);
    let places: Vec<Place> =
        policy.ports.values().filter(carries).filter_map(|port| place(port, is_ipv4)).collect();
    let mut seen = BTreeSet::new();
    let (mut judged, others): (Vec<Place>, Vec<Place>) = places
        .iter()
        .cloned()
        .partition(|place| place.port.as_ref().is_some_and(|port| seen.insert(port.security_groups.clone())));
    judged.extend(others);
    judged.truncate(REPRESENTATIVES);
    End {
        kind: "group",
        id: group.id.to_string(),
        name: group_name(policy, &group.id).to_owned(),
        ports: places.len(),
        judged,
    }
}

/// The first address of the family.
fn place(port: &Arc<Port>, is_ipv4: bool) -> Option<Place> {
    let ip = port.fixed_ips.iter().copied().find(|ip| ip.is_ipv4() == is_ipv4)?;
    Some(Place { ip, port: Some(Arc::clone(port)) })
}

fn cell(evaluator: &Evaluator, content: Content, from: &End, to: &End) -> Cell {
    let mut cell = Cell::default();
    for sender in &from.judged {
        for receiver in &to.judged {
            let is_itself = match (&sender.port, &receiver.port) {
                (Some(sender), Some(receiver)) => sender.id == receiver.id,
                (None, None) => true,
                _ => false,
            };
            let Some(example) = (!is_itself).then(|| judge(evaluator, content, sender, receiver)).flatten()
            else {
                continue;
            };
            cell.judged += 1;
            cell.allowed += usize::from(example.allowed);
            let is_better = cell.example.as_ref().is_none_or(|known| known.allowed && !example.allowed);
            if is_better {
                cell.example = Some(example);
            }
        }
    }
    cell
}

/// What becomes of the first packet of a connection; nothing where it cannot be asked.
fn judge(evaluator: &Evaluator, content: Content, sender: &Place, receiver: &Place) -> Option<Example> {
    let of =
        |place: &Place| place.port.as_ref().map_or_else(|| place.ip.to_string(), |port| port.id.to_string());
    let (from, to) = (of(sender), of(receiver));
    let mut ground = String::new();
    for (near, far, direction) in
        [(sender, receiver, Direction::Egress), (receiver, sender, Direction::Ingress)]
    {
        let Some(port) = &near.port else { continue };
        let question = Question {
            port: port.id.clone(),
            direction,
            peer: far.ip,
            peer_mac: far.port.as_ref().map(|port| port.mac),
            own: Some(near.ip),
            own_mac: None,
            vlan: None,
            content,
            state: PacketState::New,
        };
        let (frame, tracking) = question.frame(evaluator.policy()).ok()?;
        match evaluator.judge(&port.id, direction, &frame, &tracking).verdict {
            Verdict::Accept(basis) => ground = basis.to_string(),
            Verdict::Drop(reason) => {
                let direction = Some(direction.to_string());
                return Some(Example { from, to, allowed: false, direction, reason: reason.to_string() });
            }
        }
    }
    Some(Example { from, to, allowed: true, direction: None, reason: ground })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const POLICY: &str = r#"
security_groups:
- {id: sg-web, name: web, security_group_rules: [
    {id: out, direction: egress, ethertype: IPv4},
    {id: http, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80}]}
- {id: sg-db, name: database, security_group_rules: [
    {id: sql, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 5432, port_range_max: 5432,
     remote_group_id: sg-web}]}
- {id: sg-ssh, name: ssh, security_group_rules: [
    {id: ssh, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 22, port_range_max: 22}]}
ports:
- {id: w-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-web]}
- {id: w-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [sg-web, sg-ssh]}
- {id: d-1, network_id: n, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [sg-db]}
"#;

    fn parsed(text: &str) -> Policy {
        let parsed = policy::document::parse(&[("policy.yaml", text)], None);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        parsed.policy
    }

    fn query(words: &str) -> MatrixQuery {
        let uri = format!("http://localhost/?{words}").parse().unwrap();
        axum::extract::Query::<MatrixQuery>::try_from_uri(&uri).unwrap().0
    }

    fn asked(words: &str) -> Matrix {
        matrix(&parsed(POLICY), Settings::default(), &query(words)).unwrap()
    }

    /// `web>database 2/2 rule`, of each cell.
    fn cells(matrix: &Matrix) -> Vec<String> {
        let mut cells = Vec::new();
        for (from, row) in matrix.from.iter().zip(&matrix.cells) {
            for (to, cell) in matrix.to.iter().zip(row) {
                let example = cell.example.as_ref();
                let reason = example.map_or(String::new(), |example| {
                    let end =
                        example.direction.as_deref().map(|end| format!(" at {end}")).unwrap_or_default();
                    format!(" {}{end}", example.reason)
                });
                cells.push(format!("{}>{} {}/{}{reason}", from.name, to.name, cell.allowed, cell.judged));
            }
        }
        cells
    }

    #[test]
    fn groups_are_judged_by_their_ports() {
        let sql = asked("proto=tcp&dport=5432&outside=203.0.113.1");
        assert_eq!(
            cells(&sql),
            [
                "203.0.113.1>203.0.113.1 0/0",
                "203.0.113.1>database 0/1 no-rule at ingress",
                "203.0.113.1>ssh 0/1 no-rule at ingress",
                "203.0.113.1>web 0/2 no-rule at ingress",
                "database>203.0.113.1 0/1 no-rule at egress",
                "database>database 0/0",
                "database>ssh 0/1 no-rule at egress",
                "database>web 0/2 no-rule at egress",
                "ssh>203.0.113.1 1/1 rule",
                "ssh>database 1/1 rule",
                "ssh>ssh 0/0",
                "ssh>web 0/1 no-rule at ingress",
                "web>203.0.113.1 2/2 rule",
                "web>database 2/2 rule",
                "web>ssh 0/1 no-rule at ingress",
                "web>web 0/2 no-rule at ingress",
            ]
        );
        // Only one of the two web servers carries the group that admits it.
        let ssh = asked("proto=tcp&dport=22&from=web&to=web");
        assert_eq!(cells(&ssh), ["web>web 1/2 no-rule at ingress"]);
    }

    #[test]
    fn ports_are_judged_one_by_one_and_found_by_what_they_carry() {
        let ports = asked("by=ports&proto=tcp&dport=80&from=10.0.0.3&to=web");
        assert_eq!(cells(&ports), ["d-1>w-1 0/1 no-rule at egress", "d-1>w-2 0/1 no-rule at egress"]);
        let ipv6 = asked("by=ports&proto=tcp&dport=80&from=w-1&family=ipv6");
        assert!(cells(&ipv6).iter().all(|cell| cell.ends_with(" 0/0")), "nobody has an IPv6 address");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |words: &str| matrix(&parsed(POLICY), Settings::default(), &query(words)).err();
        assert!(refused("proto=tcp").unwrap().contains("destination port"));
        assert!(refused("proto=tpc&dport=1").unwrap().contains("unknown protocol"));
        assert!(refused("proto=tcp&dport=1&outside=2001:db8::1").unwrap().contains("not of IPv4"));
    }

    #[test]
    fn a_large_cloud_is_bounded_and_says_what_is_left_out() {
        let mut text = "security_groups:\n".to_owned();
        for number in 0..200 {
            _ = writeln!(text, "- {{id: g{number:03}, security_group_rules: []}}");
        }
        let large =
            matrix(&parsed(&text), Settings::default(), &query("proto=tcp&dport=1&outside=192.0.2.1&to=g1"));
        let large = large.unwrap();
        assert_eq!((large.from.len(), large.to.len(), large.left_out), (64, 64, [137, 36]));
    }
}
