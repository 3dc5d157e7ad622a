//! The client against a real Open vSwitch: bundles and their failures, ports, packets, conntrack, monitors.
#![allow(clippy::unwrap_used)] // helpers of tests may fail like tests
#![cfg(feature = "tokio")]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use rust_openflow::client::{BundleOutcome, Client, ClientError, EventStream, News};
use rust_openflow::connection::{ConnectionConfig, ConnectionError, Event};
use rust_openflow::message::{
    BundleControl, BundleStep, CtFlush, CtTuple, DropBand, FlowMonitor, FlowUpdate, FlowUpdateEvent,
    FragMode, Framer, METER_BURST, METER_PACKETS, METER_STATS, Message, MeterCommand, MeterConfig, MeterMod,
    MonitorFlags, PacketOut, PacketReason, PortReason,
};
use rust_openflow::{Action, Controller, Field, Flow, FlowFilter, FlowMod, Match, PortNo};
use support::Ovs;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(ovs: &Ovs) -> (Client, EventStream) {
    Client::connect(&ovs.target()).await.unwrap()
}

/// The first event that `pick` wants.
async fn event<T>(events: &mut EventStream, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let wanted = async {
        loop {
            match events.next().await.expect("the connection holds") {
                News::Event(event) => {
                    if let Some(wanted) = pick(event) {
                        return wanted;
                    }
                }
                News::Missed(count) => panic!("missed {count} events"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.expect("the event comes")
}

fn flow(text: &str) -> Flow {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn member(index: u32) -> Flow {
    let address = 0x0a00_0000 + index;
    let matches = Match::new().with(Field::EthType, 0x0800u32).with(Field::Ipv4Src, address);
    Flow::new(1, 70, matches, vec![Action::Conjunction { id: index, clause: 1, n_clauses: 2 }])
}

#[tokio::test]
async fn bad_flows_of_a_bundle_are_named_and_nothing_changes() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let flows = [
        flow("table=1,priority=1,ip actions=drop"),
        flow("table=1,priority=2,ct_state=+trk,ct_nw_src=10.0.0.1,ip actions=drop"),
        flow("table=1,priority=3,ip actions=conjunction(1,1/2),output:1"),
        flow("table=1,priority=4,ip actions=set_field:5->tcp_dst"),
        flow("table=1,priority=5,ip actions=drop"),
    ];
    let adds: Vec<_> = flows.iter().map(FlowMod::add).collect();
    let error = client.send_bundle(&adds).await.unwrap_err();
    assert_eq!(error.outcome, BundleOutcome::Refused);
    let named: Vec<_> = error.failed.iter().map(|failed| (failed.index, failed.error.to_string())).collect();
    let expected = [(1, "OFPBMC_BAD_PREREQ"), (2, "NXBAC_BAD_CONJUNCTION"), (3, "OFPBAC_MATCH_INCONSISTENT")];
    assert_eq!(named, expected.map(|(index, name)| (index, name.to_owned())));
    assert_eq!(error.failed[0].flow, adds[1].to_string());
    assert!(error.to_string().contains("OFPBMC_BAD_PREREQ for message 1"), "{error}");
    assert_eq!(ovs.dump_text(), Vec::<String>::new());
}

#[tokio::test]
async fn a_flow_refused_at_commit_is_named_and_nothing_changes() {
    let ovs = Ovs::start();
    ovs.vsctl(&[
        "--",
        "--id=@t",
        "create",
        "Flow_Table",
        "flow_limit=2",
        "--",
        "set",
        "bridge",
        "br0",
        "flow_tables:1=@t",
    ]);
    let (client, _events) = connect(&ovs).await;
    let adds: Vec<_> = (0..4).map(member).map(|flow| FlowMod::add(&flow)).collect();
    let error = client.send_bundle(&adds).await.unwrap_err();
    assert_eq!((error.outcome, error.failed.len()), (BundleOutcome::Refused, 1));
    assert_eq!((error.failed[0].index, error.failed[0].error.name()), (2, Some("OFPFMFC_TABLE_FULL")));
    assert_eq!(ovs.dump_text(), Vec::<String>::new());
}

#[tokio::test]
async fn great_bundles_stream_also_when_every_flow_is_refused() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let good: Vec<_> = (0..30_000).map(member).map(|flow| FlowMod::add(&flow)).collect();
    client.send_bundle(&good).await.unwrap();
    assert_eq!(client.dump_flows(&FlowFilter::table(1)).await.unwrap().len(), good.len());
    let bad: Vec<_> = good
        .iter()
        .map(|add| {
            FlowMod::add(&Flow { actions: vec![Action::set_field(Field::TcpDst, 1u32)], ..add.flow.clone() })
        })
        .collect();
    let error = client.send_bundle(&bad).await.unwrap_err();
    assert_eq!((error.outcome, error.n_failed), (BundleOutcome::Refused, bad.len()));
    assert_eq!(error.failed.len(), 1000);
    client.barrier().await.unwrap();
}

#[tokio::test]
async fn a_flow_of_more_than_64_kilobytes_is_an_error_that_names_it() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let conjunctions =
        |count| (0..count).map(|id| Action::Conjunction { id, clause: 1, n_clauses: 2 }).collect();
    let fits = Flow { actions: conjunctions(4080), ..member(1) };
    client.send_bundle(&[FlowMod::add(&fits)]).await.unwrap();
    let too_long = Flow { actions: conjunctions(4200), ..member(2) };
    let error = client.send_bundle(&[FlowMod::add(&member(3)), FlowMod::add(&too_long)]).await.unwrap_err();
    assert_eq!(error.outcome, BundleOutcome::Refused);
    assert_eq!(
        error.reason,
        "flow 'table=1, priority=70,ip,nw_src=10.0.0.2': list of 4200 actions: 67208 bytes, \
         more than the 65535 an OpenFlow length can say"
    );
    let held = client.dump_flows(&FlowFilter::default()).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].flow, fits);
}

