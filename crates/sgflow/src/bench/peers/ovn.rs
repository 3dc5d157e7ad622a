//! OVN: its databases, ovn-northd and ovn-controller on a private switch, with security groups as Neutron's OVN driver writes
//! them into the northbound database: a port group and its ACLs a security group, port security, and a group that drops the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::process;
use ovsdb::{
    Client, Condition, ConnectOptions, Insert, Mutate, Mutator, NamedRow, OperationIndex, Transaction, Uuid,
    Value,
};
use policy::{Direction, Ethertype, GroupId, Policy, Port, Remote, Rule, SecurityGroup, Service};

use super::{Clocks, Enforcer, PeerCost, TookTooLong, until_idle};
use crate::bench::host::{BRIDGE, Host};
use crate::bench::scenario::Scenario;

const NORTHBOUND: &str = "OVN_Northbound";
const SCHEMAS: &str = "/usr/share/ovn";
/// Daemons that serve all hosts.
const CENTRAL: [&str; 3] = ["ovnnb", "ovnsb", "ovn-northd"];
const CONTROLLER: &str = "ovn-controller";
const SWITCH: &str = "net";
/// The port group that all ports are in, and which drops what no security group allows; Neutron's name for it.
const DROP: &str = "neutron_pg_drop";
/// Priorities of ACLs, as Neutron has them.
const DROP_PRIORITY: i64 = 1001;
const ALLOW_PRIORITY: i64 = 1002;
/// How long a daemon may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How ovn-nbctl ends when its `--timeout` is over: by this signal (ovn-nbctl(8)).
const ALARM: i32 = nix::libc::SIGALRM;

/// Its version.
pub(super) fn version() -> Result<String> {
    let missing = "OVN is not installed: run `make peers`, or install ovn-central and ovn-host";
    super::version_of(Command::new("ovn-northd").arg("--version"), missing)?;
    super::version_of(Command::new(CONTROLLER).arg("--version"), missing)
}

/// OVN at work on a switch of its own.
pub(super) struct Ovn {
    host: Host,
    patience: Duration,
    policy: Policy,
    /// Rows of ports and of ACLs, by the port's or the rule's id.
    rows: HashMap<String, Uuid>,
}

impl Ovn {
    /// Starts all of it, with an empty network.
    pub(super) fn start(scenario: &Scenario, patience: Duration) -> Result<Self> {
        let host = Host::start_untagged(scenario)?;
        let mut ovn = Ovn { host, patience, policy: Policy::default(), rows: HashMap::new() };
        for (name, schema) in [("ovnnb", "ovn-nb.ovsschema"), ("ovnsb", "ovn-sb.ovsschema")] {
            ovn.start_database(name, schema)?;
        }
        let mut northd = ovn.command("ovn-northd");
        northd.args(["--ovnnb-db", &ovn.remote("ovnnb"), "--ovnsb-db", &ovn.remote("ovnsb")]);
        ovn.host.ovs.start_daemon("ovn-northd", northd)?;
        // The controller speaks a version of OpenFlow that the bridge does not offer as Neutron's agent leaves it.
        let remote = format!("external_ids:ovn-remote={}", ovn.remote("ovnsb"));
        let options = ["external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip=127.0.0.1"];
        let set = ["clear", "Bridge", BRIDGE, "protocols", "--", "set", "Open_vSwitch", ".", &remote];
        ovn.host.ovs.vsctl(&[&set[..], &options].concat())?;
        ovn.start_controller()?;
        ovn.until_registered()?;
        let network = Insert::into("Logical_Switch").set("name", SWITCH);
        ovn.transact(&Transaction::new(NORTHBOUND).with(network))?;
        ovn.sync()?;
        Ok(ovn)
    }

    fn start_database(&mut self, name: &'static str, schema: &str) -> Result<()> {
        let file = self.path(&format!("{name}.db"));
        let mut create = self.command("ovsdb-tool");
        create.arg("create").arg(&file).arg(PathBuf::from(SCHEMAS).join(schema));
        process::run(create, None)?;
        let mut server = self.command("ovsdb-server");
        server.arg(&file).arg(format!("--remote=p{}", self.remote(name)));
        self.host.ovs.start_daemon(name, server)?;
        let socket = self.path(&format!("{name}.sock"));
        until(&format!("{name} listens"), || Ok(socket.exists()))
    }

    fn start_controller(&mut self) -> Result<()> {
        let mut controller = self.command(CONTROLLER);
        controller.arg(self.host.ovs.db_remote());
        Ok(self.host.ovs.start_daemon(CONTROLLER, controller)?)
    }

