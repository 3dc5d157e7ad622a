//! The flows of the demo as bytes and as text, both ways.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion};
use rust_openflow::connection::{Connection, ConnectionConfig};
use rust_openflow::message::{OFP14_VERSION, Part, Xid};
use rust_openflow::{Flow, FlowEntry, FlowMod, FlowStats, Message};

/// What `ovs-ofctl` prints of them.
const TABLE: &str = include_str!("../../../docs/examples/demo.flows");

/// Open vSwitch puts about as many into one message, which has at most 64 KB.
const FLOWS_OF_A_REPLY: usize = 200;

/// What is measured; `make instructions` counts what happens in here.
mod workload {
    use super::*;

    #[inline(never)]
    pub(crate) fn encode(messages: &[Message]) -> BytesMut {
        let mut out = BytesMut::new();
        for message in messages {
            message.encode(Xid(7), &mut out).expect("flow-mods can be encoded");
        }
        out
    }

    #[inline(never)]
    pub(crate) fn bundle(connection: &mut Connection, flows: &[Flow]) -> Bytes {
        let id = connection.open_bundle(u32::try_from(flows.len()).expect("there are hundreds"));
        for flow in flows {
            connection.add_to_bundle(id, FlowMod::add(flow)).expect("flow-mods can be encoded");
        }
        connection.commit_bundle(id);
        connection.take_output()
    }

    #[inline(never)]
    pub(crate) fn decode(messages: &[Bytes]) -> Vec<Message> {
        messages.iter().map(|bytes| Message::decode(bytes).expect("it was encoded").1).collect()
    }

    #[inline(never)]
    pub(crate) fn print(flows: &[Flow]) -> Vec<String> {
        flows.iter().map(Flow::to_string).collect()
    }

    #[inline(never)]
    pub(crate) fn parse(table: &str) -> Vec<Flow> {
        table.lines().map(|line| line.parse().expect("ovs-ofctl printed it")).collect()
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let flows: Vec<Flow> = TABLE.lines().map(|line| line.parse().expect("ovs-ofctl printed it")).collect();
    let count = flows.len();
    let messages: Vec<Message> = flows.iter().map(FlowMod::add).map(Message::FlowMod).collect();
    let replies: Vec<Bytes> = flows.chunks(FLOWS_OF_A_REPLY).map(reply).collect();

    criterion.bench_function(&format!("encode/{count} flow-mods"), |bencher| {
        bencher.iter(|| workload::encode(black_box(&messages)));
    });
    criterion.bench_function(&format!("encode a bundle/{count} flow-mods"), |bencher| {
        let routine = |connection: &mut Connection| workload::bundle(connection, black_box(&flows));
        bencher.iter_batched_ref(connection, routine, BatchSize::SmallInput);
    });
    criterion.bench_function(&format!("decode a dump/{count} flows"), |bencher| {
        bencher.iter(|| workload::decode(black_box(&replies)));
    });
    criterion.bench_function(&format!("print/{count} flows"), |bencher| {
        bencher.iter(|| workload::print(black_box(&flows)));
    });
    criterion.bench_function(&format!("parse/{count} flows"), |bencher| {
        bencher.iter(|| workload::parse(black_box(TABLE)));
    });
    criterion.final_summary();
}

fn reply(flows: &[Flow]) -> Bytes {
    let stats = FlowStats { duration_s: 60, duration_ns: 1, packets: 1000, bytes: 100_000 };
    let items = flows.iter().map(|flow| FlowEntry { flow: flow.clone(), stats }).collect();
    encoded(&Message::FlowStatsReply(Part { items, more: false }))
}

/// A connection over which the switch has said hello.
fn connection() -> Connection {
    let mut connection = Connection::new(ConnectionConfig::default(), Duration::ZERO);
    let hello = encoded(&Message::Hello(vec![OFP14_VERSION]));
    connection.receive(&hello, Duration::ZERO).expect("versions are agreed on");
    connection
}

fn encoded(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(Xid(1), &mut out).expect("it is short enough");
    out.freeze()
}
