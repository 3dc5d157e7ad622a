//! The lab itself, against the real programs. Needs root.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::{
    Capture, Datapath, DummyPort, DummySpec, FailMode, Mac, Ovs, OvsOptions, PingVerdict, Stream, StreamSpec,
    Streaming, TcpProbe, TcpVerdict, UdpProbe, UdpVerdict, Vm, VmSpec,
};

const WITHIN: Duration = Duration::from_secs(20);

fn mac(last: u8) -> Mac {
    Mac([0xfa, 0x16, 0x3e, 0, 0, last])
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address literal")
}

fn started(datapath: Datapath) -> Ovs {
    Ovs::start(OvsOptions { datapath, named: None }).expect("Open vSwitch starts")
}

/// A VM with `10.0.0.n` and `2001:db8::n` on `br-int`.
fn vm(ovs: &Ovs, name: &str, n: u8) -> Vm {
    let spec = VmSpec::new(name, &format!("p-{n}"), mac(n))
        .address(&format!("10.0.0.{n}/24"))
        .and_then(|spec| spec.address(&format!("2001:db8::{n}/64")))
        .expect("an address with its prefix length");
    ovs.add_vm(spec.tag(10)).expect("the VM is plugged in")
}

fn flows(ovs: &Ovs) -> usize {
    ovs.ofctl(&["dump-flows", "br-int"]).expect("the bridge answers").matches("actions=").count()
}

