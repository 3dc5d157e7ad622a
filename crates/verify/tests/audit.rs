//! Whatever flow is missing, added or altered is named, with a packet.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod two_ports;

use std::collections::BTreeSet;

use policy::document;
use rust_openflow::{Action, Field, Flow};
use verify::Fault;
use verify::audit::{Audit, Deviation, Subject, audit};
use verify::symbolic;

use two_ports::{Host, JOINTS, POLICY, ports};

/// Nothing comes to this table: its flows are names for people (docs/decisions/0001).
const NAMES: u8 = 129;

fn look(host: &Host, held: &[Flow]) -> Audit {
    audit(&Subject {
        held,
        wanted: &host.flows,
        joints: JOINTS,
        policy: &host.policy,
        permitted_ethertypes: &BTreeSet::new(),
        ports: &ports(),
        threads: 1,
    })
}

#[test]
fn what_is_rendered_is_exact() {
    let host = Host::new();
    assert_eq!(look(&host, &host.flows), Audit::default());
}

#[test]
fn every_flow_that_is_missing_is_named() {
    let host = Host::new();
    for index in 0..host.flows.len() {
        let mut held = host.flows.clone();
        let gone = held.remove(index);
        is_named(&look(&host, &held), &Deviation::Missing(gone));
    }
}

#[test]
fn every_flow_that_is_altered_is_named() {
    let host = Host::new();
    for index in 0..host.flows.len() {
        let mut held = host.flows.clone();
        // To nowhere what passes, to port 2 what is dropped.
        let actions: Vec<Action> = match held[index].actions.is_empty() {
            true => Action::parse_list("output:2").unwrap(),
            false => Vec::new(),
        };
        held[index].actions = actions;
        let deviation = Deviation::Altered { held: held[index].clone(), wanted: host.flows[index].clone() };
        is_named(&look(&host, &held), &deviation);
    }
}

/// One flow is wrong, and a packet shows it.
fn is_named(audit: &Audit, deviation: &Deviation) {
    let flow = deviation.flow();
    assert_eq!(audit.findings.len(), 1, "{flow}");
    assert_eq!(audit.findings[0].deviation, *deviation);
    assert!(audit.unexplained.is_empty(), "{flow}\n{}", audit.unexplained[0]);
    if flow.table == NAMES {
        return;
    }
    let evidence = audit.findings[0].evidence.as_ref().unwrap_or_else(|| panic!("no packet for {flow}"));
    assert_ne!(evidence.held, evidence.wanted, "{flow}");
}

/// A flow of somebody else, with any cookie.
#[test]
fn every_flow_that_is_added_is_named() {
    let host = Host::new();
    for flow in [
        "table=101,priority=200,in_port=1 actions=resubmit(,110)",
        "table=102,priority=101,ip,in_port=1,nw_src=10.0.0.66 actions=resubmit(,103)",
        "table=106,priority=71,ct_state=+new+trk,tcp,reg7=1,tp_dst=443 actions=resubmit(,107)",
        "table=123,priority=70,ct_state=-inv+trk,ct_nw_proto=6,ip,reg7=1 actions=conjunction(1,1/2)",
        "table=106,priority=200,ct_mark=77 actions=resubmit(,125)",
        "table=113,priority=200,reg6=10 actions=drop",
        "table=110,priority=200,reg6=10,dl_dst=fa:16:3e:00:00:01 actions=drop",
        "table=128,priority=200,reg10=4 actions=output:2",
    ] {
        let flow: Flow = flow.parse::<Flow>().unwrap().canonical();
        let mut held = host.flows.clone();
        held.push(flow.clone());
        is_named(&look(&host, &held), &Deviation::Extra(flow));
    }
}

/// What cannot be followed is named for that, and left out of the proof.
#[test]
fn a_flow_that_cannot_be_followed_is_named() {
    let host = Host::new();
    let flow: Flow = "table=101,priority=200,in_port=1 actions=NORMAL".parse::<Flow>().unwrap().canonical();
    let held: Vec<Flow> = host.flows.iter().chain([&flow]).cloned().collect();
    let audit = look(&host, &held);
    assert_eq!(audit.findings.len(), 1);
    assert_eq!(audit.findings[0].unfollowed, Some(Fault::Action));
    assert_eq!(audit.findings[0].deviation, Deviation::Extra(flow));
    assert!(!audit.is_exact());
}

/// A policy that is not the one that was rendered is told apart by packets, each with the rules that admit it.
#[test]
fn a_policy_that_is_not_the_tables_is_found_out() {
    let mut host = Host::new();
    let other = POLICY.replace("port_range_max: 81", "port_range_max: 82");
    host.policy = document::parse(&[("policy.yaml", &other)], None).policy;
    let audit = look(&host, &host.flows);
    assert!(audit.findings.is_empty());
    let found = &audit.unexplained[0];
    assert_eq!((found.fault, found.packet.get(Field::TcpDst)), (symbolic::Fault::Closes, 82), "{found}");
    assert_eq!(found.rules, ["w1".into()]);
}
