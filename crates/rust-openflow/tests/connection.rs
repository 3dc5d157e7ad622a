//! The connection without a transport, against a switch of a few lines, in virtual time.
#![allow(clippy::unwrap_used)] // helpers of tests may fail like tests

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rust_openflow::connection::{Answer, Connection, ConnectionConfig, ConnectionError, Event, RequestError};
use rust_openflow::message::{
    BundleAdd, BundleControl, BundleStep, ErrorMessage, FlowUpdate, FragMode, Framer, OFP14_VERSION, Part,
    Xid,
};
use rust_openflow::{Flow, FlowEntry, FlowFilter, FlowMod, Message, OfError};

const BAD_PREREQ: OfError = OfError::Standard { kind: 4, code: 9 };
const MSG_FAILED: OfError = OfError::Standard { kind: 17, code: 13 };

/// A connection and what came out of it.
struct Harness {
    connection: Connection,
    framer: Framer,
    now: Duration,
}

impl Harness {
    fn new() -> Self {
        let config = ConnectionConfig { max_reply_items: 5, ..ConnectionConfig::default() };
        Harness {
            connection: Connection::new(config, Duration::ZERO),
            framer: Framer::default(),
            now: Duration::ZERO,
        }
    }

    /// Past the greeting.
    fn up() -> Self {
        let mut harness = Self::new();
        assert_eq!(harness.sent(), [(Xid(1), Message::Hello(vec![OFP14_VERSION]))]);
        harness.answer(Xid(99), &Message::Hello(vec![1, 4, 5])).unwrap();
        assert_eq!(harness.events(), [Event::Up]);
        harness
    }

    fn sent(&mut self) -> Vec<(Xid, Message)> {
        self.framer.push(&self.connection.take_output());
        let mut sent = Vec::new();
        while let Some(bytes) = self.framer.next_message().unwrap() {
            let (header, message) = Message::decode(&bytes).unwrap();
            sent.push((header.xid, message));
        }
        sent
    }

    fn answer(&mut self, xid: Xid, message: &Message) -> Result<(), ConnectionError> {
        let mut bytes = BytesMut::new();
        message.encode(xid, &mut bytes).unwrap();
        self.connection.receive(&bytes, self.now)
    }