#[tokio::test]
async fn flows_are_modified_and_deleted_by_match_and_cookie() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let flows: Vec<_> = (0..4).map(|index| member(index).with_cookie(u64::from(index) | 0x5000)).collect();
    client.send_bundle(&flows.iter().map(FlowMod::add).collect::<Vec<_>>()).await.unwrap();
    let changed = Flow { actions: vec![Action::resubmit(9)], ..flows[0].clone() };
    client.send_bundle(&[FlowMod::modify_strict(&changed)]).await.unwrap();
    let one = client.dump_flows(&FlowFilter::cookie(0x5000, u64::MAX)).await.unwrap();
    assert_eq!(one.into_iter().map(|entry| entry.flow).collect::<Vec<_>>(), [changed]);
    let subset =
        Match::new().with(Field::EthType, 0x0800u32).with_mask(Field::Ipv4Src, 0x0a00_0002u32, !1u32);
    client
        .send_bundle(&[FlowMod::delete(Some(1), subset).with_cookie_filter(0x5003, u64::MAX)])
        .await
        .unwrap();
    assert_eq!(ovs.dump_text().len(), 3);
    client
        .send_bundle(&[FlowMod::delete(None, Match::new()).with_cookie_filter(0x5000, 0xf000)])
        .await
        .unwrap();
    assert_eq!(ovs.dump_text().len(), 0);
}

