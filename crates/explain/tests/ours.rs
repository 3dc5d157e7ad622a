//! Flows of ours: every line is named.

use std::collections::BTreeSet;

use explain::decode::{Decoding, Dump, Sources, Writer, decode, subjects};
use pipeline::{Config, FlowOp, GenerationPool, Hook, Known, NetworkPort, OfPort, Renderer};
use policy::document;

/// A host with all kinds of rules, as `sgflow render` prints it (crates/sgflow/tests/demo_flows.rs).
const DEMO: &str = include_str!("../../../docs/examples/demo.flows");
const POLICY: &str = include_str!("../../../docs/examples/demo.yaml");

fn read(text: &str) -> Decoding {
    let dump = Dump::read(text);
    assert_eq!(dump.unread, []);
    decode(&dump.flows, Sources::default())
}

fn one(decoding: &Decoding, line: &str) -> explain::decode::Decoded {
    let found = decoding.flows.iter().find(|flow| flow.text.contains(line));
    found.unwrap_or_else(|| panic!("no line {line}")).clone()
}

#[test]
fn every_line_is_named() {
    let decoding = read(DEMO);
    assert!(decoding.flows.len() >= 400);
    for flow in &decoding.flows {
        assert!(
            flow.is_named() && flow.writer == Writer::Sgflow && flow.slot.is_some(),
            "{} {:?}",
            flow.text,
            flow.unnamed
        );
        assert!(flow.cookie_means.is_some(), "{}", flow.text);
    }
}

/// The lines that docs/pipeline.md follows a packet along, each with what is said of it there.
#[test]
fn lines_say_what_the_reading_guide_says_of_them() {
    let decoding = read(DEMO);
    let said = |line: &str| one(&decoding, line).purpose.expect("a purpose");
    assert_eq!(
        said("table=100, priority=100,in_port=5 "),
        "web-1 sends, on VLAN 10: filtered as set 4 (sg-ssh, sg-web)"
    );
    assert_eq!(said("table=101, priority=50,in_port=5,"), "web-1 may send with MAC fa:16:3e:00:10:11");
    assert_eq!(
        said("table=123, priority=70,ct_state=-inv+trk,ct_nw_proto=6,ct_tp_dst=5432,ip,reg7=0x3"),
        "ingress rule of set 3 (sg-database, sg-ssh): tcp/5432 from remote 2 (sg-web)"
    );
    assert_eq!(
        said("table=123, priority=70,ct_state=-inv+trk,ct_nw_src=10.0.0.11,ip"),
        "ingress: 10.0.0.11 is a member of remote 1 (sg-batch), remote 2 (sg-web)"
    );
    assert_eq!(
        said("table=123, priority=0 "),
        "new connections that no ingress rule admits: dropped as no-rule"
    );
    assert_eq!(said("table=127"), "to the local port concerned");
    let mark = one(&decoding, "table=105, priority=95,ct_state=-inv+trk,ct_mark=0xb,reg7=0x4");
    let words: Vec<&str> = mark.matches.iter().map(explain::decode::Term::words).collect();
    assert_eq!(
        words,
        [
            "ct_state=-inv+trk",
            "generation 11 (egress of set 4 (sg-ssh, sg-web), in force)",
            "set 4 (sg-ssh, sg-web)"
        ]
    );
}

/// Without table `names`, as a dump that was cut, nothing is made up.
#[test]
fn numbers_that_nothing_names_are_told() {
    let cut: Vec<&str> = DEMO.lines().filter(|line| !line.contains("table=129")).collect();
    let decoding = read(&cut.join("\n"));
    let unnamed: BTreeSet<&str> =
        decoding.flows.iter().flat_map(|flow| &flow.unnamed).map(String::as_str).collect();
    assert!(unnamed.contains("set 3") && unnamed.contains("remote 2"), "{unnamed:?}");
    let rule = one(&decoding, "table=123, priority=70,conj_id=2");
    assert!(!rule.is_named());
}

#[test]
fn a_dump_without_cookies_is_taken_by_its_tables() {
    let bare: String = DEMO
        .lines()
        .map(|line| line.split_once(", ").map_or(line, |(_, rest)| rest))
        .map(|line| {
            format!("{}\n", line.replacen("table=", "table_id=", 1).replace(" actions=", ",actions="))
        })
        .collect();
    let decoding = read(&bare);
    assert!(
        decoding
            .flows
            .iter()
            .all(|flow| flow.writer == Writer::Sgflow && flow.is_named() && flow.cookie.is_none())
    );
}

