//! `sgflow migrate hybrid-to-ovs` of a guest with traffic: forwards, back, and killed at any instant.
//!
//! `SGFLOW_KILLS` says how often it is killed; docs/migration.md has the figures of a long run.

#[path = "../../crates/sgflow/tests/common/mod.rs"]
mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::traffic::{Over, datagram};
use common::{Agent, document, eventually, is_exact, sgflow, socket, status, stderr, stdout};
use lab::{FailMode, NetNs, Ovs, OvsOptions, PingVerdict, Stream, StreamSpec, Streaming, Tap, Vm, VmSpec};

/// The guest serves its peer, and is served by it; nobody else.
const POLICY: &str = r#"
security_groups:
- {id: guest, security_group_rules: [
    {id: e, direction: egress, ethertype: IPv4},
    {id: i, direction: ingress, ethertype: IPv4, protocol: icmp, remote_group_id: peer},
    {id: t, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80, remote_group_id: peer}]}
- {id: peer, security_group_rules: [
    {id: pe, direction: egress, ethertype: IPv4},
    {id: pi, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 5000, port_range_max: 5000},
    {id: pu, direction: ingress, ethertype: IPv4, protocol: udp}]}
- {id: stranger, security_group_rules: [{id: se, direction: egress, ethertype: IPv4}]}
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [guest]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [peer]}
- {id: p-3, network_id: n, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [stranger]}
"#;

/// As os-vif makes them for a device that is there.
const PLUMBING: &str = "
ip link set tap-g mtu 1450 up
ip link add qbr-g type bridge forward_delay 0 ageing_time 0 stp_state 0 mcast_snooping 0
ip link add qvb-g mtu 1450 type veth peer name qvo-g mtu 1450
ip link set qvb-g master qbr-g up
ip link set tap-g master qbr-g
ip link set qbr-g up
ip link set qvo-g up
";

/// A host with a guest behind a hybrid bridge, and its peer and a stranger on the switch.
struct Host {
    agent: Agent,
    guest: Vm,
    peer: Vm,
    stranger: Vm,
    _tap: Tap,
    _outside: NetNs,
    ovs: Ovs,
    /// Which of the two kinds keeps the rules.
    iptables: &'static str,
}

impl Host {
    fn start() -> Self {
        Self::start_with("nft")
    }