#[tokio::test]
async fn ports_are_told_and_their_coming_and_going() {
    let ovs = Ovs::start();
    ovs.add_port("p1");
    let (client, mut events) = connect(&ovs).await;
    let ports = client.port_desc().await.unwrap();
    let mut names: Vec<_> = ports.iter().map(|port| (port.number, port.name.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, [(PortNo(1), "p1"), (PortNo::LOCAL, "br0")]);
    // On a .mgmt connection the switch is silent until it is asked to speak.
    client.set_config_async(FragMode::NxMatch, 128).await.unwrap();
    ovs.add_port("p2");
    let status = event(&mut events, |event| match event {
        Event::PortStatus(status) => Some(status),
        _ => None,
    });
    let status = status.await;
    assert_eq!((status.reason, status.port.name.as_str()), (PortReason::Add, "p2"));
    ovs.vsctl(&["del-port", "p2"]);
    let gone = event(&mut events, |event| match event {
        Event::PortStatus(status) if status.reason == PortReason::Delete => Some(status.port.number),
        _ => None,
    });
    assert_eq!(gone.await, status.port.number);
}

#[tokio::test]
async fn the_switch_says_what_it_is_and_how_it_treats_fragments() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let id = ovs.vsctl(&["get", "bridge", "br0", "datapath_id"]);
    assert_eq!(format!("\"{:016x}\"", client.features().await.unwrap().datapath_id), id.trim());
    assert_eq!(client.get_config().await.unwrap().frags, FragMode::Normal);
    client.set_config(FragMode::NxMatch).await.unwrap();
    assert_eq!(client.get_config().await.unwrap().frags, FragMode::NxMatch);
    client.echo().await.unwrap();
}

/// A UDP packet, 10.0.0.1:1000 to 10.0.0.2:`dst`.
fn udp(dst: u16) -> Bytes {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00];
    let mut ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("a small sum");
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&[0x03, 0xe8]);
    frame.extend_from_slice(&dst.to_be_bytes());
    frame.extend_from_slice(&[0, 8, 0, 0]);
    Bytes::from(frame)
}

#[tokio::test]
async fn packets_come_with_userdata_and_registers() {
    let ovs = Ovs::start();
    ovs.add_port("p1");
    let (client, mut events) = connect(&ovs).await;
    client.set_packet_in2().await.unwrap();
    client.set_config_async(FragMode::NxMatch, 65_535).await.unwrap();
    let to_controller = Controller { userdata: vec![1, 2, 3, 4, 5], ..Controller::default() };
    let actions = vec![Action::set_field(Field::Reg(3), 7u32), Action::Controller(to_controller)];
    let flow = Flow::new(5, 9, Match::new(), actions).with_cookie(0xabc);
    client.send_bundle(&[FlowMod::add(&flow)]).await.unwrap();
    let frame = udp(53);
    let packet_out =
        PacketOut { in_port: PortNo(1), actions: vec![Action::resubmit(5)], data: frame.clone() };
    client.packet_out(&packet_out).await.unwrap();
    let packet = event(&mut events, |event| match event {
        Event::PacketIn(packet) => Some(packet),
        _ => None,
    });
    let packet = packet.await;
    assert_eq!((packet.data.clone(), &packet.userdata[..]), (frame, &[1, 2, 3, 4, 5][..]));
    assert_eq!((packet.table, packet.cookie, packet.reason), (5, Some(0xabc), PacketReason::ACTION));
    assert_eq!(
        (packet.in_port(), packet.metadata.get(Field::Reg(3))),
        (Some(PortNo(1)), Some((7, 0xffff_ffff)))
    );
}

/// For an hour: what is to come before that comes for another reason.
#[tokio::test]
async fn who_rests_after_a_packet_takes_the_next_ones_with_the_answer_to_a_question() {
    let ovs = Ovs::start();
    ovs.add_port("p1");
    let config = ConnectionConfig { rest: Duration::from_secs(3600), ..ConnectionConfig::default() };
    let (client, mut events) = Client::connect_with(&ovs.target().parse().unwrap(), config).await.unwrap();
    client.set_packet_in2().await.unwrap();
    client.set_config_async(FragMode::NxMatch, 65_535).await.unwrap();
    client.set_controller_id(21_351).await.unwrap();
    let controller = Controller { id: 21_351, ..Controller::default() };
    let flow = Flow::new(5, 9, Match::new(), vec![Action::Controller(controller)]);
    client.send_bundle(&[FlowMod::add(&flow)]).await.unwrap();
    let (other, _events) = connect(&ovs).await;
    let send = async |port: u16| {
        let packet = PacketOut { in_port: PortNo(1), actions: vec![Action::resubmit(5)], data: udp(port) };
        other.packet_out(&packet).await.unwrap();
    };
    let packet = |event| match event {
        Event::PacketIn(packet) => Some(packet.data),
        _ => None,
    };
    send(1).await;
    assert_eq!(event(&mut events, packet).await, udp(1));
    send(2).await;
    send(3).await;
    let early = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
    assert!(early.is_err(), "{early:?}");
    tokio::time::timeout(PATIENCE, client.barrier()).await.expect("an answer does not wait").unwrap();
    // They are there, before anybody waits for them.
    let mut packets = Vec::new();
    while let Some(news) = events.waiting() {
        let News::Event(Event::PacketIn(packet)) = news else { continue };
        packets.push(packet.data);
    }
    assert_eq!(packets, [udp(2), udp(3)]);
}

