//! A switch under one table, with the VMs that send through it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lab::{FailMode, Mac, Ovs, OvsOptions, Vm, VmSpec};
use policy::{Ethertype, Policy};
use serde_json::{Value, json};

use super::cloud::{self, Local, RAW, RECEIVER, SENDER};
use super::exchange::{End, Exchange};
use super::frames::Attempt;
use super::stream;
use crate::bench::host::{self, BRIDGE};
use crate::bench::subject::Subject;

/// The network of all ports.
const VLAN: u16 = 10;
/// The machine that is the network outside; frames carry the VLAN there.
const OUTSIDE: &str = "net";
/// What a line of a table's file begins with that says by which fields' prefixes the switch shall look up in a table.
const PREFIXES: &str = "#prefixes ";

/// A table in a file of ovs-ofctl's flows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TableFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl std::str::FromStr for TableFile {
    type Err = anyhow::Error;

    /// `NAME=FILE`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, path) = text.split_once('=').context("not NAME=FILE")?;
        Ok(TableFile { name: name.to_owned(), path: path.into() })
    }
}

/// What the switch did, in a scenario.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Cost {
    /// Connections tried, or megabytes carried.
    pub(crate) tried: usize,
    pub(crate) admitted: usize,
    /// In the datapath afterwards; none has gone, since they may stay idle for long.
    pub(crate) megaflows: u64,
    /// Packets that the datapath knew no megaflow for.
    pub(crate) upcalls: u64,
    /// Processor time of ovs-vswitchd, in seconds.
    pub(crate) switch_cpu: f64,
    pub(crate) wall: f64,
}

/// What the datapath counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counters {
    missed: u64,
    flows: u64,
}

/// A switch with VMs.
pub(super) struct Rig {
    pub(super) name: String,
    /// Flows of its table.
    pub(super) flows: usize,
    ovs: Ovs,
    outside: End,
    raw: End,
    sender: Vm,
    receiver: Vm,
    /// Holds the namespaces of those that speak raw frames.
    _vms: [Vm; 2],
}

impl Rig {
    /// A switch with its VMs; `enforce` makes the table of this name, given the port that leads outside.
    pub(super) fn start(name: &str, enforce: impl FnOnce(&Ovs, &str) -> Result<()>) -> Result<Self> {
        let ovs = Ovs::start(OvsOptions::default())?;
        ovs.add_bridge(BRIDGE, FailMode::Secure)?;
        // So that what is counted afterwards is all that there was, on a slow machine too.
        ovs.vsctl(&["set", "Open_vSwitch", ".", "other_config:max-idle=600000"])?;
        let raw = ovs.add_vm(vm(RAW, false)?)?;
        let sender = ovs.add_vm(vm(SENDER, true)?)?;
        let receiver = ovs.add_vm(vm(RECEIVER, true)?)?;
        let outside = ovs.add_vm(VmSpec::outside(OUTSIDE, Mac([0xfa, 0x16, 0x3e, 0, 0, 1])))?;
        enforce(&ovs, outside.tap())?;
        let fence = cloud::remote(0, Ethertype::Ipv4);
        Ok(Rig {
            name: name.to_owned(),
            flows: dump(&ovs)?.len(),
            outside: End::new(outside.capture()?, Some(VLAN), fence),
            raw: End::new(raw.capture()?, None, RAW.host(Ethertype::Ipv4)),
            sender,
            receiver,
            _vms: [raw, outside],
            ovs,
        })
    }

    /// Writes what another program needs to make its own table for this switch, and sgflow's table.
    pub(super) fn export(&self, directory: &Path, policy: &Policy) -> Result<()> {
        let policy = crate::bench::document::of(policy);
        let tap = |name: &str| format!("tap-{name}");
        let mut bindings = Vec::new();
        for Local { name, .. } in [RAW, SENDER, RECEIVER] {
            let ofport = self.ovs.ofport(&tap(name))?;
            bindings.push(json!({"port_id": name, "interface": tap(name), "ofport": ofport, "tag": VLAN}));
        }
        let ofport = self.ovs.ofport(&tap(OUTSIDE))?;
        bindings.push(json!({"interface": tap(OUTSIDE), "ofport": ofport, "uplink": true}));
        let prefixes = pipeline::TABLE_PREFIXES.iter();
        let prefixes: String =
            prefixes.map(|(table, _, fields)| format!("{PREFIXES}{table} {}\n", fields.join(","))).collect();
        fs::write(directory.join("policy.json"), policy.to_string())?;
        fs::write(directory.join("bindings.json"), Value::from(bindings).to_string())?;
        fs::write(directory.join("sgflow.flows"), prefixes + &dump(&self.ovs)?.join("\n"))?;
        Ok(())
    }

    /// Connections into the raw port, or from it, and their places in the list that are admitted.
    pub(super) fn exchange(&self, attempts: &[Attempt], into_raw: bool) -> Result<(Cost, Vec<u32>)> {
        let (client, server) = if into_raw { (&self.outside, &self.raw) } else { (&self.raw, &self.outside) };
        let mut exchange = Exchange::new(client, server);
        exchange.announce(&self.outside, &cloud::remotes(Ethertype::Ipv4).collect::<Vec<_>>())?;
        exchange.announce(&self.raw, &[RAW.host(Ethertype::Ipv4)])?;
        self.ovs.appctl("dpctl/flush-conntrack", &[])?;
        let mut admitted = Vec::new();
        let cost = self.measure(|| {
            admitted = exchange.run(attempts)?;
            Ok(attempts.len())
        })?;
        Ok((Cost { admitted: admitted.len(), ..cost }, admitted))
    }

