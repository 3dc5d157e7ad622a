//! The fifty packets of `nearest.txt`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of a test that cannot go on")]

use std::fmt::Write as _;

use explain::answer::answer;
use explain::question::{Content, PacketState, Question};
use policy::document::{parse, protocol_number};
use policy::evaluator::{Detail, Evaluator, Settings};
use policy::{Direction, Ethertype, GroupId, PortProtocol, rule_text};
use serde_json::{Value, json};

const CASES: &str = include_str!("nearest.txt");

#[test]
fn the_nearest_rule_is_the_one_that_a_person_would_name() {
    let (mut rules, mut question, mut count, mut wrong) = (Vec::new(), None, 0, String::new());
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(text) = line.strip_prefix("? ") {
            question = Some(text);
        } else if let Some(expected) = line.strip_prefix("= ") {
            let asked = question.take().unwrap();
            let found = nearest(&rules, asked);
            if found != expected {
                writeln!(wrong, "{asked}\n  expected {expected}\n  found    {found}").unwrap();
            }
            rules.clear();
            count += 1;
        } else {
            rules.push(line);
        }
    }
    assert_eq!(count, 50);
    assert!(wrong.is_empty(), "{wrong}");
}

fn nearest(rules: &[&str], question: &str) -> String {
    let document = document(rules).to_string();
    let parsed = parse(&[("policy.json", &document)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    let evaluator = Evaluator::new(&parsed.policy, Settings::default());
    let answer = answer(&evaluator, &asked(question)).unwrap();
    assert!(!answer.accepted, "{question}: {answer}");
    answer.misses[0].to_string()
}

fn document(rules: &[&str]) -> Value {
    let own: GroupId = "sg-web".into();
    let rule = |text: &&str| {
        let (id, words) = text.split_once(' ').unwrap();
        rule_text::document(id, words, &own).unwrap()
    };
    let rules: Vec<Value> = rules.iter().map(rule).collect();
    let group = |id: &str, name: &str| json!({"id": id, "name": name});
    let port = |id: &str, groups: &[&str], last: u8, ips: &[&str]| {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip_address": ip})).collect();
        json!({
            "id": id, "network_id": "n", "mac_address": format!("fa:16:3e:00:00:{last:02x}"),
            "security_groups": groups, "fixed_ips": ips,
        })
    };
    let mut router = port("p-router", &["sg-routers"], 0x77, &[]);
    router["allowed_address_pairs"] = json!([{"ip_address": "0.0.0.0/0"}]);
    json!({
        "security_groups": [
            {"id": "sg-web", "name": "web", "security_group_rules": rules},
            group("sg-apps", "apps"), group("sg-empty", "empty"), group("sg-routers", "routers"),
        ],
        "address_groups": [
            {"id": "ag-offices", "name": "offices", "addresses": ["192.0.2.0/24", "2001:db8::/32"]},
            {"id": "ag-old", "name": "old-offices", "addresses": ["198.51.100.0/24"]},
        ],
        "ports": [
            port("p-1", &["sg-web"], 1, &["10.0.0.5", "fd00::5"]),
            port("p-2", &["sg-web"], 2, &["10.0.0.6"]),
            port("p-3", &["sg-apps"], 3, &["10.1.0.1", "fd01::1"]),
            port("p-4", &["sg-apps"], 4, &["10.1.0.2"]),
            router,
        ],
    })
}

/// `from 10.0.0.9 tcp 33000 source 443 reply`.
fn asked(text: &str) -> Question {
    let mut words = text.split(' ');
    let direction = match words.next().unwrap() {
        "from" => Direction::Ingress,
        _ => Direction::Egress,
    };
    let peer: std::net::IpAddr = words.next().unwrap().parse().unwrap();
    let ethertype = if peer.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
    let protocol = protocol_number(words.next().unwrap(), ethertype).unwrap();
    let (mut number, mut source, mut state) = (None, 45000, PacketState::New);
    while let Some(word) = words.next() {
        match word {
            "source" => source = words.next().unwrap().parse().unwrap(),
            "reply" => state = PacketState::Reply,
            "related" => state = PacketState::Related,
            "established" => state = PacketState::Established,
            word => number = Some(word),
        }
    }
    let detail = match number {
        Some(number) if PortProtocol::from_number(protocol).is_some() => {
            Detail::Ports { src: source, dst: number.parse().unwrap() }
        }
        Some(number) => {
            let (icmp_type, code) = number.split_once('/').unwrap_or((number, "0"));
            Detail::Icmp { icmp_type: icmp_type.parse().unwrap(), code: code.parse().unwrap() }
        }
        None => Detail::None,
    };
    let content = Content::Ip { protocol, detail, nd_target: None };
    Question {
        port: "p-1".into(),
        direction,
        peer,
        peer_mac: None,
        own: None,
        own_mac: None,
        vlan: None,
        content,
        state,
    }
}

#[test]
fn a_stateless_group_is_said_to_be_one() {
    let mut document = document(&["r1 egress IPv4"]);
    document["security_groups"][0]["stateful"] = false.into();
    let parsed = parse(&[("policy.json", &document.to_string())], None);
    let evaluator = Evaluator::new(&parsed.policy, Settings::default());
    let answer = answer(&evaluator, &asked("from 10.9.9.9 tcp 40000 source 443 reply")).unwrap();
    assert_eq!(
        answer.why,
        "its group web has no ingress rule, and is stateless: an answer needs a rule of its own"
    );
}
