//! `sgflow agent` with policy source `neutron-driver`: told by its socket, on a bridge with the tables of Neutron's agent.

mod common;
mod documented;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::neutron_driver::{
    add_flow, applied, ask, clean_up, hook, port, serving, tables_of_neutron, tell,
};
use common::traffic::{datagram, ends};
use common::{Agent, eventually, flows, is_open, ovs, plug, sgflow, socket, status, stderr, stdout};
use documented::is_documented;
use lab::{DummyPort, DummySpec, Ovs};
use serde_json::{Value, json};

/// p-2 takes what members of `g` send to its port 53; p-1 is one of them.
fn first_change() -> Value {
    json!({
        "rules": {"g": [{"direction": "egress", "ethertype": "IPv4"}],
                  "h": [{"direction": "ingress", "ethertype": "IPv4", "protocol": "udp",
                         "port_range_min": 53, "port_range_max": 53, "remote_group_id": "g"}]},
        "members": {"g": {"IPv4": {"add": [["10.0.0.1", "fa:16:3e:00:00:01"]]}}},
        "ports": {"p-1": port(1, &["g"]), "p-2": port(2, &["h"])},
        "expect": ["p-1", "p-2"]
    })
}

fn passes((sender, receiver): &(DummyPort, DummyPort), source_port: u16, port: u16) -> bool {
    sender.receive(&datagram([10, 0, 0, 1], source_port, port)).expect("the switch takes it");
    !receiver.take_sent().expect("a look").is_empty()
}

fn start(ovs: &Ovs) -> ((DummyPort, DummyPort), Agent) {
    let ports = ends(ovs);
    tables_of_neutron(ovs, 0xa1);
    (ports, serving(ovs, &[]))
}

#[test]
fn a_change_is_answered_when_it_is_in_force() {
    let ovs = ovs();
    let (ports, _agent) = start(&ovs);
    let (code, held) = ask(&ovs, "GET", "/v1/neutron-driver", "");
    assert_eq!((code, &held["session"], &held["sequence"]), (200, &Value::Null, &json!(0)));
    let before = flows(&ovs);
    applied(&ovs, "s", 1, first_change());
    assert!(passes(&ports, 1000, 53) && !passes(&ports, 1000, 54));
    assert!(before.iter().all(|flow| flows(&ovs).contains(flow)), "Neutron's are as they were");
    // The member goes: what it has begun is cut by the time of the answer.
    let gone = json!({"IPv4": {"remove": [["10.0.0.1", "fa:16:3e:00:00:01"]]}});
    applied(&ovs, "s", 2, json!({"members": {"g": gone}, "ports": {"p-1": port(1, &["i"])}}));
    assert!(!passes(&ports, 1000, 53));
    // Port security goes, by an update of the port.
    let mut off = port(2, &[]);
    off["port_security_enabled"] = json!(false);
    applied(&ovs, "s", 3, json!({"ports": {"p-1": port(1, &["g"]), "p-2": off}}));
    assert!(passes(&ports, 1000, 54));
    applied(&ovs, "s", 4, json!({"ports": {"p-2": null}}));
    assert!(!passes(&ports, 1000, 54), "who is not known is closed");
    let (_, held) = ask(&ovs, "GET", "/v1/neutron-driver", "");
    assert_eq!((&held["session"], &held["sequence"], &held["applied"]), (&json!("s"), &json!(4), &json!(4)));
}

#[test]
fn a_port_that_is_expected_is_waited_for_and_one_that_is_not_there_is_named() {
    let ovs = ovs();
    let (_ports, _agent) = start(&ovs);
    let mut change = first_change();
    change["ports"]["p-3"] = port(3, &["g"]);
    change["ports"]["p-9"] = port(9, &["g"]);
    change["expect"] = json!(["p-1", "p-3", "p-9"]);
    let answer = std::thread::scope(|scope| {
        let answer = scope.spawn(|| applied(&ovs, "s", 1, change));
        std::thread::sleep(Duration::from_millis(300));
        plug(&ovs, 3);
        answer.join().expect("an answer")
    });
    assert_eq!((&answer["absent"], &answer["closed"]), (&json!(["p-9"]), &json!([])));
    assert!(is_open(&ovs, 3));
}