    fn fail(&mut self, xid: Xid, error: OfError) {
        self.answer(xid, &Message::Error(ErrorMessage { error, data: Bytes::new() })).unwrap();
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    fn after(&mut self, seconds: u64) -> Result<(), ConnectionError> {
        self.now += Duration::from_secs(seconds);
        self.connection.tick(self.now)
    }

    /// Sends a bundle up to its close request; returns its control message and the xids of its flow-mods.
    fn closed_bundle(&mut self, count: u16) -> (BundleControl, Vec<Xid>, Xid) {
        let flow_mods: Vec<_> = (0..count).map(|priority| FlowMod::add(&flow(priority))).collect();
        self.connection.bundle(&flow_mods).unwrap();
        let sent = self.sent();
        let Some((_, Message::BundleControl(open))) = sent.first() else { panic!("{sent:?}") };
        assert_eq!(open.step, BundleStep::OpenRequest);
        let adds: Vec<_> = sent
            .iter()
            .filter_map(|(xid, message)| match message {
                Message::BundleAdd(BundleAdd { bundle, .. }) if *bundle == open.bundle => Some(*xid),
                _ => None,
            })
            .collect();
        assert_eq!(adds.len(), usize::from(count));
        let Some((close_xid, Message::BundleControl(close))) = sent.last() else { panic!("{sent:?}") };
        assert_eq!(close.step, BundleStep::CloseRequest);
        (*open, adds, *close_xid)
    }

    /// The bundle control that was sent last.
    fn control(&mut self) -> (Xid, BundleStep) {
        match &self.sent()[..] {
            [(xid, Message::BundleControl(control))] => (*xid, control.step),
            other => panic!("{other:?}"),
        }
    }

    fn reply(&mut self, xid: Xid, control: BundleControl, step: BundleStep) {
        self.answer(xid, &Message::BundleControl(BundleControl { step, ..control })).unwrap();
    }
}

fn flow(priority: u16) -> Flow {
    format!("priority={priority} actions=drop").parse().unwrap()
}

fn entries(count: u16) -> Vec<FlowEntry> {
    (0..count)
        .map(|priority| FlowEntry { flow: flow(priority), stats: rust_openflow::FlowStats::default() })
        .collect()
}

#[test]
fn requests_wait_for_the_greeting() {
    let mut harness = Harness::new();
    let barrier = harness.connection.barrier();
    assert_eq!(harness.sent().len(), 1, "the hello alone");
    harness.answer(Xid(1), &Message::Hello(vec![OFP14_VERSION])).unwrap();
    assert_eq!(harness.sent(), [(barrier, Message::BarrierRequest)]);
    harness.answer(barrier, &Message::BarrierReply).unwrap();
    assert_eq!(harness.events(), [Event::Up, Event::Answer { xid: barrier, answer: Ok(Answer::Done) }]);
}

#[test]
fn a_hello_without_a_bitmap_offers_all_versions_up_to_its_own() {
    for (version, agreed) in [(4, false), (5, true), (6, true)] {
        let mut harness = Harness::new();
        let result = harness.connection.receive(&[version, 0, 0, 8, 0, 0, 0, 1], Duration::ZERO);
        assert_eq!(result.is_ok(), agreed, "{result:?}");
    }
}

#[test]
fn what_is_no_openflow_is_refused() {
    let mut harness = Harness::new();
    let error = harness.answer(Xid(1), &Message::BarrierReply).unwrap_err();
    assert_eq!(error, ConnectionError::NoHello { kind: 21 });
    let error = Harness::new().connection.receive(b"HTTP/1.1 200 OK\r\n", Duration::ZERO);
    assert_eq!(error, Ok(()), "the length that this text gives has not come yet");
    let error = Harness::new().connection.receive(&[5, 0, 0, 7, 0, 0, 0, 0], Duration::ZERO).unwrap_err();
    assert!(matches!(error, ConnectionError::Stream(_)), "{error}");
}

#[test]
fn echoes_are_answered_and_silence_is_probed() {
    let mut harness = Harness::up();
    harness.answer(Xid(5), &Message::EchoRequest(Bytes::from_static(b"hi"))).unwrap();
    assert_eq!(harness.sent(), [(Xid(5), Message::EchoReply(Bytes::from_static(b"hi")))]);
    harness.after(9).unwrap();
    assert_eq!(harness.sent(), []);
    assert_eq!(harness.connection.next_tick(), Duration::from_secs(10));
    harness.after(1).unwrap();
    let [(xid, Message::EchoRequest(_))] = harness.sent()[..] else { panic!() };
    harness.after(5).unwrap();
    assert_eq!(harness.sent(), [], "one probe is enough");
    harness.answer(xid, &Message::EchoReply(Bytes::new())).unwrap();
    assert_eq!(harness.events(), []);
    harness.after(59).unwrap();
    let error = harness.after(1).unwrap_err();
    assert_eq!(error, ConnectionError::Silent { silence: Duration::from_secs(60) });
}

#[test]
fn answers_in_parts_are_put_together() {
    let mut harness = Harness::up();
    let xid = harness.connection.dump_flows(&FlowFilter::default());
    let other = harness.connection.dump_flows(&FlowFilter::default());
    let all = entries(3);
    let part = |items: &[FlowEntry], more| Message::FlowStatsReply(Part { items: items.to_vec(), more });
    harness.answer(xid, &part(&all[..2], true)).unwrap();
    harness.answer(other, &part(&all[..1], false)).unwrap();
    harness.answer(xid, &part(&all[2..], false)).unwrap();
    let flows = |xid, flows: &[FlowEntry]| Event::Answer { xid, answer: Ok(Answer::Flows(flows.to_vec())) };
    assert_eq!(harness.events(), [flows(other, &all[..1]), flows(xid, &all)]);
}

#[test]
fn answers_have_a_bound() {
    let mut harness = Harness::up();
    let xid = harness.connection.dump_flows(&FlowFilter::default());
    let items = entries(6);
    harness.answer(xid, &Message::FlowStatsReply(Part { items, more: true })).unwrap();
    let answer = Err(RequestError::TooMany { limit: 5 });
    assert_eq!(harness.events(), [Event::Answer { xid, answer }]);
}

#[test]
fn a_confirmed_request_is_done_with_its_barrier() {
    let mut harness = Harness::up();
    let good = harness.connection.set_config(FragMode::NxMatch, 0);
    let bad = harness.connection.ct_flush_zone(9);
    let sent = harness.sent();
    let barriers: Vec<_> =
        sent.iter().filter(|(_, message)| *message == Message::BarrierRequest).map(|(xid, _)| *xid).collect();
    harness.answer(barriers[0], &Message::BarrierReply).unwrap();
    harness.fail(bad, BAD_PREREQ);
    assert_eq!(harness.events(), [Event::Answer { xid: good, answer: Ok(Answer::Done) }]);
    harness.answer(barriers[1], &Message::BarrierReply).unwrap();
    let refused = RequestError::Refused(ErrorMessage { error: BAD_PREREQ, data: Bytes::new() });
    assert_eq!(harness.events(), [Event::Answer { xid: bad, answer: Err(refused) }]);
}

#[test]
fn a_request_without_an_answer_ends_though_the_switch_lives() {
    let mut harness = Harness::up();
    let xid = harness.connection.features();
    for _ in 0..12 {
        harness.after(10).unwrap();
        harness.answer(Xid(5), &Message::EchoRequest(Bytes::new())).unwrap();
    }
    let answer = Err(RequestError::NoAnswer { within: Duration::from_secs(120) });
    assert_eq!(harness.events(), [Event::Answer { xid, answer }]);
}

#[test]
fn what_the_switch_says_unasked_is_an_event() {
    let mut harness = Harness::up();
    let updates = vec![FlowUpdate::Paused];
    harness.answer(Xid(0), &Message::FlowMonitorReply(Part { items: updates.clone(), more: false })).unwrap();
    assert_eq!(harness.events(), [Event::FlowUpdates(updates)]);
    harness.fail(Xid(77), BAD_PREREQ);
    let error = ErrorMessage { error: BAD_PREREQ, data: Bytes::new() };
    assert_eq!(harness.events(), [Event::StrayError { xid: Xid(77), error }]);
    // A port-status with a reason that does not exist is told, and harms nothing.
    let mut bytes = vec![5, 12, 0, 56, 0, 0, 0, 0, 9];
    bytes.resize(56, 0);
    harness.connection.receive(&bytes, Duration::ZERO).unwrap();
    assert!(matches!(&harness.events()[..], [Event::Other { message: Err(_), .. }]));
}

#[test]
fn a_good_bundle_is_committed_after_it_is_closed() {
    let mut harness = Harness::up();
    let (control, _, close) = harness.closed_bundle(3);
    let id = rust_openflow::connection::BundleId(control.bundle);
    assert_eq!(harness.connection.bundle_is_committing(id), Some(false));
    harness.reply(close, control, BundleStep::CloseReply);
    let (commit, step) = harness.control();
    assert_eq!(step, BundleStep::CommitRequest);
    assert_eq!(harness.connection.bundle_is_committing(id), Some(true));
    assert_eq!(harness.events(), []);
    harness.reply(commit, control, BundleStep::CommitReply);
    assert_eq!(harness.events(), [Event::Bundle { id, result: Ok(()) }]);
    assert_eq!(harness.connection.bundle_is_committing(id), None);
}

#[test]
fn a_bundle_with_a_refused_flow_is_never_committed() {
    let mut harness = Harness::up();
    let (control, adds, close) = harness.closed_bundle(3);
    harness.fail(adds[1], BAD_PREREQ);
    harness.reply(close, control, BundleStep::CloseReply);
    let (discard, step) = harness.control();
    assert_eq!(step, BundleStep::DiscardRequest);
    harness.reply(discard, control, BundleStep::DiscardReply);
    let [Event::Bundle { result: Err(refusal), .. }] = &harness.events()[..] else { panic!() };
    assert_eq!(
        (refusal.n_failed, refusal.failed[0].index, refusal.failed[0].error.error),
        (1, 1, BAD_PREREQ)
    );
    assert_eq!(refusal.bundle_error, None);
}

#[test]
fn a_bundle_that_the_switch_drops_meanwhile_is_never_committed() {
    let mut harness = Harness::up();
    let timeout = OfError::Standard { kind: 17, code: 14 };
    let (control, _, close) = harness.closed_bundle(1);
    // Open vSwitch drops a bundle that idles, and opens another of the same number at the next message.
    harness.fail(Xid(control.bundle), timeout);
    harness.reply(close, control, BundleStep::CloseReply);
    let (discard, step) = harness.control();
    assert_eq!(step, BundleStep::DiscardRequest);
    harness.reply(discard, control, BundleStep::DiscardReply);
    let [Event::Bundle { result: Err(refusal), .. }] = &harness.events()[..] else { panic!() };
    assert_eq!(refusal.bundle_error, Some(timeout));
}

#[test]
fn a_bundle_refused_at_commit_names_its_flow() {
    let mut harness = Harness::up();
    let (control, adds, close) = harness.closed_bundle(2);
    harness.reply(close, control, BundleStep::CloseReply);
    let (commit, _) = harness.control();
    harness.fail(adds[0], OfError::Standard { kind: 5, code: 1 });
    harness.fail(commit, MSG_FAILED);
    let [Event::Bundle { result: Err(refusal), .. }] = &harness.events()[..] else { panic!() };
    assert_eq!(
        (refusal.failed[0].index, refusal.failed[0].error.error.name()),
        (0, Some("OFPFMFC_TABLE_FULL"))
    );
    assert_eq!(refusal.bundle_error, Some(MSG_FAILED));
}

#[test]
fn a_bundle_that_is_given_up_is_discarded_without_a_word() {
    let mut harness = Harness::up();
    let id = harness.connection.open_bundle(2);
    harness.connection.add_to_bundle(id, FlowMod::add(&flow(1))).unwrap();
    harness.connection.discard_bundle(id);
    let sent = harness.sent();
    let Some((discard, Message::BundleControl(control))) = sent.last() else { panic!() };
    assert_eq!(control.step, BundleStep::DiscardRequest);
    harness.reply(*discard, *control, BundleStep::DiscardReply);
    assert_eq!(harness.events(), []);
}
