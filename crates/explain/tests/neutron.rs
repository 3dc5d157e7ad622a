//! Dumps of Neutron's own driver and agent (tests/dumps/README.md) are named, and say what their writers meant.

use std::collections::BTreeSet;

use std::net::IpAddr;

use explain::answer::answer;
use explain::decode::{Decoding, Dump, Sources, Subject, Writer, decode, subjects};
use explain::path::neutron;
use explain::question::{Content, PacketState, Question};
use explain::readable::Readable;
use policy::evaluator::{Detail, Evaluator, Settings};
use policy::{Direction, MacAddr, Policy, document};
use verify::Tables;
use verify::symbolic::LocalPort;

const NAMES: &str = include_str!("dumps/driver-names.txt");
const NO_STATS: &str = include_str!("dumps/driver-no-stats.txt");
const OPENFLOW10: &str = include_str!("dumps/driver-openflow10.txt");
const APPCTL: &str = include_str!("dumps/driver-appctl.txt");
const AGENT: &str = include_str!("dumps/agent-names.txt");
const POLICY: &str = include_str!("dumps/driver-policy.json");

/// What must be named of a dump of Neutron's.
const PERCENT: usize = 95;

fn read(text: &str, policy: Option<&Policy>) -> Decoding {
    let dump = Dump::read(text);
    assert_eq!(dump.unread, []);
    let lines = text.lines().filter(|line| line.contains("actions=")).count();
    assert_eq!(dump.flows.len(), lines, "no line is lost");
    decode(&dump.flows, Sources { policy, named: Some(&dump.interfaces), ..Sources::default() })
}