#[test]
fn two_labs_run_side_by_side_and_leave_nothing() {
    let (one, two) = (started(Datapath::Netdev), started(Datapath::Netdev));
    for ovs in [&one, &two] {
        ovs.add_bridge("br-int", FailMode::Secure).unwrap();
        assert_eq!(ovs.vsctl(&["list-br"]).unwrap(), "br-int\n");
        assert_eq!(ovs.vsctl(&["get", "Bridge", "br-int", "fail_mode"]).unwrap(), "secure\n");
        assert!(ovs.mgmt("br-int").exists());
        assert_eq!(flows(ovs), 0);
    }
    let traces = [&one, &two].map(|ovs| (ovs.rundir().to_owned(), ovs.vswitchd_pid().unwrap()));
    assert_ne!(traces[0], traces[1]);
    drop(one);
    assert_eq!(two.appctl("version", &[]).unwrap().lines().count(), 1, "the other one lives on");
    drop(two);
    for (rundir, pid) in traces {
        assert!(!rundir.exists(), "{}", rundir.display());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn probes_tell_open_from_closed_and_silent() {
    let ovs = started(Datapath::Netdev);
    ovs.add_bridge("br-int", FailMode::Standalone).unwrap();
    let (a, b) = (vm(&ovs, "a", 1), vm(&ovs, "b", 2));
    let server = b.listen_tcp(addr("0.0.0.0:80")).unwrap();
    let _server6 = b.listen_tcp(addr("[2001:db8::2]:81")).unwrap();
    let _echo = b.echo_udp(addr("10.0.0.2:53")).unwrap();
    let _echo6 = b.echo_udp(addr("[2001:db8::2]:53")).unwrap();

    for to in [b.ipv4().unwrap(), b.ipv6().unwrap()] {
        assert_eq!(a.ping(to, WITHIN).unwrap(), PingVerdict::Replied, "{to}");
        assert_eq!(a.probe_udp(&UdpProbe::new(SocketAddr::new(to, 53))).unwrap(), UdpVerdict::Echoed, "{to}");
        assert_eq!(
            a.probe_udp(&UdpProbe::new(SocketAddr::new(to, 54))).unwrap(),
            UdpVerdict::Refused,
            "{to}"
        );
        assert_eq!(
            a.probe_tcp(&TcpProbe::new(SocketAddr::new(to, 82))).unwrap(),
            TcpVerdict::Refused,
            "{to}"
        );
    }
    let from = TcpProbe { from: Some(addr("10.0.0.1:40000")), ..TcpProbe::new(addr("10.0.0.2:80")) };
    assert_eq!(a.probe_tcp(&from).unwrap(), TcpVerdict::Connected);
    assert_eq!(a.probe_tcp(&TcpProbe::new(addr("[2001:db8::2]:81"))).unwrap(), TcpVerdict::Connected);
    // The kernel answers for the server, which counts a moment later.
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.accepted() == 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.accepted(), 1);
    assert!(a.run(&["ip", "-o", "link", "show", "eth0"]).unwrap().contains("fa:16:3e:00:00:01"));

    // From here the switch drops everything but ARP and neighbour discovery.
    ovs.ofctl(&["del-flows", "br-int"]).unwrap();
    ovs.ofctl(&["add-flow", "br-int", "arp,actions=NORMAL"]).unwrap();
    ovs.ofctl(&["add-flow", "br-int", "icmp6,icmpv6_type=135,actions=NORMAL"]).unwrap();
    ovs.ofctl(&["add-flow", "br-int", "icmp6,icmpv6_type=136,actions=NORMAL"]).unwrap();
    ovs.wait_for_caches().unwrap();
    let short = Duration::from_millis(300);
    for to in [b.ipv4().unwrap(), b.ipv6().unwrap()] {
        assert_eq!(a.ping(to, short).unwrap(), PingVerdict::Silent, "{to}");
        let tcp = TcpProbe { within: short, ..TcpProbe::new(SocketAddr::new(to, 80)) };
        assert_eq!(a.probe_tcp(&tcp).unwrap(), TcpVerdict::TimedOut, "{to}");
        let udp = UdpProbe { within: short, ..UdpProbe::new(SocketAddr::new(to, 53)) };
        assert_eq!(a.probe_udp(&udp).unwrap(), UdpVerdict::Silent, "{to}");
    }
}

#[test]
fn a_stream_counts_what_arrives_and_stops_with_the_switch() {
    let ovs = started(Datapath::Netdev);
    ovs.add_bridge("br-int", FailMode::Standalone).unwrap();
    let (a, b) = (vm(&ovs, "a", 1), vm(&ovs, "b", 2));
    let spec = |port, server, streaming| StreamSpec { server, port, from: None, streaming };
    let v4 = Stream::open(&a, &b, &spec(80, b.ipv4().unwrap(), Streaming::ToClient)).unwrap();
    let v6 = Stream::open(&a, &b, &spec(81, b.ipv6().unwrap(), Streaming::BothWays)).unwrap();
    for stream in [&v4, &v6] {
        stream.wait_for_progress(20_000, WITHIN).unwrap();
        assert!(stream.is_whole());
    }
    assert_eq!(v4.received_by_server(), 0, "only the server of the first one sends");
    assert!(v6.received_by_server() >= 20_000);

    ovs.ofctl(&["del-flows", "br-int"]).unwrap();
    ovs.wait_for_caches().unwrap();
    let cut = [v4.received_by_client(), v6.received_by_client(), v6.received_by_server()];
    assert!(v4.wait_for_progress(1, Duration::from_millis(500)).is_err());
    assert_eq!(cut, [v4.received_by_client(), v6.received_by_client(), v6.received_by_server()]);

    ovs.ofctl(&["add-flow", "br-int", "actions=NORMAL"]).unwrap();
    for stream in [&v4, &v6] {
        stream.wait_for_progress(5_000, WITHIN).unwrap();
        assert!(stream.is_whole() && stream.retransmits() > 0);
    }
}

#[test]
fn a_frame_that_a_vm_sends_arrives_as_it_was_tag_included() {
    let ovs = started(Datapath::Netdev);
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    let (a, b) = (vm(&ovs, "a", 1), vm(&ovs, "b", 2));
    let trunk = ovs.add_vm(VmSpec::outside("trunk", mac(3))).unwrap();
    let (at_b, at_trunk) = (b.capture().unwrap(), trunk.capture().unwrap());
    // To everybody: the bridge may have learnt already where b is.
    let frame = [&[0xff; 6][..], &mac(1).0, &[0x88, 0xb5], &[7; 46]].concat();
    a.send_frame(&frame).unwrap();
    assert_eq!(next_test_frame(&at_b, Duration::from_millis(300)), None, "no flow, no frame");

    ovs.ofctl(&["add-flow", "br-int", "actions=NORMAL"]).unwrap();
    ovs.wait_for_caches().unwrap();
    a.send_frame(&frame).unwrap();
    assert_eq!(next_test_frame(&at_b, WITHIN).as_deref(), Some(&frame[..]));
    let tagged = [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat();
    assert_eq!(next_test_frame(&at_trunk, WITHIN), Some(tagged));
    assert!(at_trunk.drain().unwrap().iter().all(|frame| !is_test_frame(frame)));
}

/// The next frame of the test's own ethertype; the kernels of the VMs send MLD reports beside.
fn next_test_frame(capture: &Capture, within: Duration) -> Option<Vec<u8>> {
    std::iter::from_fn(|| capture.next(within).expect("the interface is there"))
        .find(|frame| is_test_frame(frame))
}

fn is_test_frame(frame: &[u8]) -> bool {
    frame.windows(3).any(|bytes| bytes == [0x88, 0xb5, 7])
}

#[test]
fn frames_of_one_lane_keep_their_order_from_port_to_port() {
    let ovs = started(Datapath::Dummy);
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    let names = ["a1", "a2", "aout", "b1", "b2", "bout"];
    let ports = ovs.add_dummy_ports("br-int", names.map(DummySpec::new).to_vec()).unwrap();
    let [a1, a2, aout, b1, b2, bout] = &ports[..] else { panic!("six ports") };
    for (from, to) in [(a1, aout), (a2, aout), (b1, bout), (b2, bout)] {
        let [from, to] = [from, to].map(|port| ovs.ofport(port.name()).unwrap());
        ovs.ofctl(&["add-flow", "br-int", &format!("in_port={from},actions=output:{to}")]).unwrap();
    }
    let frame = |n: u16| [&mac(2).0[..], &mac(1).0, &[0x88, 0xb5], &n.to_be_bytes(), &[0; 44]].concat();
    let frames: Vec<_> = (0..600).map(frame).collect();
    // The switch polls the later port of a bridge first or last, so that either way round some order would be lost.
    let lane = |one, other| {
        frames.iter().zip([one, other, other].into_iter().cycle()).map(|(f, p)| (p, f)).collect()
    };
    DummyPort::receive_in_lanes(&ovs, &[lane(a1, a2), lane(b2, b1)]).unwrap();
    assert!(aout.take_sent().unwrap() == frames);
    assert!(bout.take_sent().unwrap() == frames);

    // Others of which nothing comes any more leave the last lane's frames as far from each other as they were.
    let others = (0..12).map(|n| DummySpec::new(&format!("c{n}"))).collect();
    let others = ovs.add_dummy_ports("br-int", others).unwrap();
    for (one, other, out) in [(a1, a2, aout), (b2, b1, bout)].into_iter().cycle().take(200) {
        let last = vec![(one, &frames[0]), (other, &frames[1])];
        let lanes = others.iter().map(|port| vec![(port, &frames[0])]).chain([last]);
        DummyPort::receive_in_lanes(&ovs, &lanes.collect::<Vec<_>>()).unwrap();
        assert!(out.take_sent().unwrap() == frames[..2]);
    }
}

/// The userspace datapath's table of flows shrinks while a round takes most of them away, and the round passes over the
/// rest. How many are left after each round is printed (docs/decisions/0009).
#[test]
fn caches_are_waited_for_until_no_round_passes_over_a_flow() {
    let cached = |ovs: &Ovs| ovs.appctl("dpctl/dump-flows", &[]).unwrap().matches("udp(src=").count();
    let ovs = with_stale_flows(4000);
    // Each change makes one round, which is over long before it is looked for.
    let left = (0..20).map(|_| {
        thread::sleep(Duration::from_millis(200));
        let left = cached(&ovs);
        ovs.ofctl(&["del-flows", "br-int", "table=7"]).unwrap();
        left
    });
    println!("stale flows after each round: {:?}", left.take_while(|left| *left > 0).collect::<Vec<_>>());

    let ovs = with_stale_flows(4000);
    hurried(&ovs, || ovs.wait_for_caches().unwrap());
    assert_eq!(cached(&ovs), 0);
}

/// A switch whose datapath has this many flows that the tables do not ask for any more, and whose revalidators have seen
/// none of them.
fn with_stale_flows(count: u16) -> Ovs {
    let ovs = started(Datapath::Dummy);
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let port = ovs.add_dummy_port("br-int", DummySpec::new("d1")).expect("a port");
    let never = ["other_config:max-revalidator=3600000", "other_config:max-idle=3600000"];
    ovs.vsctl(&["set", "Open_vSwitch", ".", never[0], never[1]]).expect("set");
    let by_source: Vec<_> = (1..=count).map(|port| format!("udp,tp_src={port},actions=drop\n")).collect();
    let flows = ovs.rundir().join("flows");
    fs::write(&flows, by_source.concat()).expect("written");
    let flows = flows.to_str().expect("a path of letters");
    ovs.ofctl(&["--bundle", "add-flows", "br-int", flows]).expect("taken");
    let header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0x66, 0xcf, 10, 0, 0, 1, 10, 0, 0, 2];
    let datagram = |from: u16| {
        let udp = [&from.to_be_bytes()[..], &[0, 53, 0, 8, 0, 0]].concat();
        [&mac(2).0[..], &mac(1).0, &[8, 0], &header, &udp].concat()
    };
    port.receive_all(&(1..=count).map(datagram).collect::<Vec<_>>()).expect("sent");
    fs::write(flows, "udp,tp_dst=53,actions=drop\n").expect("written");
    ovs.ofctl(&["--bundle", "replace-flows", "br-int", flows]).expect("taken");
    ovs
}

/// Does something while changes of the tables hurry the revalidators.
fn hurried(ovs: &Ovs, waits: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let waits = scope.spawn(waits);
        while !waits.is_finished() {
            ovs.ofctl(&["del-flows", "br-int", "table=7"]).expect("nothing there");
        }
        waits.join().expect("no panic there");
    });
}

