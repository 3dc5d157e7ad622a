//! The kernel's tracked connections against conntrack(8) and real traffic.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use conntrack::{Connection, Conntrack, Ends, Event, Events, Status};
use lab::NetNs;

/// Runs in a network namespace that nobody else uses, with its loopback up and tracked, in zone 7 what comes to port 7.
fn alone(test: impl FnOnce() + Send) {
    let namespace = NetNs::new().expect("a namespace");
    namespace
        .enter(|| {
            run("ip", &["link", "set", "lo", "up"]);
            for tables in ["iptables", "ip6tables"] {
                run(
                    tables,
                    &["-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW,ESTABLISHED", "-j", "ACCEPT"],
                );
                for (chain, port) in [
                    ("OUTPUT", "--dport"),
                    ("OUTPUT", "--sport"),
                    ("PREROUTING", "--dport"),
                    ("PREROUTING", "--sport"),
                ] {
                    run(
                        tables,
                        &["-t", "raw", "-A", chain, "-p", "udp", port, "7", "-j", "CT", "--zone", "7"],
                    );
                }
            }
            test();
        })
        .expect("it can be entered");
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it is installed");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn dump(table: &mut Conntrack, zone: Option<u16>) -> Vec<Connection> {
    let mut connections = Vec::new();
    table.dump(zone, |connection| connections.push(connection)).unwrap();
    connections
}

/// A datagram to this port of the loopback, and the answer.
fn datagram(address: &str, port: u16) {
    let server = UdpSocket::bind((address, port)).unwrap();
    let client = UdpSocket::bind((address, 0)).unwrap();
    client.send_to(b"?", (address, port)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
    server.send_to(b"!", from).unwrap();
    client.recv_from(&mut [0; 8]).unwrap();
}

#[test]
fn connections_are_told_with_zone_state_and_both_directions() {
    alone(|| {
        for address in ["127.0.0.1", "::1"] {
            datagram(address, 7);
            datagram(address, 53);
        }
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:80").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        for address in ["127.0.0.1", "::1"] {
            run("ping", &["-c", "1", "-q", address]);
        }
        let mut table = Conntrack::open().unwrap();
        let all = dump(&mut table, None);
        let told: BTreeSet<String> = all.iter().map(|c| format!("{} {}", c.zone, service(c))).collect();
        let expected =
            ["7 udp4 7", "0 udp4 53", "7 udp6 7", "0 udp6 53", "0 tcp4 80", "0 icmp4 8", "0 icmp6 128"];
        assert_eq!(told, expected.map(str::to_owned).into());
        assert_eq!(dump(&mut table, Some(7)).len(), 2);
        assert_eq!(dump(&mut table, Some(0)).len(), 5);
        assert_eq!(dump(&mut table, Some(8)), []);
        for connection in &all {
            assert!(connection.status.has(Status::SEEN_REPLY) && connection.status.has(Status::CONFIRMED));
            assert_eq!(connection.original.source, connection.reply.destination);
            assert!(connection.timeout.is_some() && connection.id.is_some());
        }
        // TCP_CONNTRACK_ESTABLISHED.
        let states: BTreeSet<_> = all.iter().filter_map(|c| c.tcp_state).collect();
        assert_eq!(states, [3].into());
        assert_eq!(run("conntrack", &["-L"]).lines().count(), all.len());
    });
}

/// Protocol, family, and what the connection was begun for.
fn service(connection: &Connection) -> String {
    let name = match connection.original.protocol {
        6 => "tcp",
        17 => "udp",
        1 | 58 => "icmp",
        other => panic!("{other}"),
    };
    let family = if connection.original.source.is_ipv4() { 4 } else { 6 };
    let what = match connection.original.ends {
        Ends::Ports { destination, .. } => destination,
        Ends::Icmp { icmp_type, .. } => icmp_type.into(),
        Ends::Addresses => 0,
    };
    format!("{name}{family} {what}")
}

#[test]
fn exactly_this_connection_is_marked_and_forgotten() {
    alone(|| {
        for address in ["127.0.0.1", "::1"] {
            datagram(address, 7);
            datagram(address, 53);
            run("ping", &["-c", "1", "-q", address]);
        }
        let mut table = Conntrack::open().unwrap();
        let all = dump(&mut table, None);
        assert_eq!(all.len(), 6);
        let in_zone = dump(&mut table, Some(7));
        assert_eq!(table.set_mark(&in_zone, 0xab).unwrap(), 2);
        let marked: BTreeSet<(u16, u32)> = dump(&mut table, None).iter().map(|c| (c.zone, c.mark)).collect();
        assert_eq!(marked, [(7, 0xab), (0, 0)].into());
        for connection in &all {
            assert_eq!(table.delete([connection]).unwrap(), 1, "{}", connection.original);
            assert_eq!(table.delete([connection]).unwrap(), 0, "{}", connection.original);
            let left = dump(&mut table, None);
            assert!(left.iter().all(|other| other.id != connection.id));
        }
        assert_eq!(dump(&mut table, None), []);
        assert_eq!(table.set_mark(&all, 1).unwrap(), 0);
        assert_eq!(dump(&mut table, None), [], "nothing was made anew");
    });
}

#[test]
fn labels_and_counters_are_read() {
    alone(|| {
        std::fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1").unwrap();
        run("iptables", &["-I", "INPUT", "-m", "connlabel", "--label", "5", "--set"]);
        datagram("127.0.0.1", 53);
        let mut table = Conntrack::open().unwrap();
        let [connection] = &dump(&mut table, None)[..] else { panic!("one connection") };
        assert_eq!(connection.labels, Some(1 << 5));
        assert_eq!(connection.counters, [Some((1, 29)), Some((1, 29))]);
    });
}

#[test]
fn news_are_told_as_they_come() {
    alone(|| {
        let mut events = Events::open().unwrap();
        datagram("127.0.0.1", 53);
        let mut table = Conntrack::open().unwrap();
        let [connection] = &dump(&mut table, None)[..] else { panic!("one connection") };
        table.set_mark([connection], 9).unwrap();
        table.delete([connection]).unwrap();
        let mut told = Vec::new();
        while !matches!(told.last(), Some(Event::Destroy(_))) {
            told.extend(events.wait().unwrap());
        }
        let of = |event: &Event| match event {
            Event::New(connection) | Event::Update(connection) | Event::Destroy(connection) => {
                connection.clone()
            }
        };
        assert!(matches!(told[0], Event::New(_)), "{told:?}");
        assert!(
            told.iter().any(|event| matches!(event, Event::Update(connection) if connection.mark == 9)),
            "{told:?}"
        );
        assert!(told.iter().all(|event| of(event).original == connection.original), "{told:?}");
    });
}
