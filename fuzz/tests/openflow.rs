//! What a switch may send: framing, messages, actions, and the text of the flows in them.

use bolero::check;
use bytes::{Bytes, BytesMut};
use fuzz::{CASES, Damage, bounded, corpus};
use rust_openflow::message::{FlowUpdate, Framer, Header, OFP14_VERSION, Xid};
use rust_openflow::{Action, Flow, FlowKey, Message, ParseError};

/// The messages of a stream as far as it can be cut, each as it came.
fn cut(stream: &[u8]) -> Vec<Bytes> {
    let mut framer = Framer::default();
    framer.push(stream);
    std::iter::from_fn(|| framer.next_message().ok().flatten()).collect()
}

fn encoded(message: &Message) -> Option<Bytes> {
    let mut out = BytesMut::new();
    message.encode(Xid(7), &mut out).ok()?;
    Some(out.freeze())
}

fn judge(stream: &[u8]) {
    let read: Vec<(Header, Message)> = bounded(stream.len(), || {
        cut(stream).iter().filter_map(|bytes| Message::decode(bytes).ok()).collect()
    });
    for (header, message) in &read {
        judge_message(*header, message);
    }
    let lists = bounded(stream.len(), || [Action::decode_list(stream), Action::decode_instructions(stream)]);
    for actions in lists.into_iter().flatten() {
        reads_as(&Action::print_list(&actions), |text| Ok(Action::print_list(&Action::parse_list(text)?)));
    }
}

/// The wire can say what the text cannot, such as ports that no switch has or a `max_len` that no switch looks at. What the
/// text says it says again: `flow_text` asks for more of values that come from text.
fn reads_as(text: &str, again: impl Fn(&str) -> Result<String, ParseError>) {
    if let Ok(again) = again(text) {
        assert_eq!(again, text);
    }
}

fn judge_message(header: Header, message: &Message) {
    if let Message::Error(error) = message {
        drop(error.offending_message());
    }
    // We write version 1.4, where a body of another version means something else.
    if header.version == OFP14_VERSION
        && !is_unknown(message)
        && let Some(bytes) = encoded(message)
    {
        let (_, again) = Message::decode(&bytes).expect("what was written can be read");
        assert_eq!(&again, message);
    }
    for flow in flows(message) {
        reads_as(&flow.to_string(), |text| Ok(text.parse::<Flow>()?.to_string()));
        reads_as(&flow.key().to_string(), |text| Ok(text.parse::<FlowKey>()?.to_string()));
    }
}

/// Also in a bundle, whose messages have versions of their own.
fn is_unknown(message: &Message) -> bool {
    match message {
        Message::BundleAdd(add) => is_unknown(&add.message),
        message => matches!(message, Message::Unknown { .. }),
    }
}

fn flows(message: &Message) -> Vec<&Flow> {
    match message {
        Message::FlowMod(flow_mod) => vec![&flow_mod.flow],
        Message::BundleAdd(add) => flows(&add.message),
        Message::FlowStatsReply(part) => part.items.iter().map(|entry| &entry.flow).collect(),
        Message::FlowMonitorReply(part) => part.items.iter().filter_map(flow_of).collect(),
        _ => Vec::new(),
    }
}

fn flow_of(update: &FlowUpdate) -> Option<&Flow> {
    match update {
        FlowUpdate::Flow { flow, .. } => Some(flow),
        _ => None,
    }
}

#[test]
fn openflow() {
    check!(name = "openflow").with_iterations(CASES).for_each(judge);
}

#[test]
fn openflow_damaged() {
    let seeds: Vec<Vec<u8>> =
        corpus("openflow").iter().flat_map(|stream| cut(stream)).map(Vec::from).collect();
    check!(name = "openflow_damaged").with_iterations(CASES).with_type::<Damage>().for_each(|damage| {
        let mut bytes = damage.apply(&seeds);
        judge(&bytes);
        // With a length that fits, so that the damage is looked at.
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        if let Some(field) = bytes.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
            judge(&bytes);
        }
    });
}