#[test]
fn a_port_of_the_network_gets_what_is_to_it_and_to_everybody() {
    let ovs = ovs();
    let (ports, _agent) = start(&ovs);
    let spec =
        DummySpec { port_id: Some("p-3".into()), tag: Some(10), ofport: Some(3), ..DummySpec::new("tap3") };
    let router = ovs.add_dummy_port("br-int", spec).expect("a port");
    let mut change = first_change();
    change["trusted"] = json!(["p-3"]);
    change["expect"] = json!(["p-1", "p-2", "p-3"]);
    applied(&ovs, "s", 1, change);
    let hears = |destination: [u8; 6]| {
        let mut frame = datagram([10, 0, 0, 1], 1000, 9);
        frame[..6].copy_from_slice(&destination);
        ports.0.receive(&frame).expect("the switch takes it");
        !router.take_sent().expect("a look").is_empty()
    };
    let (own, other, everybody) = ([0xfa, 0x16, 0x3e, 0, 0, 3], [0xfa, 0x16, 0x3e, 0, 0, 0x99], [0xff; 6]);
    assert!(hears(own) && hears(other) && hears(everybody), "whose MAC is not known gets everything");
    let set = ["set", "Interface", "tap3", "external_ids:attached-mac=\"fa:16:3e:00:00:03\""];
    ovs.vsctl(&set).expect("as Neutron's agents plug it in");
    eventually("what is to others is kept from it", || !hears(other));
    assert!(hears(own) && hears(everybody));
    applied(&ovs, "s", 2, json!({"ports": {"p-3": null}}));
    assert!(!hears(own) && !hears(everybody));
}

/// On a host as Neutron's agent makes it: its flows beside ours, our hook under its cookie, and a port of which it tells the id alone.
#[test]
fn what_only_looks_sees_it_as_it_is() {
    let ovs = ovs();
    let (ports, _agent) = start(&ovs);
    hook(&ovs, 0xa1);
    add_flow(
        &ovs,
        "cookie=0xa1,table=0,priority=3,in_port=9,dl_vlan=7,actions=mod_vlan_vid:10,goto_table:58",
    );
    let mac = Some("fa:16:3e:00:00:03".parse().expect("a MAC"));
    let spec = DummySpec {
        port_id: Some("p-3".into()),
        tag: Some(10),
        ofport: Some(3),
        mac,
        ..DummySpec::new("tap3")
    };
    ovs.add_dummy_port("br-int", spec).expect("a port");
    let mut change = first_change();
    change["trusted"] = json!(["p-3"]);
    change["expect"] = json!(["p-1", "p-2", "p-3"]);
    applied(&ovs, "s", 1, change);
    assert!(passes(&ports, 1000, 53));
    let say = |words: &str| {
        let mut say = sgflow();
        say.args(words.split(' ')).args(["--policy-source", "neutron-driver", "--ovsdb", &ovs.db_remote()]);
        let output = say.arg("--api-socket").arg(socket(&ovs)).output().expect("sgflow runs");
        (stdout(&output) + &stderr(&output), output.status.code())
    };
    for (words, part) in [
        ("verify", "br-int: the switch is exactly the policy"),
        (
            "explain p-1 --to p-2 --proto udp --dport 53",
            "br-int: p-1 egress: the flows agree: accepted; so does",
        ),
        (
            "explain p-3 --from 10.0.0.9 --proto udp --dport 53 --address 10.0.0.3",
            "the flows agree: accepted",
        ),
        ("explain p-3 --to 10.0.0.9 --proto udp --dport 53 --address 10.0.0.3", "the flows agree: accepted"),
        ("connections p-2", "10.0.0.1:1000 -> 10.0.0.2:53\n    ingress: admitted: "),
    ] {
        let (text, code) = say(words);
        assert!(code == Some(0) && text.contains(part), "{words}: {code:?}: {text}");
    }
    let file = ovs.rundir().join("told.json");
    fs::write(&file, ask(&ovs, "GET", "/v1/policy", "").1.to_string()).expect("a document");
    let (text, code) = say(&format!("diff --policy {}", file.display()));
    assert_eq!((text.as_str(), code), ("nothing would change\n", Some(0)));
}