#[test]
fn dummy_ports_carry_frames_and_outlive_a_crash_of_the_switch() {
    let mut ovs = started(Datapath::Dummy);
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    let spec = |name: &str, tag| DummySpec { port_id: Some(name.to_owned()), tag, ..DummySpec::new(name) };
    let ports = ovs
        .add_dummy_ports("br-int", vec![spec("d1", Some(10)), spec("d2", Some(10)), spec("up", None)])
        .unwrap();
    assert_eq!(ovs.vsctl(&["get", "Interface", "d1", "external_ids:iface-id"]).unwrap(), "d1\n");
    let frame = |n: u16| [&mac(2).0[..], &mac(1).0, &[0x88, 0xb5], &n.to_be_bytes(), &[0; 44]].concat();
    for life in 0..2 {
        ovs.ofctl(&["add-flow", "br-int", "actions=NORMAL"]).unwrap();
        let sent: Vec<_> = (0..300).map(frame).collect();
        ports[0].receive_all(&sent).unwrap();
        let seen = ports[1].take_sent().unwrap();
        assert_eq!(seen.len(), 300, "life {life}: all of them");
        assert!(seen == sent, "life {life}: in order, unchanged");
        let tagged = ports[2].take_sent().unwrap();
        assert_eq!((tagged.len(), &tagged[0][12..16]), (300, &[0x81, 0, 0, 10][..]));
        assert_eq!(ports[0].take_sent().unwrap(), Vec::<Vec<u8>>::new());
        ports[0].receive(&frame(9)).unwrap();
        assert_eq!(ports[1].take_sent().unwrap(), [frame(9)]);
        assert_eq!(ports[2].take_sent().unwrap().len(), 1);
        ovs.kill_vswitchd();
        assert!(ports[0].receive(&frame(1)).is_err());
        ovs.start_vswitchd().unwrap();
        assert_eq!(flows(&ovs), 0, "secure: nothing is open after a crash");
    }
    assert!(ports[0].receive(&[0; 4]).is_err(), "shorter than an Ethernet header");
}