    fn start_with(iptables: &'static str) -> Self {
        let ovs = Ovs::start(OvsOptions::default()).expect("Open vSwitch starts");
        ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
        let vm = |name: &str, number: u8| {
            let mac = format!("fa:16:3e:00:00:{number:02x}").parse().expect("a MAC");
            let spec = VmSpec::new(name, &format!("p-{number}"), mac).tag(10);
            ovs.add_vm(spec.address(&format!("10.0.0.{number}/24")).expect("an address")).expect("a VM")
        };
        let (guest, peer, stranger) = (vm("g", 1), vm("peer", 2), vm("stranger", 3));
        let ids = ovs.vsctl(&["get", "Interface", "tap-g", "external_ids"]).expect("a row");
        ovs.del_port("tap-g").expect("it is there");
        // The guest's device becomes one as a hypervisor has it.
        let outside = NetNs::new().expect("a namespace");
        shell(ovs.netns(), &format!("ip link set tap-g netns {} name vm-g", outside.path()));
        shell(&outside, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set vm-g up");
        let tap = Tap::join(ovs.netns(), "tap-g", &outside, "vm-g").expect("a tap");
        shell(ovs.netns(), PLUMBING);
        let ids = format!("external_ids={}", ids.trim());
        ovs.vsctl(&["add-port", "br-int", "qvo-g", "tag=10", "--", "set", "Interface", "qvo-g", &ids])
            .expect("a port");
        document(&ovs, POLICY);
        let hybrid = ["--driver", "iptables_hybrid", "--iptables-variant", iptables];
        let agent = Agent::start_at_home(&ovs, &hybrid);
        // The guest's neighbours are on the switch, where this driver filters nobody, and says so.
        eventually("in force", || {
            let said = stdout(&status(&ovs, &[])).split_whitespace().collect::<Vec<_>>().join(" ");
            said.starts_with("degraded") && said.contains("this driver does not filter it")
        });
        drop(agent);
        let agent = Agent::start_at_home(&ovs, &[]);
        is_exact(&ovs);
        Host { agent, guest, peer, stranger, _tap: tap, _outside: outside, ovs, iptables }
    }

    fn migrate(&self, more: &[&str]) -> Output {
        self.command(more).output().expect("sgflow runs")
    }

    fn migrate_by(&self, policy: &str, more: &[&str]) -> Output {
        let mut command = self.command(more);
        command.env("SGFLOW_POLICY_PATH", policy);
        command.output().expect("sgflow runs")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.ovs.netns().path())).arg(sgflow().get_program());
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("SGFLOW_")) {
            command.env_remove(key);
        }
        command.args([
            "migrate",
            "hybrid-to-ovs",
            "--iptables-variant",
            self.iptables,
            "--ovsdb",
            &self.ovs.db_remote(),
        ]);
        command.env("SGFLOW_POLICY_PATH", self.ovs.rundir().join("policy.yaml"));
        command.arg("--api-socket").arg(socket(&self.ovs)).args(more);
        command
    }

    /// One stream from the peer to the guest and one from the guest to the peer, both of them sending.
    fn streams(&self) -> [Stream; 2] {
        let open = |client: &Vm, server: &Vm, port| {
            let server_ip = server.ipv4().expect("it has one");
            let spec = StreamSpec { server: server_ip, port, from: None, streaming: Streaming::BothWays };
            Stream::open(client, server, &spec).expect("a connection that is admitted")
        };
        [open(&self.peer, &self.guest, 80), open(&self.guest, &self.peer, 5000)]
    }

    /// The guest is on the switch, and of its bridge nothing is left.
    fn is_moved(&self) {
        let ports = self.ovs.vsctl(&["list-ports", "br-int"]).expect("the bridge");
        assert!(ports.lines().any(|port| port == "tap-g") && !ports.contains("qvo"), "{ports}");
        let left = format!(
            "ip -o link show | grep -E 'q(br|vb|vo)-g' || true
             iptables-{0}-save | grep neutron-openvswi || true
             ip6tables-{0}-save | grep neutron-openvswi || true
             nft list tables | grep sgflow || true
             ipset list -n | grep NIPv || true",
            self.iptables
        );
        let left = shell(self.ovs.netns(), &left);
        assert_eq!(left, "", "nothing is left");
        let ids = self.ovs.vsctl(&["get", "Interface", "tap-g", "external_ids"]).expect("a row");
        for key in ["iface-id=p-1", "attached-mac=", "iface-status=active", "sgflow-zone="] {
            assert!(ids.contains(key), "{key} in {ids}");
        }
        assert_eq!(self.ovs.vsctl(&["get", "Port", "tap-g", "tag"]).expect("a row").trim(), "10");
    }

    /// The guest is behind a bridge, with rules.
    fn is_back(&self) {
        let ports = self.ovs.vsctl(&["list-ports", "br-int"]).expect("the bridge");
        assert!(ports.lines().any(|port| port == "qvo-g") && !ports.contains("tap-g"), "{ports}");
        let bridge = shell(self.ovs.netns(), "ip -o link show master qbr-g up | wc -l");
        assert_eq!(bridge.trim(), "2", "the guest's device and the pair's");
        let rules = shell(
            self.ovs.netns(),
            &format!("iptables-{}-save; nft list map bridge sgflow ports", self.iptables),
        );
        assert!(rules.contains("neutron-openvswi-ip-1") && rules.contains("tap-g"), "{rules}");
    }
}

fn shell(netns: &NetNs, script: &str) -> String {
    let run = || Command::new("sh").args(["-e", "-c", script]).output().expect("a shell");
    let output = netns.enter(run).expect("the namespace");
    assert!(output.status.success(), "{script}: {}", stderr(&output));
    stdout(&output)
}

fn assert_code(output: &Output, code: i32) {
    let told = format!("{}{}", stdout(output), stderr(output));
    assert_eq!(output.status.code(), Some(code), "{told}");
    println!("{told}");
}

