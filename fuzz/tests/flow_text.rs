//! The text of ovs-ofctl: flows, keys, matches, actions.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bolero::check;
use bytes::BytesMut;
use fuzz::{CASES, Damage, bounded, corpus};
use rust_openflow::message::Xid;
use rust_openflow::{Action, Flow, FlowKey, FlowMod, Match, Message, Subfield};

/// What can be read is printed so that it reads the same.
fn reads_back<T: FromStr<Err: Debug + PartialEq> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let read: T = bounded(text.len(), || text.parse()).ok()?;
    let printed = read.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(&read), "{printed}");
    Some(read)
}

fn judge(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        judge_line(line);
    }
}

fn judge_line(line: &str) {
    if let Some(flow) = reads_back::<Flow>(line) {
        reads_from_the_wire(&flow);
    }
    reads_back::<FlowKey>(line);
    reads_back::<Match>(line);
    bounded(line.len(), || line.parse::<Subfield>()).ok();
    if let Ok(actions) = bounded(line.len(), || Action::parse_list(line)) {
        let printed = Action::print_list(&actions);
        assert_eq!(Action::parse_list(&printed).as_ref(), Ok(&actions), "{printed}");
    }
}

/// A flow that can be sent comes back as it was.
fn reads_from_the_wire(flow: &Flow) {
    let mut bytes = BytesMut::new();
    let sent = FlowMod::add(flow);
    if Message::FlowMod(sent.clone()).encode(Xid(7), &mut bytes).is_ok() {
        let (_, read) = Message::decode(&bytes.freeze()).expect("what was written can be read");
        assert_eq!(read, Message::FlowMod(sent), "{flow}");
    }
}

#[test]
fn flow_text() {
    check!(name = "flow_text").with_iterations(CASES).for_each(judge);
}

#[test]
fn flow_text_damaged() {
    let files = corpus("flow_text");
    let lines = files.iter().flat_map(|file| file.split(|byte| *byte == b'\n'));
    let seeds: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    check!(name = "flow_text_damaged")
        .with_iterations(CASES)
        .with_type::<Damage>()
        .for_each(|damage| judge(&damage.apply(&seeds)));
}