#[test]
fn a_trace_ends_with_the_actions_on_the_datapath() {
    let ovs = started(Datapath::Dummy);
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    ovs.add_dummy_port("br-int", DummySpec::new("d1")).unwrap();
    let in_port = ovs.ofport("d1").unwrap();
    let flow = format!("in_port={in_port},tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_dst=80");
    assert!(ovs.trace("br-int", &flow, None).unwrap().is_dropped());
    ovs.ofctl(&["add-flow", "br-int", "table=0,tcp,actions=ct(table=1)"]).unwrap();
    ovs.ofctl(&["add-flow", "br-int", "table=1,ct_state=+new,actions=IN_PORT"]).unwrap();
    let trace = ovs.trace("br-int", &flow, None).unwrap();
    assert!(!trace.is_dropped());
    assert!(trace.megaflow().unwrap().contains("ct_state=+new"), "{}", trace.text());
    assert!(ovs.trace("br-int", "no such flow", None).is_err());
    assert!(ovs.ofport("d2").is_err());
}

#[test]
fn the_database_may_go_and_come_back() {
    let mut ovs = started(Datapath::Dummy);
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    ovs.stop_ovsdb();
    assert!(ovs.appctl("version", &[]).is_ok(), "the switch lives on");
    ovs.start_ovsdb().unwrap();
    assert_eq!(ovs.vsctl(&["list-br"]).unwrap(), "br-int\n");
    ovs.stop_vswitchd();
    assert!(ovs.vswitchd_pid().is_err() && ovs.appctl("version", &[]).is_err());
    ovs.add_bridge("br-two", FailMode::Secure).unwrap();
    ovs.start_vswitchd().unwrap();
    assert!(ovs.mgmt("br-two").exists());
    assert!(ovs.vswitchd_rss_bytes().unwrap() > 1 << 20);
    assert!(ovs.vswitchd_cpu().unwrap() < Duration::from_secs(3600));
}

#[test]
fn bad_specifications_are_refused() {
    let ovs = started(Datapath::Netdev);
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    assert!(ovs.add_vm(VmSpec::new("twelve-bytes", "p", mac(1))).is_err());
    assert!(VmSpec::new("a", "p", mac(1)).address("10.0.0.1").is_err());
    assert!(Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: Some("a/b".into()) }).is_err());
}
