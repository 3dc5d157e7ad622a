//! Tables that are not their policy are found out, by a packet that tells them apart.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod two_ports;

use std::collections::BTreeSet;

use rust_openflow::{Field, Flow};
use verify::Tables;
use verify::symbolic::{Difference, Fault, ProofError, changes, differences};

use two_ports::{Host, JOINTS, ports};

impl Host {
    fn prove(&self, flows: Vec<Flow>) -> Result<Vec<Difference>, ProofError> {
        let tables = Tables::new(flows).unwrap();
        let found = differences(&tables, JOINTS, &self.policy, &BTreeSet::new(), &ports());
        // Who stamps is told by the tables as well as by the policy.
        let by_tables = changes(&tables, JOINTS, &self.policy, &BTreeSet::new(), &ports());
        assert_eq!(by_tables, found);
        found
    }
}

impl Host {
    /// The one flow of a table whose text holds all of these parts.
    #[track_caller]
    fn find(&self, table: u8, parts: &[&str]) -> usize {
        let holds =
            |flow: &Flow| flow.table == table && parts.iter().all(|part| flow.to_string().contains(part));
        let found: Vec<usize> = (0..self.flows.len()).filter(|index| holds(&self.flows[*index])).collect();
        assert_eq!(found.len(), 1, "table {table}, {parts:?}");
        found[0]
    }

    fn without(&self, index: usize) -> Vec<Flow> {
        let flows = self.flows.iter().enumerate().filter(|(at, _)| *at != index);
        flows.map(|(_, flow)| flow.clone()).collect()
    }
}

#[test]
fn what_is_rendered_has_no_fault() {
    let host = Host::new();
    assert_eq!(host.prove(host.flows.clone()), Ok(Vec::new()));
}

#[test]
fn a_flow_that_is_gone_closes_or_opens() {
    let host = Host::new();
    for (table, parts, fault) in [
        (0, &[][..], Fault::Closes),
        (100, &["in_port=1 "], Fault::Closes),
        (101, &["in_port=2,"], Fault::Closes),
        (101, &["vlan_tci=0x1000/0x1000"], Fault::Opens),
        (102, &["ipv6_src=fd00::1 "], Fault::Closes),
        (102, &["priority=130,ipv6,nw_proto=0"], Fault::Opens),
        (102, &["priority=120,udp6"], Fault::Opens),
        (103, &["udp,", "tp_dst=67"], Fault::Closes),
        (104, &["nw_dst=10.0.0.0/8"], Fault::Closes),
        (105, &["priority=90", "-rpl"], Fault::Closes),
        (110, &["dl_dst=fa:16:3e:00:00:01"], Fault::Closes),
        (120, &[",arp "], Fault::Closes),
        (122, &["priority=90", "+rpl"], Fault::Closes),
        (123, &["ct_nw_src=10.0.0.2"], Fault::Closes),
        (123, &["ct_tp_dst=0x50/0xfffe"], Fault::Closes),
        (127, &[], Fault::Closes),
    ] {
        let found = host.prove(host.without(host.find(table, parts))).unwrap();
        let faults: BTreeSet<Fault> = found.iter().map(|difference| difference.fault).collect();
        assert_eq!(faults, BTreeSet::from([fault]), "without table {table}, {parts:?}");
    }
}

#[test]
fn a_flow_that_is_other_is_found_out_by_a_packet() {
    let host = Host::new();
    for (table, parts, from, to, fault, (field, value)) in [
        // Somebody else's address.
        (
            102,
            &["ip,", "nw_src=10.0.0.1"][..],
            "10.0.0.1",
            "10.0.0.0/31",
            Fault::Opens,
            (Field::Ipv4Src, 0x0a00_0000),
        ),
        // A mask with a bit less, a port more.
        (123, &["ct_tp_dst=0x50/0xfffe"], "0xfffe", "0xfffa", Fault::Opens, (Field::CtTpDst, 0x54)),
        // A member that is none any more.
        (123, &["ct_nw_src=10.0.0.2"], "10.0.0.2", "10.0.0.3", Fault::Closes, (Field::CtNwSrc, 0x0a00_0002)),
        // Neighbour advertisements that nobody checks.
        (
            102,
            &["priority=105"],
            "set_field:0x5->reg10,resubmit(,128)",
            "resubmit(,110)",
            Fault::Opens,
            (Field::Icmpv6Type, 136),
        ),
        // What the tracker calls invalid.
        (
            122,
            &["priority=99"],
            "set_field:0x9->reg10,resubmit(,128)",
            "resubmit(,127)",
            Fault::Opens,
            (Field::CtState, 0x30),
        ),
    ] {
        let index = host.find(table, parts);
        let text = host.flows[index].to_string();
        assert!(text.contains(from), "{text}");
        let mut flows = host.without(index);
        flows.push(text.replace(from, to).parse().unwrap());
        let found = host.prove(flows).unwrap();
        let told = found.iter().find(|difference| difference.fault == fault);
        let told = told.unwrap_or_else(|| panic!("{from} to {to}: {found:?}"));
        assert_eq!(told.packet.get(field), value, "{told}");
    }
}

#[test]
fn a_generation_of_another_set_opens() {
    let host = Host::new();
    let of_set = |set: &str| host.find(124, &[&format!("ip,reg7={set} ")]);
    let (one, other) = (host.flows[of_set("0x1")].clone(), host.flows[of_set("0x2")].clone());
    let mark = |flow: &Flow| {
        let text = flow.to_string();
        text.split("set_field:").nth(1).unwrap().split("->").next().unwrap().to_owned()
    };
    let text = "table=122,priority=95,ct_state=-inv+trk,ct_mark=MARK,reg7=0x2 actions=resubmit(,127)";
    let mut flows = host.flows.clone();
    assert_ne!(mark(&one), mark(&other));
    flows.push(text.replace("MARK", &mark(&one)).parse().unwrap());
    let found = host.prove(flows).unwrap();
    assert!(found.iter().any(|difference| difference.fault == Fault::Opens), "{found:?}");
}

#[test]
fn a_conjunction_without_its_flow_closes() {
    let host = Host::new();
    let index = host.find(123, &["conj_id="]);
    let found = host.prove(host.without(index)).unwrap();
    assert!(!found.is_empty());
    assert!(found.iter().all(|difference| difference.fault == Fault::Closes), "{found:?}");
}

/// The switch goes on below with flows alone; that is not followed if there are conjunctions.
#[test]
fn a_conjunction_without_its_flow_above_others_has_no_proof() {
    let host = Host::new();
    let index = host.find(123, &["conj_id="]);
    let mut flows = host.without(index);
    flows.push("table=123,priority=1,ip,tcp actions=conjunction(99,1/2)".parse().unwrap());
    let gone = host.prove(flows);
    assert!(matches!(gone, Err(ProofError::Conjunction { table: 123, .. })), "{gone:?}");
}