#[tokio::test]
async fn connections_are_forgotten_by_tuple_and_by_zone() {
    let ovs = Ovs::start();
    ovs.add_port("p1");
    let (client, _events) = connect(&ovs).await;
    let commit = flow("table=5,udp actions=ct(commit,zone=9)");
    client.send_bundle(&[FlowMod::add(&commit)]).await.unwrap();
    for port in [53, 54, 55] {
        let packet = PacketOut { in_port: PortNo(1), actions: vec![Action::resubmit(5)], data: udp(port) };
        client.packet_out(&packet).await.unwrap();
    }
    let count = || ovs.appctl(&["dpctl/dump-conntrack", "zone=9"]).lines().count();
    assert_eq!(count(), 3);
    let original = CtTuple {
        src: Some(IpAddr::from([10, 0, 0, 1])),
        dst: Some(IpAddr::from([10, 0, 0, 2])),
        src_port: Some(1000),
        dst_port: Some(54),
        icmp: None,
    };
    let other_zone = CtFlush { zone: Some(8), ip_proto: 17, original, ..CtFlush::default() };
    client.ct_flush(&other_zone).await.unwrap();
    assert_eq!(count(), 3);
    client.ct_flush(&CtFlush { zone: Some(9), ..other_zone }).await.unwrap();
    assert_eq!(count(), 2);
    assert!(!ovs.appctl(&["dpctl/dump-conntrack", "zone=9"]).contains("dport=54"));
    client.ct_flush_zone(8).await.unwrap();
    assert_eq!(count(), 2);
    client.ct_flush_zone(9).await.unwrap();
    assert_eq!(count(), 0);
}