#[test]
fn rules_are_those_of_the_policy() {
    let parsed = document::parse(&[("demo.yaml", POLICY)], None);
    assert!(parsed.diagnostics.is_empty());
    let dump = Dump::read(DEMO);
    let decoding = decode(&dump.flows, Sources { policy: Some(&parsed.policy), ..Sources::default() });
    let rules = decoding.rules();
    for rule in parsed.policy.groups.values().flat_map(|group| &group.rules) {
        assert!(
            rules.iter().any(|known| known.id.as_deref() == Some(rule.id.as_str())),
            "{} is of no flow: {rules:#?}",
            rule.id
        );
    }
    let sql =
        one(&decoding, "table=123, priority=70,ct_state=-inv+trk,ct_nw_proto=6,ct_tp_dst=5432,ip,reg7=0x3");
    let ids: Vec<_> = sql.concerns.rules.iter().filter_map(|rule| rule.id.as_deref()).collect();
    assert_eq!(ids, ["db-sql-4"]);
}

#[test]
fn what_is_asked_for_is_found_in_full_before_what_begins_so() {
    let decoding = read(DEMO);
    let find = |word: &str| {
        let found = subjects(word, &decoding.names, &decoding.rules());
        found.iter().map(|subject| subject.words(&decoding.names)).collect::<Vec<_>>()
    };
    assert_eq!(find("web-1"), ["port web-1"]);
    assert_eq!(find("5"), ["port web-1"]);
    assert_eq!(find("sg-data"), ["group sg-database"]);
    assert_eq!(find("web"), ["port web-1", "port web-2"]);
    assert_eq!(find("nonsense"), [""; 0]);
    assert_eq!(find(""), [""; 0]);
}

/// A packet of web-1 meets no flow that is another port's alone.
#[test]
fn a_port_is_concerned_by_its_own_and_its_sets_flows() {
    let decoding = read(DEMO);
    let found = subjects("web-1", &decoding.names, &decoding.rules());
    let subject = found.first().expect("a port");
    let concerned: Vec<&str> = decoding
        .flows
        .iter()
        .filter(|flow| flow.concerns.include(subject))
        .map(|flow| flow.text.as_str())
        .collect();
    for has in ["in_port=5 ", "table=107, priority=100,ip,reg7=0x4", "dl_dst=fa:16:3e:00:10:11"] {
        assert!(concerned.iter().any(|text| text.contains(has)), "{has}");
    }
    for not in ["in_port=4,", "table=107, priority=100,ip,reg7=0x3", "table=103, priority=0"] {
        assert!(concerned.iter().all(|text| !text.contains(not)), "{not}");
    }
}

/// While connections of Neutron's driver are taken over, and beside its agent.
#[test]
fn flows_of_a_take_over_and_of_the_driver_in_neutrons_agent_are_named() {
    let config = Config { hook: Hook::Transient, ..Config::default() };
    let mut renderer = Renderer::new(&config, Known::default());
    renderer.take_over(true);
    renderer.network_port(OfPort(9), Some(NetworkPort::Trunk));
    let batch = renderer.commit(&mut GenerationPool::new(1, u32::MAX)).expect("generations");
    let flows = batch.ops.into_iter().filter_map(|op| match op {
        FlowOp::Set(flow) => Some(flow.to_string()),
        FlowOp::Remove(_) => None,
    });
    let of_the_driver = ["cookie=0x41a7001d91f5cfde, table=60, priority=3 actions=resubmit(,100)".to_owned()];
    let text: Vec<String> = flows.chain(of_the_driver).collect();
    let takeovers =
        text.iter().filter(|line| line.contains("table=109,") || line.contains("table=131,")).count();
    assert!(takeovers > 8, "{takeovers}");
    let decoding = read(&text.join("\n"));
    for flow in &decoding.flows {
        assert!(
            flow.is_named() && flow.writer == Writer::Sgflow,
            "{} {:?} {:?}",
            flow.text,
            flow.purpose,
            flow.unnamed
        );
    }
    let said = |line: &str| one(&decoding, line).purpose.expect("a purpose");
    assert_eq!(
        said("table=60, priority=3 "),
        "frames that no flow of Neutron's takes enter the firewall here"
    );
    let tagged = said("in_port=9,vlan_tci=0x1000/0x1000");
    assert_eq!(tagged, "tagged frames from the network, by network port 9: on the VLAN of their tag");
}