fn policy() -> Policy {
    let parsed = document::parse(&[("policy", POLICY)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

fn purposes(decoding: &Decoding, table: u8) -> Vec<&str> {
    let of_table = decoding.flows.iter().filter(|flow| flow.table == table);
    of_table.filter_map(|flow| flow.purpose.as_deref()).collect()
}

fn says(decoding: &Decoding, table: u8, wanted: &str) {
    let said = purposes(decoding, table);
    assert!(said.contains(&wanted), "{wanted}\n{said:#?}");
}

#[test]
fn lines_of_neutrons_dumps_are_named() {
    for (name, text) in [
        ("names", NAMES),
        ("no-stats", NO_STATS),
        ("openflow10", OPENFLOW10),
        ("appctl", APPCTL),
        ("agent", AGENT),
    ] {
        let decoding = read(text, None);
        let unnamed: Vec<_> = decoding.flows.iter().filter(|flow| !flow.is_named()).collect();
        let named = decoding.flows.len() - unnamed.len();
        assert!(
            named * 100 >= decoding.flows.len() * PERCENT,
            "{name}: {named} of {} are named; not so: {:#?}",
            decoding.flows.len(),
            unnamed.iter().map(|flow| (&flow.text, &flow.unnamed)).collect::<Vec<_>>()
        );
        let strangers = decoding.flows.iter().filter(|flow| flow.writer == Writer::Other).count();
        assert_eq!(strangers, 0, "{name}");
    }
}

/// The measure means something: what says nothing of its ports is not named.
#[test]
fn what_nothing_is_said_of_is_not_named() {
    let alone: String =
        NO_STATS.lines().filter(|line| line.contains("table=72")).collect::<Vec<_>>().join("\n");
    let decoding = read(&alone, None);
    let unnamed = decoding
        .flows
        .iter()
        .filter(|flow| flow.unnamed.iter().any(|what| what.starts_with("port ")))
        .count();
    let of_ports = decoding.flows.iter().filter(|flow| flow.text.contains("reg5=")).count();
    assert!(of_ports > 30);
    assert_eq!(unnamed, of_ports);
}

/// Each written down by hand, from what Neutron's code says that it does.
#[test]
fn flows_say_what_they_are_for() {
    let decoding = read(NAMES, None);
    says(&decoding, 60, "tap-a sends: its egress rules judge");
    says(&decoding, 60, "tap-d sends: without port security, nothing is judged");
    says(&decoding, 60, "VLAN 11, to MAC fa:16:3e:00:00:64: to tap-c, whose ingress rules judge");
    says(
        &decoding,
        71,
        "tap-a may send DHCP requests from 0.0.0.0 with MAC fa:16:3e:00:00:01, without rules",
    );
    says(&decoding, 71, "router advertisements of tap-b, a guest: dropped");
    says(
        &decoding,
        72,
        "IPv6 connections sent by tap-a that no egress rule admits any more: marked as revoked",
    );
    says(&decoding, 81, "tap-c receives DHCPv6 replies without rules");
    says(&decoding, 82, "ingress rule of tap-b: icmp type 8 code 0 from 10.0.0.0/24 (new connections)");
    says(&decoding, 82, "ingress rule of tap-b: gre from 192.0.2.0/24 (new connections)");
    says(&decoding, 82, "ingress rule of tap-c: tcp/80 over IPv6 from anybody (known connections)");
    says(&decoding, 93, "whatever the firewall drops (for others to count or log)");
}

#[test]
fn conjunctions_are_known_by_their_members_and_with_a_policy_by_their_group() {
    let alone = read(NAMES, None);
    let with_policy = read(NAMES, Some(&policy()));
    let remotes: BTreeSet<String> = with_policy
        .names
        .conjunctions
        .values()
        .filter_map(|known| known.remote.clone())
        .map(|remote| remote.group)
        .collect();
    assert_eq!(remotes, BTreeSet::from(["default", "nobody", "offices", "web"].map(str::to_owned)));
    let rule = |decoding: &Decoding| {
        let said = purposes(decoding, 82)
            .into_iter()
            .filter(|said| said.starts_with("ingress rule of tap-b: tcp/5432 from"));
        let said = said.map(|said| said.split_once('(').expect("who is in it").1.to_owned());
        said.collect::<BTreeSet<_>>()
    };
    assert_eq!(
        rule(&alone),
        BTreeSet::from(
            ["10.0.0.3 and 2 more) (known connections)", "10.0.0.3 and 2 more) (new connections)"]
                .map(str::to_owned)
        )
    );
    assert_eq!(
        rule(&with_policy),
        BTreeSet::from(["web) (known connections)", "web) (new connections)"].map(str::to_owned))
    );
}

#[test]
fn a_policy_tells_ids_groups_and_rules() {
    let policy = policy();
    let decoding = read(NAMES, Some(&policy));
    // Of a port of another host no flow tells, and of one without port security no address.
    let is_told = |port: &&std::sync::Arc<policy::Port>| {
        port.mac.to_string() != "fa:16:3e:00:00:05" && port.port_security_enabled
    };
    for port in policy.ports.values().filter(is_told) {
        let known = decoding.names.ports.values().find(|known| known.id.as_deref() == Some(port.id.as_str()));
        let known = known.unwrap_or_else(|| panic!("{} is not known", port.id));
        assert!(known.interface.as_ref().is_some_and(|name| name.starts_with("tap-")));
    }
    let rules = decoding.rules();
    let is_of = |group: &policy::SecurityGroup| ["default", "web", "database"].contains(&group.id.as_str());
    // Every rule that a port here has is one of which some flow is.
    for rule in policy.groups.values().filter(|group| is_of(group)).flat_map(|group| &group.rules) {
        assert!(
            rules.iter().any(|known| known.id.as_deref() == Some(rule.id.as_str())),
            "{} {rule:?}\n{rules:#?}",
            rule.id
        );
    }
    let ids: Vec<&String> = rules.iter().filter_map(|rule| rule.id.as_ref()).collect();
    assert_eq!(ids.len(), rules.len(), "and no flow is of a rule that the policy does not have: {rules:#?}");
}

#[test]
fn a_port_is_found_by_its_interface_and_concerned_by_its_members() {
    let decoding = read(NAMES, None);
    let found = subjects("tap-a", &decoding.names, &decoding.rules());
    assert_eq!(found, BTreeSet::from([Subject::Port(ofport(&decoding, "tap-a"))]));
    let subject = found.first().expect("a port");
    let concerned = decoding.flows.iter().filter(|flow| flow.concerns.include(subject));
    let texts: Vec<&str> = concerned.map(|flow| flow.text.as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("nw_src=10.0.0.3 ") && text.contains("conjunction(")),
        "members"
    );
    assert!(
        texts.iter().all(|text| !text.contains("in_port=\"tap-b\"") && !text.contains("output:\"tap-b\""))
    );
}

fn ofport(decoding: &Decoding, interface: &str) -> u16 {
    let is_it = |(_, port): &(&u16, &explain::decode::PortName)| port.interface.as_deref() == Some(interface);
    *decoding.names.ports.iter().find(is_it).expect("an interface").0
}

/// Of `explicitly_egress_direct`, DVR, meters and DHCP, which the fixtures have none of: as br_int.py and firewall.py write them.
#[test]
fn flows_of_other_settings_are_known() {
    let text = "\
        cookie=0x1, table=60, priority=100,in_port=3 actions=set_field:0x3->reg5,set_field:0xb->reg6,resubmit(,71)\n\
        cookie=0x1, table=60, priority=2 actions=resubmit(,94)\n\
        cookie=0x1, table=94, priority=12,reg6=0xb,dl_dst=fa:16:3e:00:00:03 actions=output:3\n\
        cookie=0x1, table=94, priority=12,dl_vlan=11,dl_dst=fa:16:3e:00:00:03 actions=pop_vlan,output:3\n\
        cookie=0x1, table=94, priority=10,reg6=0xb,dl_src=fa:16:3e:00:00:03,dl_dst=00:00:00:00:00:00/01:00:00:00:00:00 actions=push_vlan:0x8100,set_field:4107->vlan_vid,output:1\n\
        cookie=0x1, table=58, priority=100,in_port=3,dl_src=fa:16:3e:00:00:03 actions=meter:1,goto_table:59\n\
        cookie=0x1, table=58, priority=0 actions=goto_table:60\n\
        cookie=0x1, table=24, priority=2,arp,in_port=3,arp_spa=10.0.0.3 actions=goto_table:25\n\
        cookie=0x1, table=25, priority=2,in_port=3,dl_src=fa:16:3e:00:00:03 actions=goto_table:30\n\
        cookie=0x1, priority=9,in_port=3 actions=goto_table:25\n\
        cookie=0x1, table=82, priority=70,ct_state=+new-est,ip,reg6=0xb,dl_src=fa:16:3e:00:00:09 actions=conjunction(9,1/2)\n\
        cookie=0x1, table=77, priority=100,udp,in_port=3,dl_src=fa:16:3e:00:00:03,tp_src=68,tp_dst=67 actions=CONTROLLER:0\n";
    let decoding = read(text, None);
    for flow in &decoding.flows {
        assert!(
            flow.is_named() && flow.writer == Writer::Neutron,
            "{} {:?} {:?}",
            flow.text,
            flow.purpose,
            flow.unnamed
        );
    }
    let wide = "any IPv4 address with MAC fa:16:3e:00:00:09 on VLAN 11 is a member of conjunction 9 (0.0.0.0/0) (new connections)";
    says(&decoding, 82, wide);
    says(&decoding, 58, "limit of packet rate of what is sent by port 3 (fa:16:3e:00:00:03)");
}

#[test]
fn what_neutron_does_not_write_is_somebody_elses() {
    let text = "\
        cookie=0x9, table=72, priority=99,ip,reg5=0x3 actions=resubmit(,94)\n\
        cookie=0x9, table=200, priority=1,reg0=0x7 actions=NORMAL\n";
    let decoding = read(text, None);
    assert!(
        decoding
            .flows
            .iter()
            .all(|flow| flow.writer == Writer::Other && !flow.is_named() && flow.purpose.is_none())
    );
    assert!(decoding.flows[1].unnamed.contains(&"reg0=0x7".to_owned()), "{:?}", decoding.flows[1].unnamed);
}

/// Contents that rules, the anti-spoofing and the rest judge otherwise.
fn contents() -> Vec<Content> {
    let ip = |protocol, detail| Content::Ip { protocol, detail, nd_target: None };
    let ports = |protocol, src, dst| ip(protocol, Detail::Ports { src, dst });
    let mut all =
        vec![Content::Arp, Content::Ethertype(0x8035), Content::Ethertype(0x88cc), ip(47, Detail::None)];
    for protocol in [6, 17] {
        all.extend([22, 53, 80, 443, 3306, 5432, 8000, 8080, 9000].map(|port| ports(protocol, 40_000, port)));
    }
    all.extend([(67, 68), (68, 67), (547, 546), (546, 547)].map(|(src, dst)| ports(17, src, dst)));
    for (protocol, types) in [(1, [0, 3, 8, 13]), (58, [1, 128, 134, 135])] {
        all.extend(types.map(|icmp_type| ip(protocol, Detail::Icmp { icmp_type, code: 0 })));
    }
    all
}

/// Its flows are what it made of this policy, so that what they do is what the law says; where they do not, the driver is of another mind.
#[test]
fn packets_are_followed_through_the_flows_of_neutrons_driver() {
    let policy = policy();
    let dump = Dump::read(NAMES);
    let flows: Vec<_> = dump.flows.iter().map(|line| line.flow.clone().canonical()).collect();
    let sources = Sources { policy: Some(&policy), named: Some(&dump.interfaces), ..Sources::default() };
    let readable = Readable::new(&flows, sources);
    assert!(readable.is_neutrons());
    let decoding = read(NAMES, Some(&policy));
    let tables = Tables::of_switch(flows);
    let evaluator = Evaluator::new(&policy, Settings::default());
    let local = [("tap-a", 1), ("tap-b", 2), ("tap-c", 3), ("tap-d", 4)].map(|(name, mac)| {
        let mac = MacAddr([0xfa, 0x16, 0x3e, 0, 0, mac]);
        let port = policy.ports.values().find(|port| port.mac == mac).expect("the policy knows it");
        (LocalPort { id: port.id.clone(), ofport: ofport(&decoding, name), vlan: 11 }, [mac])
    });
    let peers: BTreeSet<IpAddr> = policy.ports.values().flat_map(|port| port.fixed_ips.clone()).collect();
    let outside =
        ["192.0.2.9", "198.51.100.7", "2001:db8::9"].map(|address| address.parse().expect("an address"));
    let (mut asked, mut passed, mut otherwise) = (0, 0, Vec::new());
    // It drops what the tracker calls invalid, also ICMP, which our law judges packet by packet; and RARP that is for one port alone. Answers and
    // what is related it lets pass until it has marked the connection.
    let is_of_another_mind = |question: &Question| match question.content {
        Content::Ethertype(number) => number == 0x8035 && question.direction == Direction::Ingress,
        Content::Ip { detail: Detail::Icmp { .. }, .. } if question.state == PacketState::Invalid => true,
        _ => matches!(question.state, PacketState::Reply | PacketState::Related),
    };
    for (port, macs) in &local {
        let found = neutron::Found { port, macs };
        for peer in peers.iter().chain(&outside) {
            for direction in [Direction::Egress, Direction::Ingress] {
                for content in contents() {
                    for state in [
                        PacketState::New,
                        PacketState::Established,
                        PacketState::Reply,
                        PacketState::Related,
                        PacketState::Invalid,
                    ] {
                        let question = Question {
                            port: port.id.clone(),
                            direction,
                            peer: *peer,
                            peer_mac: None,
                            own: None,
                            own_mac: None,
                            vlan: None,
                            content,
                            state,
                        };
                        let Ok((frame, tracking)) = question.frame(&policy) else { continue };
                        let answer = answer(&evaluator, &question).expect("an answer");
                        let path = neutron::follow(&tables, &found, direction, &frame, &tracking);
                        asked += 1;
                        passed += usize::from(path.fate.passes());
                        let rules = readable.rules_of(&path);
                        let is_by_rule = answer.rules.is_empty()
                            || rules.iter().any(|rule| {
                                answer.rules.iter().any(|told| rule.id.as_deref() == Some(&told.rule))
                            });
                        let is_told =
                            path.fate.passes() == answer.accepted && (is_by_rule || !answer.accepted);
                        let is_tracked = matches!(content, Content::Ip { .. });
                        let is_answer =
                            is_tracked && matches!(state, PacketState::Reply | PacketState::Related);
                        let is_meant = is_of_another_mind(&question) && path.fate.passes() == is_answer;
                        if !is_told && !is_meant {
                            otherwise.push(format!(
                                "{answer}: {} {state:?}: {:?} by {rules:?}",
                                answer.packet, path.fate
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(asked > 2000 && passed > 500, "{asked}, {passed}");
    assert!(
        otherwise.is_empty(),
        "{} of {asked}: {:#?}",
        otherwise.len(),
        &otherwise[..otherwise.len().min(20)]
    );
}