    /// Waits until the controller is a chassis: before that, nobody would wait for it.
    fn until_registered(&self) -> Result<()> {
        until("ovn-controller registers", || {
            let mut list = self.command("ovn-sbctl");
            list.arg(format!("--timeout={}", READY_WITHIN.as_secs()));
            list.args(["--db", &self.remote("ovnsb"), "--bare", "--columns=name", "list", "Chassis_Private"]);
            Ok(!process::run(list, None)?.trim().is_empty())
        })
    }

    /// Waits until the controller has done what the northbound database says.
    fn sync(&self) -> Result<()> {
        let mut sync = self.command("ovn-nbctl");
        sync.arg(format!("--timeout={}", self.patience.as_secs().max(1)));
        sync.args(["--db", &self.remote("ovnnb"), "--wait=hv", "sync"]);
        let output = process::output(sync, Some(self.host.ovs.netns()))?;
        if output.status.signal() == Some(ALARM) {
            return Err(TookTooLong.into());
        }
        ensure!(output.status.success(), "ovn-nbctl sync: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn transact(&self, transaction: &Transaction) -> Result<Vec<Uuid>> {
        let remote = self.remote("ovnnb").parse().context("the northbound database's address")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let reply = runtime.block_on(async {
            let mut client = Client::connect(&remote, &ConnectOptions::default()).await?;
            let answer = tokio::time::timeout(self.patience, client.transact(transaction)).await;
            anyhow::Ok(answer.map_err(|_| TookTooLong)??)
        })?;
        let results = 0..reply.results().len();
        Ok(results.filter_map(|number| reply.inserted(OperationIndex(number))).collect())
    }

    fn clocks(&self) -> Result<Clocks> {
        let of = |name| -> Result<Duration> { Ok(process::cpu(self.host.ovs.daemon_pid(name)?)?) };
        let mut central = Duration::ZERO;
        for name in CENTRAL {
            central += of(name)?;
        }
        Ok(Clocks { central, agent: of(CONTROLLER)?, switch: self.host.switch_cpu()? })
    }

    /// Has all done that something began then, with this processor time used by then.
    fn until_done(&self, before: Clocks, begun: Instant) -> Result<PeerCost> {
        self.sync()?;
        let taken = begun.elapsed().as_secs_f64();
        let cost = self.clocks()?.cost_since(&before);
        Ok(PeerCost { taken, flows: self.host.flows()?, ..cost })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.ovs.rundir().join(name)
    }

    fn remote(&self, database: &str) -> String {
        format!("unix:{}", self.path(&format!("{database}.sock")).display())
    }

    /// A program that looks for everything in the run directory.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR"] {
            command.env(variable, self.host.ovs.rundir());
        }
        command
    }
}

impl Enforcer for Ovn {
    fn apply(&mut self, policy: &Policy) -> Result<PeerCost> {
        let Change { transaction, inserts, .. } = change(&self.policy, policy, &self.rows);
        until_idle(self.patience, || self.clocks())?;
        let (before, begun) = (self.clocks()?, Instant::now());
        let inserted = self.transact(&transaction)?;
        let cost = self.until_done(before, begun)?;
        self.rows.extend(inserts.into_iter().zip(inserted));
        self.policy = policy.clone();
        Ok(cost)
    }

    fn restart(&mut self) -> Result<PeerCost> {
        until_idle(self.patience, || self.clocks())?;
        let before = Clocks { agent: Duration::ZERO, ..self.clocks()? };
        self.host.ovs.stop_daemon(CONTROLLER);
        let begun = Instant::now();
        self.start_controller()?;
        self.until_done(before, begun)
    }
}

/// A change of the northbound database.
struct Change<'a> {
    transaction: Transaction,
    /// What the transaction inserts, in its order: a port's or a rule's id, or a group's name.
    inserts: Vec<String>,
    /// Rows that were inserted before.
    rows: &'a HashMap<String, Uuid>,
}

