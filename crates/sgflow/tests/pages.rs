//! What the pages of docs/operations say that commands print, on a real switch. `UPDATE_EXPECT=1` writes the pages anew.

mod common;
mod page;

use std::fs;
use std::path::Path;

use common::{Agent, apply, eventually, observers, ovs, status, stderr, stdout};
use lab::{DummyPort, DummySpec, FailMode, Ovs, OvsOptions};
use page::Shell;

const DEMO: &str = include_str!("../../../docs/examples/demo.yaml");
/// The ports of that document, and the VLANs of their networks.
const PORTS: [(&str, u16); 6] =
    [("bastion", 10), ("web-1", 10), ("web-2", 10), ("db", 10), ("batch-1", 20), ("batch-2", 20)];

/// A switch with the ports of the demo.
fn demo() -> (Ovs, Vec<DummyPort>) {
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let ports = (1..).zip(PORTS).map(|(ofport, (id, vlan))| {
        let (port_id, tag, ofport) = (Some(id.to_owned()), Some(vlan), Some(ofport));
        let spec = DummySpec { port_id, tag, ofport, ..DummySpec::new(&format!("tap-{id}")) };
        ovs.add_dummy_port("br-int", spec).expect("a port")
    });
    let ports = ports.collect();
    (ovs, ports)
}

/// An agent on it, with the directory `policy.d` of the page's.
fn agent(ovs: &Ovs) -> Agent {
    let policy = ovs.rundir().join("page/policy.d");
    let agent = Agent::start_for(ovs, &policy, &[]);
    eventually("converged", || stdout(&status(ovs, &[])).starts_with("converged"));
    agent
}

/// A shell where the agent's settings count, and its documents are in `policy.d`.
fn beside_an_agent(ovs: &Ovs) -> Shell {
    let environment = [("SGFLOW_CONFIG", "/dev/null"), ("SGFLOW_POLICY_PATH", "policy.d")];
    Shell::start(ovs, &[("policy.d/demo.yaml", DEMO)], &environment)
}

#[test]
fn why_is_this_dropped() {
    let (ovs, _ports) = demo();
    let policy = Path::new("../../docs/examples/demo.yaml");
    let applied = apply(&ovs, policy, &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    let mut shell = Shell::start(&ovs, &[("demo.yaml", DEMO)], &[("SGFLOW_POLICY_PATH", "demo.yaml")]);
    let commands = page::run("troubleshooting.md", &mut shell, &mut []);
    assert!(commands > 10, "{commands} commands");
}

#[test]
fn the_first_hour() {
    let ovs = Ovs::start(OvsOptions::default()).expect("Open vSwitch starts");
    // Made with the datapath that needs no module of the kernel; the page finds it there.
    ovs.add_bridge("br-int", FailMode::Standalone).expect("a bridge");
    let mut shell = Shell::start(&ovs, &[("policy.d/README", "")], &[("SGFLOW_CONFIG", "sgflow.toml")]);
    let mut running = None;
    let mut start = || {
        let config = ovs.rundir().join("page/sgflow.toml").display().to_string();
        let policy = ovs.rundir().join("page/policy.d");
        running = Some(Agent::start_for(&ovs, &policy, &["--config", &config]));
        eventually("it answers", || status(&ovs, &[]).status.code() != Some(1));
    };
    let commands =
        page::run("first-hour.md", &mut shell, &mut [("systemctl enable --now sgflow", &mut start)]);
    assert!(commands > 10, "{commands} commands");
    drop(shell);
    drop(running);
}

#[test]
fn the_cookbook() {
    let (ovs, _ports) = demo();
    let mut shell = beside_an_agent(&ovs);
    let _agent = agent(&ovs);
    let commands = page::run("cookbook.md", &mut shell, &mut []);
    assert!(commands > 10, "{commands} commands");
}

#[test]
fn what_is_dropped() {
    let (ovs, ports) = demo();
    let mut shell = beside_an_agent(&ovs);
    let _agent = agent(&ovs);
    eventually("it looks", || !observers(&ovs).is_empty());
    // To the database as an administrator would, and from an address that is another's.
    let (web, db) = ([0xfa, 0x16, 0x3e, 0, 0x10, 0x11], [0xfa, 0x16, 0x3e, 0, 0x10, 0x21]);
    let login = |source: [u8; 4], port: u16| {
        let mut frame = Vec::new();
        let packet = etherparse::PacketBuilder::ethernet2(web, db).ipv4(source, [10, 0, 0, 21], 64);
        packet.tcp(port, 22, 1, 1000).syn().write(&mut frame, &[]).expect("a frame");
        frame
    };
    let sender = &ports[1];
    sender.receive_all(&[login([10, 0, 0, 66], 49_152)]).expect("the switch takes it");
    let counted = || observers(&ovs).iter().filter(|flow| flow.contains("priority=110")).count();
    eventually("the one is counted by port", || counted() == 1);
    sender.receive_all(&[login([10, 0, 0, 11], 49_153)]).expect("the switch takes it");
    eventually("and the other", || counted() == 2);
    let again = vec![login([10, 0, 0, 66], 49_152); 2];
    sender
        .receive_all(&[again, vec![login([10, 0, 0, 11], 49_153); 3]].concat())
        .expect("the switch takes them");
    let commands = page::run("drops.md", &mut shell, &mut []);
    assert!(commands > 2, "{commands} commands");
}

#[test]
fn tuning() {
    let (ovs, _ports) = demo();
    let mut shell = beside_an_agent(&ovs);
    let _agent = agent(&ovs);
    let commands = page::run("tuning.md", &mut shell, &mut []);
    assert!(commands > 5, "{commands} commands");
}

#[test]
fn upgrade() {
    let (ovs, _ports) = demo();
    let mut shell = beside_an_agent(&ovs);
    let mut running = Some(agent(&ovs));
    let mut restart = || {
        running = None;
        running = Some(agent(&ovs));
    };
    let commands = page::run("upgrade.md", &mut shell, &mut [("systemctl restart sgflow", &mut restart)]);
    assert!(commands > 3, "{commands} commands");
    drop(running);
}

/// Every page of the directory is found from the README, and its links lead somewhere.
#[test]
fn pages_are_linked() {
    let readme = fs::read_to_string("../../README.md").expect("the README");
    let directory = Path::new("../../docs/operations");
    for entry in fs::read_dir(directory).expect("pages") {
        let name = entry.expect("a page").file_name().into_string().expect("a name");
        if !name.ends_with(".md") {
            continue;
        }
        assert!(readme.contains(&format!("`docs/operations/{name}`")), "README.md has no {name}");
        let text = fs::read_to_string(directory.join(&name)).expect("a page");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_elsewhere = target.starts_with("http") || file.is_empty();
            assert!(is_elsewhere || directory.join(file).exists(), "{name}: {target} is not there");
        }
    }
}

/// A page is not as good as what it leaves out: whatever is not run says why.
#[test]
fn a_block_that_is_not_run_has_a_reason() {
    for name in ["first-hour.md", "cookbook.md", "tuning.md", "upgrade.md", "troubleshooting.md", "drops.md"]
    {
        let text = fs::read_to_string(Path::new("../../docs/operations").join(name)).expect("a page");
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("<!--")) {
            let reason = ["<!-- not run: ", "<!-- run, not compared: "]
                .iter()
                .find_map(|mark| line.strip_prefix(mark))
                .and_then(|rest| rest.strip_suffix(" -->"));
            assert!(reason.is_some_and(|reason| reason.len() > 10), "{name}: {line}");
        }
    }
}
