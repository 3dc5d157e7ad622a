//! What the kernel holds of rules, sets and tables, asked by the tools of others.

use std::process::Command;
use std::time::Instant;

use agent::driver::Variant;
use anyhow::{Context as _, Result};
use lab::{NetNs, process};
use serde_json::Value;

use super::subject::Cost;
use crate::bench::host::cpu_of;

/// How much the kernel holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub(crate) struct Held {
    /// Of iptables and ip6tables, in all tables, and of our own tables.
    pub(crate) rules: usize,
    /// In the sets and maps of our own tables.
    pub(crate) elements: usize,
}

/// A kind of iptables, as its tools are named.
pub(crate) fn name(variant: Variant) -> &'static str {
    match variant {
        Variant::OfHost => "iptables",
        Variant::Nft => "iptables-nft",
        Variant::Legacy => "iptables-legacy",
    }
}

/// A tool of one kind, of one family: `name` as in iptables-save(8).
pub(crate) fn tool(variant: Variant, family: &str, name: &str) -> String {
    let kind = self::name(variant).replacen("iptables", family, 1);
    if name.is_empty() { kind } else { format!("{kind}-{name}") }
}

/// Counts.
pub(crate) fn held(netns: &NetNs, variant: Variant) -> Result<Held> {
    let mut held = Held::default();
    for family in ["iptables", "ip6tables"] {
        let saved = process::run(Command::new(tool(variant, family, "save")), Some(netns))?;
        held.rules += saved.lines().filter(|line| line.starts_with("-A ")).count();
    }
    for family in ["bridge", "inet"] {
        let mut list = Command::new("nft");
        list.args(["-j", "list", "table", family, "sgflow"]);
        // A peer has none.
        let listed = process::output(list, Some(netns))?;
        if listed.status.success() {
            let in_table = count(&listed.stdout)?;
            held.rules += in_table.rules;
            held.elements += in_table.elements;
        }
    }
    Ok(held)
}

/// In a list of `nft -j` (libnftables-json(5)).
fn count(listed: &[u8]) -> Result<Held> {
    let listed: Value = serde_json::from_slice(listed).context("what nft -j lists")?;
    let objects = listed["nftables"].as_array().context("nft -j lists no objects")?;
    let elements = |object: &Value| -> usize {
        let sets = ["set", "map"].iter().filter_map(|kind| object[kind]["elem"].as_array());
        sets.map(Vec::len).sum()
    };
    let rules = objects.iter().filter(|object| object["rule"].is_object()).count();
    Ok(Held { rules, elements: objects.iter().map(elements).sum() })
}

/// Has nft(8) load what it lists of the kernel's tables, after they were emptied.
pub(super) fn load_again(netns: &NetNs) -> Result<Cost> {
    let mut list = Command::new("nft");
    list.args(["list", "ruleset"]);
    let listed = process::run(list, Some(netns))?;
    empty(netns, Variant::Nft)?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), listed)?;
    let mut load = Command::new("nft");
    load.arg("-f").arg(file.path());
    let begun = Instant::now();
    let programs_cpu = netns.enter(|| cpu_of(&mut load))??.as_secs_f64();
    Ok(Cost { programs: 1, programs_cpu, applied: begun.elapsed().as_secs_f64(), ..Cost::default() })
}

/// Takes everything away: rules, sets, tables.
pub(super) fn empty(netns: &NetNs, variant: Variant) -> Result<()> {
    let script = match variant {
        Variant::Legacy => {
            r"for family in iptables ip6tables; do
                  printf '*raw\nCOMMIT\n*filter\nCOMMIT\n' | $family-legacy-restore
              done
              nft flush ruleset; ipset destroy"
        }
        Variant::Nft | Variant::OfHost => "nft flush ruleset; ipset destroy",
    };
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]);
    process::run(shell, Some(netns))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_elements_of_sets_and_maps_are_counted() {
        let listed = br#"{"nftables": [{"metainfo": {}}, {"set": {"name": "a", "elem": [1, 2]}},
            {"map": {"name": "b", "elem": [[1, 2]]}}, {"set": {"name": "empty"}}, {"rule": {"handle": 1}}]}"#;
        assert_eq!(count(listed).unwrap(), Held { rules: 1, elements: 3 });
        assert!(count(b"{}").is_err());
    }

    #[test]
    fn tools_are_named_by_kind_and_family() {
        assert_eq!(tool(Variant::Nft, "ip6tables", "save"), "ip6tables-nft-save");
        assert_eq!(tool(Variant::Legacy, "iptables", ""), "iptables-legacy");
        assert_eq!(tool(Variant::OfHost, "ip6tables", "restore"), "ip6tables-restore");
    }
}
