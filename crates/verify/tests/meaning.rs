//! Tables are the same by meaning if and only if their numbers stand for the same things.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use rust_openflow::{Action, Flow};
use verify::{Meaning, MeaningError};

/// The numbers of a set, a remote, the set's two generations and a zone.
#[derive(Clone, Copy)]
struct Numbers {
    set: u32,
    remote: u32,
    egress: u32,
    ingress: u32,
    zone: u16,
}

const NUMBERS: Numbers = Numbers { set: 3, remote: 1, egress: 4, ingress: 5, zone: 0x1001 };
const OTHERS: Numbers = Numbers { set: 70, remote: 9, egress: 90, ingress: 80, zone: 0x2002 };

fn name(number: &str, text: &str) -> Flow {
    let flow: Flow = format!("table=129,priority=1,{number} actions=drop").parse().unwrap();
    Flow { actions: vec![Action::note(text)], ..flow }
}

/// A port of one set, whose remote group is `remote_group`.
fn table(numbers: Numbers, remote_group: &str) -> Vec<Flow> {
    let Numbers { set, remote, egress, ingress, zone } = numbers;
    let lines = [
        format!(
            "cookie=0x5367020000000001,table=100,priority=100,in_port=1 \
             actions=load:{set:#x}->NXM_NX_REG7[],load:{zone:#x}->NXM_NX_REG8[],resubmit(,101)"
        ),
        format!(
            "cookie={:#x},table=105,priority=95,ct_state=-inv+trk,ct_mark={egress:#x},reg7={set:#x} actions=resubmit(,110)",
            0x5367_0300_0000_0000_u64 + u64::from(set)
        ),
        format!("table=106,priority=70,conj_id={remote},ip actions=resubmit(,107)"),
        format!("table=106,priority=70,ip,reg7={set:#x} actions=conjunction({remote},1/2)"),
        format!(
            "table=107,priority=100,ip,reg7={set:#x} actions=ct(commit,zone=NXM_NX_REG8[0..15],exec(load:{egress:#x}->NXM_NX_CT_MARK[]))"
        ),
        format!(
            "table=124,priority=100,ip,reg7={set:#x} actions=ct(commit,zone=NXM_NX_REG8[0..15],exec(load:{ingress:#x}->NXM_NX_CT_MARK[]))"
        ),
    ];
    let names = [
        name(&format!("reg7={set:#x}"), r#"{"set":["a"]}"#),
        name(&format!("conj_id={remote}"), &format!(r#"{{"security_group":"{remote_group}"}}"#)),
    ];
    lines.iter().map(|line| line.parse().unwrap()).chain(names).collect()
}

fn meaning(flows: &[Flow]) -> Meaning {
    Meaning::of(flows).unwrap()
}

#[test]
fn numbers_do_not_matter() {
    let (one, other) = (table(NUMBERS, "b"), table(OTHERS, "b"));
    assert_eq!(meaning(&one).differences(&meaning(&other)), [""; 0]);
}

#[test]
fn what_they_stand_for_does() {
    let other = meaning(&table(NUMBERS, "c"));
    let lines = meaning(&table(NUMBERS, "b")).differences(&other);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("note")), "{lines:?}");
}

/// A connection that was admitted the other way, by the same set, is not this one.
#[test]
fn a_generation_is_of_one_direction() {
    let turned = Numbers { egress: NUMBERS.ingress, ingress: NUMBERS.egress, ..NUMBERS };
    assert_eq!(meaning(&table(NUMBERS, "b")), meaning(&table(turned, "b")));
    let mut mixed = table(NUMBERS, "b");
    mixed[1] = table(turned, "b")[1].clone();
    assert_ne!(meaning(&table(NUMBERS, "b")), meaning(&mixed));
}

#[test]
fn a_number_that_stands_for_nothing_is_an_error() {
    let without = |part: &str| {
        let flows = table(NUMBERS, "b");
        let left: Vec<Flow> = flows.into_iter().filter(|flow| !flow.to_string().contains(part)).collect();
        match Meaning::of(&left) {
            Err(MeaningError::Unnamed { what, .. }) => what,
            other => panic!("without {part}: {other:?}"),
        }
    };
    // The names, the flow that stamps with the egress generation.
    assert_eq!(without("table=129, priority=1,reg7"), "set");
    assert_eq!(without("table=129, priority=1,conj_id"), "remote");
    assert_eq!(without("table=107"), "generation");
}

#[test]
fn two_numbers_for_one_thing_are_an_error() {
    let again = name("reg7=0x9", r#"{"set":["a"]}"#);
    let flows: Vec<Flow> = table(NUMBERS, "b").into_iter().chain([again]).collect();
    assert_eq!(Meaning::of(&flows), Err(MeaningError::Twice { what: "set", first: 3, second: 9 }));
}