#[tokio::test]
async fn monitors_tell_what_others_change() {
    let ovs = Ovs::start();
    let (writer, _others) = connect(&ovs).await;
    let (client, mut events) = connect(&ovs).await;
    let first = member(1).with_cookie(5);
    writer.send_bundle(&[FlowMod::add(&first)]).await.unwrap();
    let flags = MonitorFlags::default().with(MonitorFlags::INITIAL);
    let there = client.monitor_flows(&FlowMonitor::all(1, flags)).await.unwrap();
    assert_eq!(there, [FlowUpdate::Flow { event: FlowUpdateEvent::Initial, flow: first.clone() }]);
    let second = member(2);
    writer.send_bundle(&[FlowMod::add(&second), FlowMod::delete_strict(&first.key())]).await.unwrap();
    let mut updates = Vec::new();
    while updates.len() < 2 {
        updates.extend(
            event(&mut events, |event| match event {
                Event::FlowUpdates(updates) => Some(updates),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(updates[0], FlowUpdate::Flow { event: FlowUpdateEvent::Added, flow: second });
    let FlowUpdate::Flow { event: FlowUpdateEvent::Removed(_), flow } = &updates[1] else {
        panic!("{:?}", updates[1]);
    };
    assert_eq!(flow.key(), first.key());
}

#[tokio::test]
async fn a_refused_request_has_the_error_by_name() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let prerequisite =
        FlowFilter { matches: Match::new().with(Field::TcpDst, 80u32), ..FlowFilter::default() };
    let error = client.dump_flows(&prerequisite).await.unwrap_err();
    assert_eq!(error.of_error().and_then(|error| error.name()), Some("OFPBMC_BAD_PREREQ"));
    let bad =
        PacketOut { in_port: PortNo(1), actions: vec![Action::Output(PortNo(0xfff0_0000))], data: udp(1) };
    let error = client.packet_out(&bad).await.unwrap_err();
    assert_eq!(error.to_string(), "OFPBAC_BAD_OUT_PORT");
}

#[tokio::test]
async fn a_bridge_without_1_4_says_so() {
    let ovs = Ovs::start();
    ovs.vsctl(&["set", "bridge", "br0", "protocols=OpenFlow10,OpenFlow13"]);
    let error = Client::connect(&ovs.target()).await.unwrap_err();
    let ClientError::Connection(ConnectionError::Version { theirs }) = &error else { panic!("{error}") };
    assert_eq!(theirs[..], [1, 4]);
}

#[tokio::test]
async fn a_switch_that_dies_ends_requests_and_events() {
    let mut ovs = Ovs::start();
    let (client, mut events) = connect(&ovs).await;
    ovs.kill_switch();
    let ended = async { while events.next().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the end is told");
    assert!(client.barrier().await.is_err());
    let error = client.send_bundle(&[FlowMod::add(&member(1))]).await.unwrap_err();
    assert_eq!(error.outcome, BundleOutcome::Refused, "it was never asked");
    let error = Client::connect(&ovs.target()).await.unwrap_err();
    assert!(matches!(error, ClientError::Io { .. }), "{error}");
}

/// A switch of a few lines that greets, takes a bundle, and hangs up at the request to commit or before.
fn short_lived_switch(mut stream: impl std::io::Read + std::io::Write, hang_up_at: BundleStep) {
    let (mut framer, mut buffer) = (Framer::default(), vec![0; 65_536]);
    loop {
        let length = stream.read(&mut buffer).expect("the client writes");
        framer.push(&buffer[..length]);
        while let Some(bytes) = framer.next_message().expect("whole messages") {
            let (header, message) = Message::decode(&bytes).expect("readable messages");
            let answer = match message {
                Message::Hello(versions) => Message::Hello(versions),
                Message::BundleControl(control) if control.step == hang_up_at => return,
                Message::BundleControl(control) if control.step == BundleStep::CloseRequest => {
                    Message::BundleControl(BundleControl { step: BundleStep::CloseReply, ..control })
                }
                _ => continue,
            };
            let mut out = bytes::BytesMut::new();
            answer.encode(header.xid, &mut out).expect("an answer");
            stream.write_all(&out).expect("the client reads");
        }
    }
}

#[tokio::test]
async fn a_bundle_whose_commit_is_not_answered_has_an_unknown_outcome() {
    for (hang_up_at, outcome) in [
        (BundleStep::CloseRequest, BundleOutcome::Refused),
        (BundleStep::CommitRequest, BundleOutcome::Unknown),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("tcp:{}", listener.local_addr().unwrap());
        let switch = std::thread::spawn(move || short_lived_switch(listener.accept().unwrap().0, hang_up_at));
        let (client, _events) = Client::connect(&target).await.unwrap();
        let error = client.send_bundle(&[FlowMod::add(&member(1))]).await.unwrap_err();
        assert_eq!(error.outcome, outcome, "{error}");
        switch.join().unwrap();
    }
}

#[tokio::test]
async fn a_bundle_whose_future_is_dropped_leaves_no_trace() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    let adds: Vec<_> = (0..30_000).map(member).map(|flow| FlowMod::add(&flow)).collect();
    {
        let bundle = client.send_bundle(&adds);
        tokio::pin!(bundle);
        // One poll fills the output; nothing of the rest was added yet.
        assert!(poll_once(bundle.as_mut()).await.is_none());
    }
    client.barrier().await.unwrap();
    assert_eq!(ovs.dump_text(), Vec::<String>::new());
    client.send_bundle(&adds[..10]).await.unwrap();
    assert_eq!(ovs.dump_text().len(), 10);
}

/// What a future has after one poll.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        use std::task::Poll;
        match std::pin::Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        }
    })
    .await
}