/// A set of ports: a table, and the name of a row that has one in column `ports`.
type Place = (&'static str, String);

/// What makes one policy of another.
fn change<'a>(before: &Policy, after: &Policy, rows: &'a HashMap<String, Uuid>) -> Change<'a> {
    let mut change = Change { transaction: Transaction::new(NORTHBOUND), inserts: Vec::new(), rows };
    if before.groups.is_empty() {
        let acls = [Direction::Ingress, Direction::Egress].map(|direction| {
            let matched = format!("{} == @{DROP} && ip", end_of(direction));
            change.insert(DROP, acl(direction, DROP_PRIORITY, &matched, "drop"))
        });
        change.insert(DROP, Insert::into("Port_Group").set("name", DROP).set("acls", Value::set(&acls)));
    }
    let delta = Policy::diff(before, after);
    for (id, group) in &delta.groups {
        if let Some(group) = group {
            change.rules(before.groups.get(id).map(AsRef::as_ref), group);
        }
    }
    // In one mutation each, as all ports of a group or network are one column.
    let (mut joins, mut leaves) = (BTreeMap::new(), BTreeMap::new());
    for (id, port) in &delta.ports {
        let (was, is) = (before.ports.get(id), port.as_ref());
        let Some(row) = change.port(id.as_str(), was.is_some(), is.map(AsRef::as_ref)) else { continue };
        let places = |port: Option<&Arc<Port>>| port.map(|port| places_of(port)).unwrap_or_default();
        let (was, is) = (places(was), places(is));
        let note = |places: &mut BTreeMap<Place, Vec<Value>>, place: &Place| {
            places.entry(place.clone()).or_default().push(row.clone());
        };
        is.difference(&was).for_each(|place| note(&mut joins, place));
        was.difference(&is).for_each(|place| note(&mut leaves, place));
    }
    for (mutator, places) in [(Mutator::Insert, joins), (Mutator::Delete, leaves)] {
        for ((table, name), ports) in places {
            let row = Mutate::table(table).filter(Condition::equal("name", name));
            change.transaction.push(row.mutate("ports", mutator, Value::set(ports)));
        }
    }
    change
}

impl Change<'_> {
    fn insert(&mut self, id: &str, row: Insert) -> NamedRow {
        let name = NamedRow::new(format!("row{}", self.inserts.len()));
        self.transaction.push(row.named(&name));
        self.inserts.push(id.to_owned());
        name
    }

    /// The row of a port, which may have to be made; without a port group or network that has it, it goes by itself.
    fn port(&mut self, id: &str, was: bool, is: Option<&Port>) -> Option<Value> {
        match is {
            Some(port) if !was => Some(Value::from(self.insert(id, logical_port(port)))),
            _ => self.rows.get(id).map(|row| Value::from(*row)),
        }
    }

    /// A port group has the rules of its security group.
    fn rules(&mut self, was: Option<&SecurityGroup>, is: &SecurityGroup) {
        let old = was.map(|group| group.rules.as_slice()).unwrap_or_default();
        let new: Vec<&Rule> = is.rules.iter().filter(|rule| !old.contains(rule)).collect();
        let acls: Vec<NamedRow> =
            new.iter().map(|rule| self.insert(rule.id.as_str(), allow(is, rule))).collect();
        let (acls, name) = (Value::set(&acls), port_group(&is.id));
        if was.is_none() {
            self.insert(&name, Insert::into("Port_Group").set("name", name.as_str()).set("acls", acls));
            return;
        }
        let gone = old.iter().filter(|rule| !is.rules.contains(rule));
        let gone: Vec<Value> =
            gone.filter_map(|rule| self.rows.get(rule.id.as_str()).map(|row| Value::from(*row))).collect();
        let row = Mutate::table("Port_Group").filter(Condition::equal("name", name));
        let row = row.mutate("acls", Mutator::Insert, acls).mutate("acls", Mutator::Delete, Value::set(gone));
        self.transaction.push(row);
    }
}

/// Where a port is in a set of ports.
fn places_of(port: &Port) -> BTreeSet<Place> {
    let groups = port.security_groups.iter().map(port_group).chain([DROP.to_owned()]);
    let network = ("Logical_Switch", SWITCH.to_owned());
    groups.map(|group| ("Port_Group", group)).chain([network]).collect()
}

/// The name of a port group takes letters, digits and underscores.
fn port_group(group: &GroupId) -> String {
    format!("pg_{}", group.as_str().replace('-', "_"))
}

/// A port that sends from nothing but its own addresses.
fn logical_port(port: &Port) -> Insert {
    let mut addresses = port.mac.to_string();
    for ip in &port.fixed_ips {
        addresses = format!("{addresses} {ip}");
    }
    let addresses = Value::set([addresses.as_str()]);
    Insert::into("Logical_Switch_Port")
        .set("name", port.id.as_str())
        .set("addresses", addresses.clone())
        .set("port_security", addresses)
}

/// Which port an ACL of that direction is about.
fn end_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "outport",
        Direction::Egress => "inport",
    }
}