#[test]
fn ports_that_neutron_does_not_know_do_not_reach_each_other() {
    let ovs = ovs();
    let (_ports, _agent) = start(&ovs);
    // Its agent takes whatever it does not know for a port of the network, and gives it no tag.
    let stranger = |number: u16| {
        let spec = DummySpec {
            port_id: Some(format!("p-{number}")),
            ofport: Some(number),
            ..DummySpec::new(&format!("tap{number}"))
        };
        ovs.add_dummy_port("br-int", spec).expect("a port")
    };
    let (one, other) = (stranger(3), stranger(4));
    let mut change = first_change();
    change["trusted"] = json!(["p-3", "p-4"]);
    change["expect"] = json!(["p-1", "p-3"]);
    assert_eq!(applied(&ovs, "s", 1, change)["absent"], json!(["p-3"]), "it is not bound");
    let mut frame = datagram([10, 0, 0, 1], 1000, 53);
    for destination in [[0xff; 6], [0xfa, 0x16, 0x3e, 0, 0, 4]] {
        frame[..6].copy_from_slice(&destination);
        one.receive(&frame).expect("the switch takes it");
        assert!(other.take_sent().expect("a look").is_empty());
    }
    ovs.vsctl(&["set", "Port", "tap3", "tag=10", "--", "set", "Port", "tap4", "tag=10"])
        .expect("they are bound");
    eventually("they are ports of a network", || {
        one.receive(&frame).expect("the switch takes it");
        !other.take_sent().expect("a look").is_empty()
    });
}

#[test]
fn the_hook_lives_through_the_agents_start_and_is_put_back_when_it_goes() {
    let ovs = ovs();
    let (ports, agent) = start(&ovs);
    applied(&ovs, "s", 1, first_change());
    hook(&ovs, 0xa1);
    assert!(passes(&ports, 1000, 53) && !passes(&ports, 1000, 54));
    // The agent starts anew, with another cookie.
    tables_of_neutron(&ovs, 0xb2);
    hook(&ovs, 0xb2);
    applied(&ovs, "t", 1, first_change());
    let before = flows(&ovs);
    clean_up(&ovs, 0xb2);
    assert!(passes(&ports, 1000, 53) && !passes(&ports, 1001, 54));
    eventually("settled", || stdout(&status(&ovs, &[])).starts_with("converged"));
    assert_eq!(
        flows(&ovs),
        before,
        "nothing of ours was in the agent's tables but the hook, which it takes for its own"
    );
    let sent = agent.count("applied added=");
    assert_eq!(
        agent.log().matches("applied added=0 modified=0 deleted=0").count() + 1,
        sent,
        "{}",
        agent.log()
    );
    ovs.ofctl(&["-O", "OpenFlow14", "--strict", "del-flows", "br-int", "table=60,priority=65000"])
        .expect("it goes");
    eventually("the hook is back", || flows(&ovs).iter().any(|flow| flow.contains("priority=65000")));
    assert!(!passes(&ports, 1002, 54));
}

#[test]
fn who_does_not_wait_can_ask_later() {
    let ovs = ovs();
    let (_ports, _agent) = start(&ovs);
    let mut change = first_change();
    (change["session"], change["sequence"]) = (json!("s"), json!(1));
    let (code, answer) = ask(&ovs, "POST", "/v1/neutron-driver", &change.to_string());
    assert_eq!((code, &answer["state"]), (202, &json!("pending")));
    let applied = || ask(&ovs, "GET", "/v1/neutron-driver", "").1["applied"].clone();
    eventually("it is in force", || applied() == 1);
    assert!(is_open(&ovs, 1));
}