fn packets_a_second(id: u32, rate: u32, burst: u32) -> MeterConfig {
    let flags = METER_PACKETS | METER_BURST | METER_STATS;
    MeterConfig { id, flags, bands: vec![DropBand { rate, burst }] }
}

#[tokio::test]
async fn meters_are_made_read_back_changed_and_taken_away() {
    let ovs = Ovs::start();
    let (client, _events) = connect(&ovs).await;
    assert_eq!(client.meters().await.unwrap(), []);
    let change = |command, meter| MeterMod { command, meter };
    client.meter_mod(&change(MeterCommand::Add, packets_a_second(21_351, 10, 20))).await.unwrap();
    client.meter_mod(&change(MeterCommand::Add, packets_a_second(7, 1, 1))).await.unwrap();
    client.meter_mod(&change(MeterCommand::Modify, packets_a_second(21_351, 30, 90))).await.unwrap();
    let mut meters = client.meters().await.unwrap();
    meters.sort_by_key(|meter| meter.id);
    assert_eq!(meters, [packets_a_second(7, 1, 1), packets_a_second(21_351, 30, 90)]);
    let again = client.meter_mod(&change(MeterCommand::Add, packets_a_second(7, 1, 1))).await;
    let refused = again.unwrap_err().to_string();
    assert!(refused.contains("OFPMMFC_METER_EXISTS"), "{refused}");
    client.meter_mod(&change(MeterCommand::Delete, packets_a_second(7, 1, 1))).await.unwrap();
    assert_eq!(client.meters().await.unwrap(), [packets_a_second(21_351, 30, 90)]);
}

#[tokio::test]
async fn packets_for_a_controller_of_an_id_come_to_it_alone_and_no_faster_than_the_meter_lets_them() {
    let ovs = Ovs::start();
    ovs.add_port("p1");
    let (client, mut events) = connect(&ovs).await;
    let (other, mut events_of_other) = connect(&ovs).await;
    for client in [&client, &other] {
        client.set_packet_in2().await.unwrap();
        client.set_config_async(FragMode::NxMatch, 65_535).await.unwrap();
    }
    client.set_controller_id(21_351).await.unwrap();
    let meter = packets_a_second(1, 1, 3);
    client.meter_mod(&MeterMod { command: MeterCommand::Add, meter }).await.unwrap();
    let metered = Controller { id: 21_351, meter: Some(1), ..Controller::default() };
    let open = Controller { userdata: vec![9], ..Controller::default() };
    let flow = Flow::new(5, 9, Match::new(), vec![Action::Controller(metered)]);
    let end = Flow::new(6, 9, Match::new(), vec![Action::Controller(open)]);
    client.send_bundle(&[FlowMod::add(&flow), FlowMod::add(&end)]).await.unwrap();
    let send = async |table: u8| {
        let actions = vec![Action::resubmit(table)];
        let packet = PacketOut { in_port: PortNo(1), actions, data: udp(53) };
        client.packet_out(&packet).await.unwrap();
    };
    for _ in 0..200 {
        send(5).await;
    }
    send(6).await;
    let packets = |event| match event {
        Event::PacketIn(packet) => Some(packet),
        _ => None,
    };
    // What is for any controller comes to the other alone, and nothing before it.
    assert_eq!(event(&mut events_of_other, packets).await.table, 6);
    assert_eq!(event(&mut events, packets).await.table, 5);
    client.barrier().await.unwrap();
    let mut count = 1;
    while let Some(News::Event(news)) = poll_once(Box::pin(events.next())).await.transpose().unwrap() {
        let Event::PacketIn(packet) = news else { continue };
        assert_eq!(packet.table, 5);
        count += 1;
    }
    assert!((3..100).contains(&count), "{count} of 200");
}
