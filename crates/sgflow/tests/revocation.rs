//! Revocation is exact (semantics, "Rules and connections"): after `apply` returns, a connection that no rule would
//! admit any more passes no byte in either direction, and one that some rule still admits has lost nothing. Real TCP,
//! client streaming, server streaming and both, IPv4 and IPv6.

mod common;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use common::{apply, document, stderr};
use lab::{FailMode, Mac, Ovs, OvsOptions, Stream, StreamSpec, Streaming, Vm, VmSpec};

/// Two clients and a server. Port 5000 is open to everybody by two rules and to client-2 by two others; port 6000 is
/// open to the members of group `clients`.
const POLICY: &str = r#"
security_groups:
- {id: out, security_group_rules: [
    {id: out-4, direction: egress, ethertype: IPv4}, {id: out-6, direction: egress, ethertype: IPv6}]}
- {id: clients, security_group_rules: []}
- {id: server, security_group_rules: [
    {id: all-4, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 5000, port_range_max: 5000},
    {id: all-6, direction: ingress, ethertype: IPv6, protocol: tcp, port_range_min: 5000, port_range_max: 5000},
    {id: two-4, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 4999, port_range_max: 5001, remote_ip_prefix: 10.0.0.2/32},
    {id: two-6, direction: ingress, ethertype: IPv6, protocol: tcp, port_range_min: 4999, port_range_max: 5001, remote_ip_prefix: "2001:db8::2/128"},
    {id: member-4, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 6000, port_range_max: 6000, remote_group_id: clients},
    {id: member-6, direction: ingress, ethertype: IPv6, protocol: tcp, port_range_min: 6000, port_range_max: 6000, remote_group_id: clients}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}, {ip_address: "2001:db8::1"}], security_groups: [out, clients]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}, {ip_address: "2001:db8::2"}], security_groups: [out, clients]}
- {id: p-3, network_id: n, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.3}, {ip_address: "2001:db8::3"}], security_groups: [server]}
"#;

/// Bytes that count as flowing.
const FLOWING_BYTES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a cut connection is watched: long enough for retransmissions of both ends.
const WATCH: Duration = Duration::from_secs(3);

const BY_RULE: u16 = 5000;
const BY_MEMBER: u16 = 6000;

/// Dropped with it, the streams end before the VMs, and these before the switch.
struct Host {
    client_1: Vm,
    client_2: Vm,
    server: Vm,
    ovs: Ovs,
}

impl Host {
    fn new() -> Self {
        let ovs = Ovs::start(OvsOptions::default()).expect("Open vSwitch starts");
        ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
        let vm = |number: u8| {
            let spec = VmSpec::new(
                &format!("vm-{number}"),
                &format!("p-{number}"),
                Mac([0xfa, 0x16, 0x3e, 0, 0, number]),
            );
            let spec = spec
                .address(&format!("10.0.0.{number}/24"))
                .and_then(|s| s.address(&format!("2001:db8::{number}/64")));
            ovs.add_vm(spec.expect("good addresses").tag(10)).expect("a VM")
        };
        let host = Host { client_1: vm(1), client_2: vm(2), server: vm(3), ovs };
        host.enforce(POLICY);
        host
    }