#[test]
fn after_a_restart_everything_stays_until_it_is_told_again_and_nothing_is_sent_then() {
    let ovs = ovs();
    let (ports, agent) = start(&ovs);
    applied(&ovs, "s", 1, first_change());
    let before = flows(&ovs);
    drop(agent);
    let agent = serving(&ovs, &[]);
    assert!(passes(&ports, 1000, 53) && !passes(&ports, 1000, 54));
    let (code, answer) = tell(&ovs, "s", 2, json!({"trusted": ["p-2"]}));
    assert_eq!((code, &answer["error"]["field"], &answer["sequence"]), (409, &json!("sequence"), &json!(0)));
    assert!(!passes(&ports, 1000, 54), "what does not follow changes nothing");
    applied(&ovs, "t", 1, first_change());
    assert_eq!(flows(&ovs), before);
    assert_eq!(agent.count("applied added=0 modified=0 deleted=0"), 1, "{}", agent.log());
}

#[test]
fn what_is_wrong_is_named_and_the_rest_is_taken() {
    let ovs = ovs();
    let (ports, _agent) = start(&ovs);
    let mut change = first_change();
    change["rules"]["h"].as_array_mut().expect("rules").push(
        json!({"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 70000, "port_range_max": 70000}));
    let answer = applied(&ovs, "s", 1, change);
    assert_eq!(answer["refused"][0]["object"], "rule h/ingress/IPv4/tcp/70000/70000 of security group h");
    assert!(passes(&ports, 1000, 53));
    assert!(stdout(&status(&ovs, &[])).contains("tcp/70000"), "{}", stdout(&status(&ovs, &[])));
    applied(&ovs, "s", 2, json!({"rules": {"h": first_change()["rules"]["h"].clone()}}));
    assert!(stdout(&status(&ovs, &[])).starts_with("converged"));
    for (path, body, field) in [
        ("/v1/neutron-driver", "{", "body"),
        ("/v1/neutron-driver", r#"{"session": "s", "sequence": 3, "what": 1}"#, "body"),
        ("/v1/neutron-driver?wait=61", r#"{"session": "s", "sequence": 3}"#, "wait"),
        ("/v1/neutron-driver?wait=x", r#"{"session": "s", "sequence": 3}"#, "wait"),
    ] {
        let (code, answer) = ask(&ovs, "POST", path, body);
        assert_eq!((code, &answer["error"]["field"]), (400, &json!(field)), "{answer}");
        assert!(answer["error"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    }
    let (_, held) = ask(&ovs, "GET", "/v1/neutron-driver", "");
    assert_eq!(held["sequence"], 2);
}

/// A program of another user, who may open the socket; what follows is in Perl.
fn nobody(ovs: &Ovs) -> Command {
    fs::set_permissions(ovs.rundir(), fs::Permissions::from_mode(0o711)).expect("its own directory");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--reuid=65534", "--regid=0", "--clear-groups"]);
    command.args(["perl", "-MIO::Socket::UNIX", "-e"]);
    command
}

#[test]
fn whatever_a_client_does_others_are_answered() {
    let ovs = ovs();
    let (ports, _agent) = start(&ovs);
    // More than there is place for, of another user: they say nothing.
    let mut silent = nobody(&ovs);
    silent.arg(
        "my @held = map { IO::Socket::UNIX->new($ARGV[0]) } 1..100; $| = 1; print qq(connected); sleep 60",
    );
    let mut silent = silent.arg(socket(&ovs)).stdout(Stdio::piped()).spawn().expect("a client");
    let mut said = [0; 9];
    silent.stdout.as_mut().expect("its output").read_exact(&mut said).expect("it is connected");
    applied(&ovs, "s", 1, first_change());
    assert!(passes(&ports, 1000, 53));
    // Too much, and broken off in the middle.
    let (code, answer) = ask(&ovs, "POST", "/v1/neutron-driver", &" ".repeat((64 << 20) + 1));
    assert_eq!((code, &answer["error"]["field"]), (413, &json!("body")));
    let mut broken = UnixStream::connect(socket(&ovs)).expect("the socket");
    broken
        .write_all(b"POST /v1/neutron-driver HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"session\"")
        .expect("half a request");
    drop(broken);
    // One who does not wait for the answer: taken or not, what is held is told.
    let change = json!({"ports": {"p-1": port(1, &["i"])}, "session": "s", "sequence": 2}).to_string();
    let length = change.len();
    let request = format!(
        "POST /v1/neutron-driver?wait=60 HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{change}"
    );
    UnixStream::connect(socket(&ovs)).expect("the socket").write_all(request.as_bytes()).expect("a request");
    eventually("the next change follows", || {
        let (_, held) = ask(&ovs, "GET", "/v1/neutron-driver", "");
        let sequence = held["sequence"].as_u64().expect("a number");
        tell(&ovs, "s", sequence + 1, json!({"ports": {"p-1": port(1, &["i"])}})).0 == 200
    });
    assert!(!passes(&ports, 1001, 53));
    silent.kill().expect("it runs");
    silent.wait().expect("it ends");
}

#[test]
fn who_may_not_change_the_policy_is_refused() {
    let ovs = ovs();
    let (_ports, _agent) = start(&ovs);
    let answer = |method: &str, path: &str| {
        let mut client = nobody(&ovs);
        client.arg(
            "my $held = IO::Socket::UNIX->new($ARGV[0]); \
             print $held qq($ARGV[1] $ARGV[2] HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n); print <$held>",
        );
        stdout(&client.arg(socket(&ovs)).args([method, path]).output().expect("a client"))
    };
    let read =
        ["/v1/neutron-driver", "/v1/status", "/v1/ports", "/v1/groups", "/v1/log"].map(|path| ("GET", path));
    for (method, path) in read.into_iter().chain([("POST", "/v1/neutron-driver"), ("PUT", "/v1/log")]) {
        let answer = answer(method, path);
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("user 65534"), "{answer}");
    }
}

#[test]
fn an_agent_whose_policy_comes_from_documents_takes_no_changes() {
    let ovs = ovs();
    common::bridge(&ovs);
    common::document(&ovs, common::POLICY);
    let agent = Agent::start(&ovs);
    agent.wait_for("applied", 1);
    let (code, answer) = tell(&ovs, "s", 1, json!({"trusted": ["p-2"]}));
    assert_eq!((code, &answer["error"]["field"]), (404, &json!("policy.source")));
}

#[test]
fn answers_are_as_the_document_says() {
    let ovs = ovs();
    let (_ports, _agent) = start(&ovs);
    let mut change = first_change();
    change["rules"]["h"].as_array_mut().expect("rules").push(json!({"direction": "ingress"}));
    change["ports"]["p-2"]["mac_address"] = json!("x");
    change["expect"] = json!(["p-1", "p-2", "p-9"]);
    let answer = applied(&ovs, "s", 1, change);
    assert_eq!(
        (&answer["absent"], &answer["closed"][0]["port"]),
        (&json!(["p-9"]), &json!("p-2")),
        "{answer}"
    );
    assert!(answer["refused"].as_array().is_some_and(|refused| refused.len() >= 2), "{answer}");
    is_documented("ChangeAnswer", &answer);
    is_documented("OutOfStep", &tell(&ovs, "s", 7, json!({})).1);
    is_documented("Error", &ask(&ovs, "POST", "/v1/neutron-driver", "{").1);
    is_documented("DriverState", &ask(&ovs, "GET", "/v1/neutron-driver", "").1);
    let (_, status) = ask(&ovs, "GET", "/v1/status", "");
    assert!(!status["faults"].as_array().expect("faults").is_empty());
    is_documented("Status", &status);
}
