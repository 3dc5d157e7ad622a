//! Open vSwitch as the judge of text and bytes: what we send comes back as we print it, what it says we read
//! and can say again byte for byte.
#![allow(clippy::unwrap_used)] // helpers of tests may fail like tests
#![cfg(feature = "tokio")]

mod support;

use std::collections::BTreeSet;

use bytes::BytesMut;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rust_openflow::client::Client;
use rust_openflow::{Flow, FlowEntry, FlowFilter, FlowMod};
use support::{Ovs, generate, raw};

/// One flow a line, in the canonical form of ovs-ofctl.
const FLOWS: &str = include_str!("flows.txt");
/// One a line: what ovs-ofctl takes, and how it comes back.
const SYNONYMS: &str = include_str!("synonyms.txt");

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

fn parse(line: &str) -> Flow {
    line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[track_caller]
fn assert_same<A: ToString, B: ToString>(
    ours: impl IntoIterator<Item = A>,
    theirs: impl IntoIterator<Item = B>,
) {
    let ours: BTreeSet<_> = ours.into_iter().map(|item| item.to_string()).collect();
    let theirs: BTreeSet<_> = theirs.into_iter().map(|item| item.to_string()).collect();
    let only_ours: Vec<_> = ours.difference(&theirs).collect();
    let only_theirs: Vec<_> = theirs.difference(&ours).collect();
    assert!(only_ours.is_empty() && only_theirs.is_empty(), "ours: {only_ours:#?}\ntheirs: {only_theirs:#?}");
}

async fn add(ovs: &Ovs, flows: &[Flow]) -> Client {
    let (client, _events) = Client::connect(&ovs.target()).await.unwrap();
    let adds: Vec<_> = flows.iter().map(FlowMod::add).collect();
    client.send_bundle(&adds).await.unwrap_or_else(|error| panic!("{error}"));
    client
}

async fn dump(client: &Client) -> Vec<Flow> {
    let entries = client.dump_flows(&FlowFilter::default()).await.unwrap();
    entries.into_iter().map(|entry| entry.flow).collect()
}

/// Every entry of every reply is written again as it was read.
fn assert_same_bytes(ovs: &Ovs) -> usize {
    let mut count = 0;
    for (bytes, entries) in raw::flow_stats(ovs) {
        let mut rest = &bytes[..];
        for entry in entries {
            count += 1;
            let mut again = BytesMut::new();
            FlowEntry::encode(&entry, &mut again).unwrap();
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            assert_eq!(&again[..], &rest[..length], "{}", entry.flow);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }
    count
}

#[tokio::test]
async fn what_we_send_comes_back_as_we_print_it() {
    let ovs = Ovs::start();
    let flows: Vec<_> = lines(FLOWS).map(parse).collect();
    assert_same(lines(FLOWS), &flows);
    let client = add(&ovs, &flows).await;
    assert_same(&flows, ovs.dump_text());
    let read = dump(&client).await;
    assert_same(&read, &flows);
    let sent: std::collections::HashSet<_> = flows.into_iter().collect();
    for flow in read {
        assert!(sent.contains(&flow), "reads as another value: {flow:?}");
    }
    assert_eq!(assert_same_bytes(&ovs), sent.len());
}

#[tokio::test]
async fn what_ovs_ofctl_adds_we_read_and_print_alike() {
    let ovs = Ovs::start();
    let pairs: Vec<_> = lines(SYNONYMS).map(|line| line.split_once(" => ").expect("an arrow")).collect();
    let given: Vec<_> = pairs.iter().map(|(given, _)| *given).collect();
    ovs.ofctl_add(&given.join("\n"));
    assert_same(pairs.iter().map(|(_, canonical)| *canonical), ovs.dump_text());
    for (given, canonical) in &pairs {
        assert_eq!(parse(given).canonical(), parse(canonical).canonical(), "{given}");
    }
    let (client, _events) = Client::connect(&ovs.target()).await.unwrap();
    assert_same(dump(&client).await, ovs.dump_text());
    assert_eq!(assert_same_bytes(&ovs), pairs.len());
}

/// The same flows at each run, so that a failure can be looked into.
fn generated(count: usize) -> Vec<Flow> {
    let mut runner = TestRunner::deterministic();
    let mut keys = std::collections::HashSet::new();
    let mut flows = Vec::new();
    while flows.len() < count {
        let flow = generate::flow().new_tree(&mut runner).expect("a flow").current();
        // A second flow with the same key would replace the first.
        if keys.insert(flow.key()) {
            flows.push(flow);
        }
    }
    flows
}

#[tokio::test]
async fn generated_flows_come_back_as_we_print_them() {
    let ovs = Ovs::start();
    let flows = generated(1500);
    for flow in &flows {
        assert_eq!(parse(&flow.to_string()), *flow, "{flow}");
    }
    let client = add(&ovs, &flows).await;
    assert_same(&flows, ovs.dump_text());
    let sent: std::collections::HashSet<_> = flows.iter().cloned().collect();
    for flow in dump(&client).await {
        assert!(sent.contains(&flow), "reads as another value: {flow:?}");
    }
    assert_eq!(assert_same_bytes(&ovs), flows.len());
    let deletions: Vec<_> = flows.iter().map(|flow| FlowMod::delete_strict(&flow.key())).collect();
    client.send_bundle(&deletions).await.unwrap();
    assert_eq!(ovs.dump_text(), Vec::<String>::new());
}
