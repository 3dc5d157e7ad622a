//! What docs/operations/troubleshooting.md says that commands print, on a real switch with the policy of the demo.
//! `UPDATE_EXPECT=1` writes the page anew.

mod common;

use std::fs;
use std::path::Path;

use common::{apply, ovs, sgflow, stderr, stdout};
use lab::{DummySpec, FailMode, Ovs};

const PAGE: &str = "../../docs/operations/troubleshooting.md";
const POLICY: &str = "../../docs/examples/demo.yaml";
/// The ports of the document, and the VLANs of their networks.
const PORTS: [(&str, u16); 6] =
    [("bastion", 10), ("web-1", 10), ("web-2", 10), ("db", 10), ("batch-1", 20), ("batch-2", 20)];
const BEGIN: &str = "```console\n";
const END: &str = "```\n";

#[test]
fn the_page_shows_what_the_commands_print() {
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    for (ofport, (id, vlan)) in (1..).zip(PORTS) {
        let (port_id, tag, ofport) = (Some(id.to_owned()), Some(vlan), Some(ofport));
        ovs.add_dummy_port("br-int", DummySpec { port_id, tag, ofport, ..DummySpec::new(id) })
            .expect("a port");
    }
    let applied = apply(&ovs, Path::new(POLICY), &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));

    let page = fs::read_to_string(PAGE).expect("the page");
    let mut written = String::new();
    let mut rest = page.as_str();
    let mut commands = 0;
    while let Some((before, block)) = rest.split_once(BEGIN) {
        let (block, after) = block.split_once(END).expect("the end of a block");
        written += before;
        written += BEGIN;
        for line in block.lines().filter_map(|line| line.strip_prefix("$ sgflow ")) {
            written += &format!("$ sgflow {line}\n{}", printed(&ovs, line));
            commands += 1;
        }
        written += END;
        rest = after;
    }
    written += rest;
    assert!(commands > 10, "{commands} commands");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(PAGE, &written).expect("the page");
    }
    assert_eq!(page, written, "docs/operations/troubleshooting.md is stale: UPDATE_EXPECT=1 writes it");
}

fn printed(ovs: &Ovs, line: &str) -> String {
    let mut command = sgflow();
    command.args(line.split(' '));
    command.env("SGFLOW_POLICY_PATH", POLICY).env("SGFLOW_OVSDB_CONNECTION", ovs.db_remote());
    let output = command.output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(0), "{line}: {}{}", stdout(&output), stderr(&output));
    stdout(&output)
}
