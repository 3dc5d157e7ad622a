//! nft(8), in namespaces of a test's own.
#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and takes what it needs")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use lab::NetNs;
use nftables::{Family, TableId};

/// Runs in a network namespace that nobody else uses.
pub fn alone(test: impl FnOnce() + Send) {
    NetNs::new().expect("a namespace").enter(test).expect("it can be entered");
}

/// What nft(8) does with such input.
pub fn try_nft(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("nft(8)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn nft(arguments: &[&str], input: &str) -> String {
    let output = try_nft(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}\n{input}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn table(family: Family, name: &str) -> TableId {
    TableId { family, name: name.parse().unwrap() }
}