/// What was heard and what was not.
#[derive(Default)]
struct Heard {
    pings: AtomicUsize,
    lost: AtomicUsize,
    refused: AtomicUsize,
}

/// Pings the guest until it is told to stop.
fn ping(host: &Host, is_over: &AtomicBool, heard: &Heard) {
    while !is_over.load(Ordering::Relaxed) {
        let verdict = host.peer.ping([10, 0, 0, 1].into(), Duration::from_millis(100)).expect("a verdict");
        let count = if verdict == PingVerdict::Replied { &heard.pings } else { &heard.lost };
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(10));
    }
}

/// Tries what is refused until it is told to stop: datagrams to the guest, and frames of the guest's with an address that is not its own.
fn knock(host: &Host, is_over: &AtomicBool, heard: &Heard) {
    let bind = |vm: &Vm, port| {
        let address = SocketAddr::new(vm.ipv4().expect("it has one"), port);
        let socket = vm.netns().enter(|| UdpSocket::bind(address)).expect("its namespace").expect("a socket");
        socket.set_nonblocking(true).expect("it can be");
        socket
    };
    let ears = bind(&host.guest, 53);
    let mouths = [bind(&host.peer, 0), bind(&host.stranger, 0)];
    let arrived = host.peer.capture().expect("a packet socket");
    let liar = host.guest.capture().expect("a packet socket");
    let spoofed = datagram([10, 0, 0, 66], 1000, 53);
    while !is_over.load(Ordering::Relaxed) {
        for mouth in &mouths {
            // One that does not know the guest's MAC at the moment may have no room.
            _ = mouth.send_to(b"let me in", "10.0.0.1:53");
        }
        liar.send(&spoofed).expect("the guest's own device takes it");
        liar.drain().expect("what the guest hears is nothing to it");
        let got = ears.recv_from(&mut [0; 64]);
        assert_eq!(got.expect_err("nobody may speak to it").kind(), ErrorKind::WouldBlock);
        let frames = arrived.drain().expect("what arrived");
        assert!(
            !frames.iter().any(|frame| frame.get(26..30) == Some(&[10, 0, 0, 66])),
            "a spoofed frame arrived"
        );
        heard.refused.fetch_add(3, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does something while what is admitted and what is not is tried all the time.
fn with_traffic(host: &Host, work: impl FnOnce()) -> Heard {
    let (heard, is_over) = (Heard::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| ping(host, &is_over, &heard));
        let knocking = scope.spawn(|| knock(host, &is_over, &heard));
        let over = Over(&is_over);
        work();
        drop(over);
        knocking.join().expect("what is refused is refused all the time");
    });
    heard
}

fn go_on(streams: &[Stream], when: &str) {
    for (number, stream) in streams.iter().enumerate() {
        stream.wait_for_progress(20_000, Duration::from_secs(60)).expect(when);
        assert!(stream.is_whole(), "{when}: stream {number}");
    }
}

#[test]
fn a_guest_goes_on_talking_when_it_is_moved_and_moved_back() {
    moved_and_moved_back("nft");
}

#[test]
fn so_it_does_with_the_old_iptables() {
    moved_and_moved_back("legacy");
}

fn moved_and_moved_back(iptables: &'static str) {
    let host = Host::start_with(iptables);
    let streams = host.streams();
    go_on(&streams, "before");
    let heard = with_traffic(&host, || {
        for round in 0..2 {
            assert_code(&host.migrate(&["--check"]), 0);
            let began = Instant::now();
            assert_code(&host.migrate(&["--port", "p-1"]), 0);
            println!("round {round}: forwards in {:.2?}", began.elapsed());
            host.is_moved();
            go_on(&streams, "forwards");
            assert_code(&host.migrate(&[]), 0);

            // The rules behind the bridge know no connection, and admit what the peer says to port 5000's client from neither end but the guest's.
            let refused = host.migrate(&["--back"]);
            assert_code(&refused, 2);
            assert!(stdout(&refused).contains("goes on only when 10.0.0.1 sends first"));
            host.is_moved();
            let began = Instant::now();
            assert_code(&host.migrate(&["--back", "--yes"]), 0);
            println!("round {round}: back in {:.2?}", began.elapsed());
            host.is_back();
            go_on(&streams, "back");
        }
    });
    is_exact(&host.ovs);
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{} pings answered, {} not within 0.1 s; {} tries refused; {} segments sent again",
        count(&heard.pings),
        count(&heard.lost),
        count(&heard.refused),
        streams.iter().map(Stream::retransmits).sum::<u64>()
    );
    assert!(count(&heard.pings) > 0 && count(&heard.refused) > 0);
}

