//! `docs/examples/demo.flows` is what docs/pipeline.md quotes: it is what `sgflow render` prints for the demo's document,
//! and what `ovs-ofctl dump-flows` prints of a bridge that `sgflow apply` gave that document to.
//! After a change of the pipeline: `UPDATE_EXPECT=1 cargo test -p sgflow --test demo_flows`.

mod common;

use std::path::{Path, PathBuf};

use common::{apply, flow_mods, flows, ovs, sgflow, stderr};
use lab::{DummySpec, FailMode};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name)
}

#[test]
fn the_quoted_flows_are_what_render_prints() {
    let mut command = sgflow();
    command.arg("render").arg("--policy").arg(example("demo.yaml"));
    let output = command.arg("--bindings").arg(example("demo-bindings.json")).output().expect("sgflow runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("flows are text");
    expect_test::expect_file!["../../../docs/examples/demo.flows"].assert_eq(&text);
}

#[test]
fn the_quoted_flows_are_what_ovs_ofctl_dumps() {
    let ovs = ovs();
    ovs.add_bridge("br-int", FailMode::Secure).expect("a bridge");
    let text = std::fs::read_to_string(example("demo-bindings.json")).expect("bindings");
    let bindings: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number =
        |value: &serde_json::Value| u16::try_from(value.as_u64().expect("a number")).expect("16 bits");
    let spec = |binding: &serde_json::Value| DummySpec {
        port_id: binding["port_id"].as_str().map(str::to_owned),
        tag: Some(number(&binding["tag"])),
        ofport: Some(number(&binding["ofport"])),
        ..DummySpec::new(binding["interface"].as_str().expect("a name"))
    };
    let specs = bindings.as_array().expect("a list").iter().map(spec).collect();
    ovs.add_dummy_ports("br-int", specs).expect("ports");
    let output = apply(&ovs, &example("demo.yaml"), &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let mut dumped = flows(&ovs);
    let quoted = std::fs::read_to_string(example("demo.flows")).expect("the quoted flows");
    let mut quoted: Vec<String> = quoted.lines().map(|line| line.trim().to_owned()).collect();
    assert_eq!(flow_mods(&output), quoted.len() as u64);
    dumped.sort();
    quoted.sort();
    assert_eq!(dumped, quoted);
}