    /// A TCP connection between the two ports that speak it carries so many megabytes.
    pub(super) fn throughput(&self, megabytes: usize) -> Result<Cost> {
        let address = (RECEIVER.ipv4(), cloud::STREAM_PORT).into();
        let mut stream = stream::Stream::open(&self.sender, &self.receiver, address)?;
        // What a connection costs that begins is measured elsewhere.
        stream.carry(1)?;
        let cost = self.measure(|| stream.carry(megabytes))?;
        Ok(Cost { admitted: cost.tried, ..cost })
    }

    /// TCP connections between the two ports that speak it, one after the other.
    pub(super) fn connections(&self, count: usize) -> Result<Cost> {
        let address = (RECEIVER.ipv4(), cloud::STREAM_PORT).into();
        self.ovs.appctl("dpctl/flush-conntrack", &[])?;
        let cost = self.measure(|| stream::connect_in_turn(&self.sender, &self.receiver, address, count))?;
        Ok(Cost { admitted: cost.tried, ..cost })
    }

    /// What the switch does for `work`, of which its caches know nothing yet; `work` says how much it was.
    fn measure(&self, work: impl FnOnce() -> Result<usize>) -> Result<Cost> {
        self.ovs.wait_for_caches()?;
        let (counters, cpu, begun) = (self.counters()?, self.ovs.vswitchd_cpu()?, Instant::now());
        let tried = work()?;
        let (wall, switch_cpu) = (begun.elapsed(), self.ovs.vswitchd_cpu()? - cpu);
        let now = self.counters()?;
        Ok(Cost {
            tried,
            admitted: 0,
            megaflows: now.flows,
            upcalls: now.missed - counters.missed,
            switch_cpu: switch_cpu.as_secs_f64(),
            wall: wall.as_secs_f64(),
        })
    }

    fn counters(&self) -> Result<Counters> {
        let text = self.ovs.appctl("dpctl/show", &[])?;
        counters(&text).with_context(|| format!("dpctl/show says {text}"))
    }
}

/// The VM of a local port; with addresses, its kernel speaks.
fn vm(local: Local, with_addresses: bool) -> Result<VmSpec> {
    let spec = VmSpec::new(local.name, local.name, Mac(local.mac().0)).tag(VLAN);
    Ok(if with_addresses { spec.address(&format!("{}/16", local.ipv4()))? } else { spec })
}

/// sgflow's driver makes its table.
pub(super) fn enforce(ovs: &Ovs, outside: &str) -> Result<()> {
    let mut subject = Subject::start(host::setup(ovs, [outside.to_owned()].into())?)?;
    subject.give(Policy::diff(&Policy::default(), &cloud::policy()))?;
    subject.until_settled((Duration::ZERO, Duration::ZERO), Instant::now(), || Ok(ovs.vswitchd_cpu()?))?;
    Ok(())
}

/// Loads flows of ovs-ofctl's text.
pub(super) fn load(ovs: &Ovs, file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    for line in text.lines().filter_map(|line| line.strip_prefix(PREFIXES)) {
        let Some((table, fields)) = line.split_once(' ') else { bail!("not `TABLE FIELDS`: {line}") };
        let (prefixes, flow_tables) = (format!("prefixes={fields}"), format!("flow_tables:{table}=@table"));
        ovs.vsctl(&[
            "--id=@table",
            "create",
            "Flow_Table",
            &prefixes,
            "--",
            "set",
            "Bridge",
            BRIDGE,
            &flow_tables,
        ])?;
    }
    let path = file.to_str().context("a path in Unicode")?;
    ovs.ofctl(&["-O", "OpenFlow14", "--bundle", "add-flows", BRIDGE, path])?;
    Ok(())
}

fn dump(ovs: &Ovs) -> Result<Vec<String>> {
    let text = ovs.ofctl(&["-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", BRIDGE])?;
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| line.contains("actions=")).collect())
}

/// Out of what `dpctl/show` prints of the one datapath: `  lookups: hit:1 missed:2 lost:0` and `  flows: 3`.
fn counters(text: &str) -> Option<Counters> {
    let after = |word: &str| -> Option<u64> {
        let rest = &text[text.find(word)? + word.len()..];
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(Counters { missed: after(" missed:")?, flows: after(" flows:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_those_of_the_datapath() {
        let text =
            "netdev@ovs-netdev:\n  lookups: hit:5 missed:12 lost:0\n  flows: 3\n  port 0: ovs-netdev (tap)\n";
        assert_eq!(counters(text), Some(Counters { missed: 12, flows: 3 }));
        assert_eq!(counters("nothing"), None);
    }

    #[test]
    fn a_table_is_named_and_in_a_file() {
        let table: TableFile = "neutron=/tmp/a=b".parse().unwrap();
        assert_eq!(table, TableFile { name: "neutron".to_owned(), path: "/tmp/a=b".into() });
        assert!("neutron".parse::<TableFile>().is_err());
    }
}