    fn enforce(&self, policy: &str) {
        let path: PathBuf = document(&self.ovs, policy);
        let output = apply(&self.ovs, &path, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    /// Streams of every kind from the client to a port of the server, all of them flowing.
    fn streams(&self, client: &Vm, port: u16) -> Vec<Stream> {
        let mut streams = Vec::new();
        for server in [self.server.ipv4(), self.server.ipv6()] {
            for streaming in [Streaming::ToServer, Streaming::ToClient, Streaming::BothWays] {
                let spec = StreamSpec { server: server.expect("both families"), port, from: None, streaming };
                streams
                    .push(Stream::open(client, &self.server, &spec).expect("an admitted connection opens"));
            }
        }
        flows_on(&streams);
        streams
    }

    /// The policy with the server's port trusted: both accept every packet of the streams.
    fn enforce_without_port_security(&self) {
        let line = POLICY.lines().find(|line| line.contains("id: p-3")).expect("the server's port");
        let trusted = line.replace("[server]}", "[server], port_security_enabled: false}");
        assert_ne!(line, trusted);
        self.enforce(&POLICY.replace(line, &trusted));
    }

    /// Waits for a moment when the client and the server have received every TCP segment that they ever sent each other. Ends
    /// are asked, because the switch counts a packet by the flows that are there when its cache is looked through, not by
    /// those that it met.
    fn lost_nothing(&self) {
        let sum = |columns: &[&str]| {
            let of = |vm: &Vm| columns.iter().map(|column| tcp_counter(vm, column)).sum::<u64>();
            of(&self.client_2) + of(&self.server)
        };
        // Asked in this order, what is under way counts as lost; what is lost never counts as under way.
        let missing = || {
            let received = sum(&["InSegs"]);
            sum(&["OutSegs", "RetransSegs"]) - received
        };
        let deadline = Instant::now() + PATIENCE;
        let mut least = missing();
        while least > 0 {
            assert!(Instant::now() < deadline, "{least} segments were lost");
            least = least.min(missing());
        }
    }

    /// Packets in table `drop`, all reasons.
    fn dropped(&self) -> u64 {
        let text =
            self.ovs.ofctl(&["-O", "OpenFlow14", "dump-flows", "br-int", "table=128"]).expect("a dump");
        let counts =
            text.split("n_packets=").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok());
        counts.sum()
    }
}

/// A counter of the VM's kernel, both families (proc_net_snmp(5)).
fn tcp_counter(vm: &Vm, name: &str) -> u64 {
    let read = || fs::read_to_string("/proc/thread-self/net/snmp");
    let text = vm.netns().enter(read).expect("its namespace").expect("its counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|column| column == name).expect("the counter");
    values.split(' ').nth(at).expect("its value").parse().expect("a number")
}

fn received(streams: &[Stream]) -> Vec<u64> {
    streams.iter().map(|stream| stream.received_by_client() + stream.received_by_server()).collect()
}

fn flows_on(streams: &[Stream]) {
    for stream in streams {
        stream.wait_for_progress(FLOWING_BYTES, PATIENCE).expect("bytes flow");
        assert!(stream.is_whole(), "bytes are missing or garbled");
    }
}

/// Takes the rules of these ids out of the document.
fn without(policy: &str, rules: &[&str]) -> String {
    let lines =
        policy.lines().filter(|line| !rules.iter().any(|rule| line.contains(&format!("id: {rule},"))));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_rule_that_goes_cuts_its_connections_both_ways_and_they_revive_when_it_comes_back() {
    let host = Host::new();
    let revoked = host.streams(&host.client_1, BY_RULE);
    let admitted = host.streams(&host.client_2, BY_RULE);

    host.enforce(&without(POLICY, &["all-4", "all-6"]));
    let held = received(&revoked);
    thread::sleep(WATCH);
    assert_eq!(received(&revoked), held, "bytes passed after apply returned");
    flows_on(&admitted);

    host.enforce(POLICY);
    flows_on(&revoked);
}

#[test]
fn a_member_that_leaves_is_cut_both_ways_and_the_others_are_not() {
    let host = Host::new();
    let revoked = host.streams(&host.client_1, BY_MEMBER);
    let admitted = host.streams(&host.client_2, BY_MEMBER);

    let (stays, leaves) =
        ("2001:db8::1\"}], security_groups: [out, clients]", "2001:db8::1\"}], security_groups: [out]");
    assert!(POLICY.contains(stays));
    host.enforce(&POLICY.replace(stays, leaves));
    let held = received(&revoked);
    thread::sleep(WATCH);
    assert_eq!(received(&revoked), held, "bytes passed after apply returned");
    flows_on(&admitted);
}

#[test]
fn a_connection_that_another_rule_admits_loses_not_one_packet() {
    let host = Host::new();
    let admitted = host.streams(&host.client_2, BY_RULE);
    let before = host.dropped();
    host.enforce(&without(POLICY, &["all-4", "all-6"]));
    flows_on(&admitted);
    assert_eq!(
        host.dropped(),
        before,
        "the switch dropped a packet, and nothing but these connections sends any"
    );
}

#[test]
fn a_port_that_becomes_trusted_loses_not_one_packet() {
    let host = Host::new();
    let admitted = host.streams(&host.client_2, BY_RULE);
    host.enforce_without_port_security();
    flows_on(&admitted);
    host.lost_nothing();
}

#[test]
#[ignore = "fails: the tracker does not follow a connection while its port is trusted; afterwards what is sent lies outside \
            the window that it remembers, and is ct-invalid for as long as it remembers"]
fn a_port_that_is_trusted_for_a_while_loses_not_one_packet() {
    let host = Host::new();
    let admitted = host.streams(&host.client_2, BY_RULE);
    host.enforce_without_port_security();
    flows_on(&admitted);
    host.enforce(POLICY);
    flows_on(&admitted);
    host.lost_nothing();
}