fn acl(direction: Direction, priority: i64, matched: &str, action: &str) -> Insert {
    let direction = match direction {
        Direction::Ingress => "to-lport",
        Direction::Egress => "from-lport",
    };
    Insert::into("ACL")
        .set("direction", direction)
        .set("priority", priority)
        .set("match", matched)
        .set("action", action)
}

fn allow(group: &SecurityGroup, rule: &Rule) -> Insert {
    let action = if group.stateful { "allow-related" } else { "allow-stateless" };
    acl(rule.direction, ALLOW_PRIORITY, &matched_by(&group.id, rule), action)
}

/// What a rule matches, in OVN's language (ovn-sb(5), `Logical_Flow` `match`).
fn matched_by(group: &GroupId, rule: &Rule) -> String {
    let version = match rule.ethertype {
        Ethertype::Ipv4 => 4,
        Ethertype::Ipv6 => 6,
    };
    let remote_end = match rule.direction {
        Direction::Ingress => "src",
        Direction::Egress => "dst",
    };
    let mut terms =
        vec![format!("{} == @{}", end_of(rule.direction), port_group(group)), format!("ip{version}")];
    match &rule.remote {
        Remote::Any => {}
        Remote::Prefix(prefix) => terms.push(format!("ip{version}.{remote_end} == {prefix}")),
        // northd makes an address set of every port group.
        Remote::Group(group) => {
            terms.push(format!("ip{version}.{remote_end} == ${}_ip{version}", port_group(group)));
        }
        Remote::AddressGroup(_) => unreachable!("the policies that are measured have no address groups"),
    }
    match rule.service {
        Service::Any => {}
        Service::Ports { protocol, range } => {
            terms.push(protocol.to_string());
            if let Some(range) = range {
                terms.push(format!("{protocol}.dst >= {} && {protocol}.dst <= {}", range.min, range.max));
            }
        }
        Service::Icmp { icmp_type, code } => {
            terms.push(format!("icmp{version}"));
            terms.extend(icmp_type.map(|number| format!("icmp{version}.type == {number}")));
            terms.extend(code.map(|number| format!("icmp{version}.code == {number}")));
        }
        Service::Protocol(number) => terms.push(format!("ip.proto == {number}")),
    }
    terms.join(" && ")
}

fn until(what: &str, ready: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !ready()? {
        ensure!(begun.elapsed() < READY_WITHIN, "{what}: not within {READY_WITHIN:?}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::Shape;

    #[test]
    fn rules_are_matches_in_the_language_of_ovn() {
        let policy = Scenario { shape: Shape::Rich, ports: 1, members: 1 }.policy();
        let (id, group) = policy.groups.iter().find(|(id, _)| id.as_str() == "sg-0").unwrap();
        let matched: BTreeSet<String> = group.rules.iter().map(|rule| matched_by(id, rule)).collect();
        for expected in [
            "inport == @pg_sg_0 && ip4 && udp && udp.dst >= 1000 && udp.dst <= 1037",
            "outport == @pg_sg_0 && ip4 && ip4.src == $pg_sg_0_ip4 && tcp && tcp.dst >= 1100 && tcp.dst <= 1137",
            "outport == @pg_sg_0 && ip4 && ip4.src == 10.2.0.0/16 && udp && udp.dst >= 1200 && udp.dst <= 1263",
            "inport == @pg_sg_0 && ip6",
        ] {
            assert!(matched.contains(expected), "{matched:#?}");
        }
    }

    #[test]
    fn a_member_more_and_less_is_a_port_and_its_places() {
        let scenario = Scenario { shape: Shape::Default, ports: 1, members: 1 };
        let (before, mut after) = (scenario.policy(), scenario.policy());
        scenario.add_port(&mut after, 1);
        let mut rows = HashMap::new();
        let more = change(&before, &after, &rows);
        assert_eq!(more.inserts, ["port-1"]);
        let tables = |change: &Change<'_>| -> Vec<(&'static str, String)> {
            let operations = change.transaction.operations().iter().map(|operation| operation.describe());
            operations.map(|(name, table)| (name, table.unwrap_or_default().to_owned())).collect()
        };
        let of = |name, table: &str| (name, table.to_owned());
        let places = [of("mutate", "Logical_Switch"), of("mutate", "Port_Group"), of("mutate", "Port_Group")];
        assert_eq!(tables(&more), [&[of("insert", "Logical_Switch_Port")][..], &places].concat());
        rows.insert("port-1".to_owned(), "0fdb7fe5-5fb2-4ad8-a1f9-cbd3a9c6f8a1".parse().unwrap());
        assert_eq!(tables(&change(&after, &before, &rows)), places);
    }
}