/// The guest only listens: what comes to it is admitted because the switch knows the connection, and for nothing else.
#[test]
fn a_connection_that_no_rule_admits_in_its_middle_goes_on_with_its_zone() {
    let host = Host::start();
    let server = host.peer.ipv4().expect("it has one");
    let spec = StreamSpec { server, port: 5000, from: None, streaming: Streaming::ToClient };
    let download = [Stream::open(&host.guest, &host.peer, &spec).expect("a connection that is admitted")];
    go_on(&download, "before");
    assert_code(&host.migrate(&[]), 0);
    go_on(&download, "forwards");
    // The rules behind the bridge do not know it, and it stands still until the guest says something.
    let refused = host.migrate(&["--back"]);
    assert_code(&refused, 2);
    assert!(stdout(&refused).contains("goes on only when 10.0.0.1 sends first"));
    assert_code(&host.migrate(&["--back", "--yes"]), 0);
    let goes_on = download[0].wait_for_progress(20_000, Duration::from_secs(3));
    println!("behind the bridge: {goes_on:?}");
    assert_code(&host.migrate(&[]), 0);
    go_on(&download, "forwards again");
}

#[test]
fn what_stands_in_the_way_is_said_and_nothing_is_touched() {
    let mut host = Host::start();
    shell(host.ovs.netns(), "ip link add other type veth peer name end; ip link set other master qbr-g");
    let refused = host.migrate(&["--check"]);
    assert_code(&refused, 2);
    assert!(stdout(&refused).contains("on qbr-g there is something else: other"));
    assert_code(&host.migrate(&[]), 2);
    shell(host.ovs.netns(), "ip link delete other");
    host.agent.child.kill().expect("it runs");
    host.agent.child.wait().expect("it ends");
    let refused = host.migrate(&[]);
    assert_code(&refused, 1);
    assert!(stderr(&refused).contains("no sgflow agent answers"), "{}", stderr(&refused));
    host.is_back();

    // Without an agent it enforces by itself; what was left of another guest is removed.
    shell(
        host.ovs.netns(),
        "ip link add qbr-gone type bridge; ip link add qvb-gone type veth peer name qvo-gone",
    );
    let streams = host.streams();
    let check = host.migrate(&["--check", "--apply"]);
    assert!(stdout(&check).contains("left-over: bridge or pair of tap-gone"), "{}", stdout(&check));
    assert_code(&host.migrate(&["--apply"]), 0);
    host.is_moved();
    assert_eq!(shell(host.ovs.netns(), "ip -o link show | grep -c gone || true").trim(), "0");
    go_on(&streams, "without an agent");
}

#[test]
fn ports_are_moved_one_by_one_and_only_those_go_back_that_were_moved() {
    let host = Host::start();
    let streams = host.streams();
    // One that never had a bridge gets one when it is named, and not otherwise.
    assert_code(&host.migrate(&["--back", "--yes"]), 0);
    assert_code(&host.migrate(&["--back", "--yes", "--port", "p-2"]), 0);
    go_on(&streams, "both behind bridges");
    let rules =
        || shell(host.ovs.netns(), "iptables-nft-save | grep -o '^:neutron-openvswi-ip-[0-9]' | sort");
    assert_eq!(rules(), ":neutron-openvswi-ip-1\n:neutron-openvswi-ip-2\n");
    assert_code(&host.migrate(&["--port", "p-1"]), 0);
    assert_eq!(rules(), ":neutron-openvswi-ip-2\n");
    let links = shell(host.ovs.netns(), "ip -o link show | grep -oE 'qbr-[a-z]+' | sort -u");
    assert_eq!(links, "qbr-peer\n");
    go_on(&streams, "one behind a bridge");
    let told = host.migrate(&["--check", "--json", "--port", "p-2"]);
    assert_eq!(told.status.code(), Some(0), "{}", stdout(&told));
    let lines = stdout(&told);
    let lines =
        lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON a line"));
    let checked: Vec<_> = lines.filter(|line| line["step"] == "check").collect();
    assert_eq!(checked, [serde_json::json!({"port": "p-2", "step": "check", "text": "can be moved"})]);
    assert_code(&host.migrate(&["--port", "p-7"]), 1);
    // Two at a time: one waits for the other, and finds nothing to do.
    let two = [(); 2].map(|()| host.command(&["--yes"]).stdout(Stdio::piped()).spawn().expect("sgflow runs"));
    for child in two {
        assert_code(&child.wait_with_output().expect("it ends"), 0);
    }
    host.is_moved();
    go_on(&streams, "none behind a bridge");
    is_exact(&host.ovs);
}

#[test]
fn a_port_that_the_agent_does_not_open_is_put_back() {
    let host = Host::start();
    let streams = host.streams();
    // A switch that is not what this document says is no place to move a port to.
    let other = host.ovs.rundir().join("other.yaml");
    std::fs::write(
        &other,
        POLICY.replace("port_range_min: 80, port_range_max: 80", "port_range_min: 8, port_range_max: 8"),
    )
    .expect("a document");
    let other = other.display().to_string();
    let late = host.migrate_by(&other, &["--timeout", "1"]);
    assert_code(&late, 3);
    host.is_back();
    // The agent stands still from when the guest's device is down, if that is seen in time, until the port is being put back.
    let pid = host.agent.child.id();
    let stop = format!(
        "tries=0
         while ip -o link show tap-g | grep -q '[<,]UP[,>]'; do tries=$((tries + 1)); test $tries -lt 5000; done
         kill -STOP {pid}"
    );
    let is_put_back = (0..5).any(|_| {
        let child = host.command(&["--timeout", "3"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("sgflow runs");
        shell(host.ovs.netns(), &stop);
        thread::sleep(Duration::from_secs(4));
        shell(host.ovs.netns(), &format!("kill -CONT {pid}"));
        let output = child.wait_with_output().expect("it ends");
        if output.status.success() {
            assert_code(&host.migrate(&["--back", "--yes"]), 0);
            return false;
        }
        assert_code(&output, 3);
        assert!(stdout(&output).contains("port p-1: back: qvo-g in place of tap-g, as it was"));
        true
    });
    assert!(is_put_back, "the agent was never stopped in time");
    host.is_back();
    go_on(&streams, "put back");
    assert_code(&host.migrate(&[]), 0);
    host.is_moved();
    go_on(&streams, "moved after all");
}

#[test]
fn killed_at_any_instant_it_is_gone_on_with() {
    let kills = std::env::var("SGFLOW_KILLS").map_or(8, |text| text.parse().expect("a number"));
    let host = Host::start();
    let streams = host.streams();
    let began = Instant::now();
    assert_code(&host.migrate(&["--yes"]), 0);
    assert_code(&host.migrate(&["--back", "--yes"]), 0);
    let lasts = began.elapsed() / 2;
    let heard = with_traffic(&host, || {
        for round in 0..kills {
            let ways: [&[&str]; 2] = [&["--yes"], &["--back", "--yes"]];
            let way = ways[round % 2];
            let mut command = host.command(way);
            let mut child = command.stdout(Stdio::null()).spawn().expect("sgflow runs");
            // Evenly over the time that it takes (a golden section apart).
            let after = lasts.mul_f64((0.618_034 * (round as f64 + 1.0)).fract());
            thread::sleep(after);
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            let again = host.migrate(way);
            assert_code(&again, 0);
            match round % 2 {
                0 => host.is_moved(),
                _ => host.is_back(),
            }
            go_on(&streams, &format!("round {round}, killed after {after:?}"));
        }
    });
    is_exact(&host.ovs);
    println!("{kills} kills, {} tries refused", heard.refused.load(Ordering::Relaxed));
}
