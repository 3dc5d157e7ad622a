//! What the switch's database says of ports, and the one transaction that plugs a port in otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::config::Config;
use agent::host::{FIRST_ZONE, IFACE_ID, ZONE};
use anyhow::{Context as _, bail, ensure};
use ovsdb::{
    Atom, Client, Condition, ConnectOptions, Insert, Mutate, Mutator, NamedRow, Operation, OperationIndex,
    Row, Select, Transaction, Uuid, Value,
};
use policy::PortId;
use tokio::time::{Instant, sleep};

/// The database of a switch.
pub(super) const DATABASE: &str = "Open_vSwitch";
/// How often it is asked whether the switch has taken a change.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// What of a Port stays with the guest, whatever its device is called (ovs-vswitchd.conf.db(5), Port).
const OF_PORT: [&str; 6] = ["tag", "trunks", "vlan_mode", "qos", "other_config", "external_ids"];
/// The same of its Interface.
const OF_INTERFACE: [&str; 3] = ["mtu_request", "ingress_policing_rate", "ingress_policing_burst"];
/// Key of the `external_ids` of an Interface that was moved off a hybrid bridge: `true`. Nothing else tells it from one of a guest that never had
/// such a bridge, and `--back` is not for those.
const MOVED: &str = "sgflow-hybrid";

/// An interface of the integration bridge that says it is a port's.
#[derive(Clone, Debug)]
pub(super) struct Plugged {
    pub(super) port: PortId,
    /// The device.
    pub(super) name: String,
    /// Whether the device is one of the host's, and not one that the switch makes: `type` is `system` or empty.
    pub(super) is_device: bool,
    pub(super) ofport: Option<u16>,
    /// Why the switch could not open it.
    pub(super) error: Option<String>,
    /// Its conntrack zone in the switch.
    pub(super) zone: Option<u16>,
    /// It was behind a hybrid bridge.
    pub(super) was_hybrid: bool,
    row: Uuid,
    ids: BTreeMap<String, String>,
    of_port: Columns,
    of_interface: Columns,
}

type Columns = Vec<(&'static str, Value)>;

/// The integration bridge.
#[derive(Clone, Debug)]
pub(super) struct Bridge {
    row: Uuid,
    name: String,
    /// `datapath_type`, `system` where it is empty.
    pub(super) datapath: String,
    pub(super) is_secure: bool,
    /// Interfaces that carry a port's id.
    pub(super) plugged: Vec<Plugged>,
    /// Names of all interfaces of all bridges.
    pub(super) interfaces: BTreeMap<String, bool>,
}

/// A connection, made for one question: one that is idle is closed by the server.
async fn connect(config: &Config) -> anyhow::Result<Client> {
    let options = ConnectOptions { tls: config.ovsdb.tls.clone(), ..ConnectOptions::default() };
    Ok(Client::connect(&config.ovsdb.remote, &options).await?)
}

/// Reads the bridge and what is plugged into it.
pub(super) async fn read(config: &Config) -> anyhow::Result<Bridge> {
    let mut client = connect(config).await?;
    let name = config.integration_bridge.as_str();
    let mut transaction = Transaction::new(DATABASE);
    let columns = ["_uuid", "name", "ports", "fail_mode", "datapath_type"];
    let bridges =
        transaction.push(Select::from("Bridge").filter(Condition::equal("name", name)).columns(columns));
    let ports = transaction
        .push(Select::from("Port").columns(["_uuid", "name", "interfaces"].into_iter().chain(OF_PORT)));
    let columns =
        ["_uuid", "name", "type", "ofport", "error", "external_ids"].into_iter().chain(OF_INTERFACE);
    let interfaces = transaction.push(Select::from("Interface").columns(columns));
    let reply = client.transact(&transaction).await?;
    let rows = |index: OperationIndex| reply.rows(index).unwrap_or_default();
    let bridge = rows(bridges).first().with_context(|| format!("there is no bridge {name}"))?;
    let ports_of_bridge = bridge.uuids("ports")?;
    let interfaces: BTreeMap<Uuid, &Row> = rows(interfaces).iter().map(|row| (row.uuid(), row)).collect();
    let (mut plugged, mut names) = (Vec::new(), BTreeMap::new());
    for port in rows(ports) {
        let is_ours = ports_of_bridge.contains(&port.uuid());
        for interface in port.uuids("interfaces")?.iter().filter_map(|id| interfaces.get(id)) {
            names.insert(interface.string("name")?.to_owned(), is_ours);
            if is_ours && let Some(found) = plug(port, interface)? {
                plugged.push(found);
            }
        }
    }
    let datapath = Some(bridge.string("datapath_type")?).filter(|name| !name.is_empty());
    Ok(Bridge {
        row: bridge.uuid(),
        name: name.to_owned(),
        datapath: datapath.unwrap_or("system").to_owned(),
        is_secure: bridge.optional_string("fail_mode")? == Some("secure"),
        plugged,
        interfaces: names,
    })
}

fn plug(port: &Row, interface: &Row) -> anyhow::Result<Option<Plugged>> {
    let ids = interface.map("external_ids")?;
    let Some(id) = ids.get(IFACE_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let columns = |row: &Row, names: &[&'static str]| -> anyhow::Result<Columns> {
        names.iter().map(|name| Ok((*name, Value::from(row.datum(name)?)))).collect()
    };
    let zone = ids.get(ZONE).and_then(|text| text.parse().ok()).filter(|zone| *zone >= FIRST_ZONE);
    Ok(Some(Plugged {
        port: id.into(),
        name: interface.string("name")?.to_owned(),
        is_device: ["", "system"].contains(&interface.string("type")?),
        ofport: interface.optional_integer("ofport")?.and_then(|number| number.try_into().ok()),
        error: interface.optional_string("error")?.map(str::to_owned),
        zone,
        was_hybrid: ids.get(MOVED) == Some("true"),
        row: port.uuid(),
        ids: ids.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        of_port: columns(port, &OF_PORT)?,
        of_interface: columns(interface, &OF_INTERFACE)?,
    }))
}

/// Takes one interface off the bridge and plugs another in, as the same port of the same network, in one transaction; `is_off_bridge` if the new one is the
/// guest's device. Returns when the switch has
/// taken that, or with an error when it has not `within` that time.
pub(super) async fn replug(
    config: &Config,
    bridge: &Bridge,
    from: &Plugged,
    to: &str,
    is_off_bridge: bool,
    within: Duration,
) -> anyhow::Result<()> {
    let (port, interface) = (NamedRow::new("port"), NamedRow::new("interface"));
    let mut ids = from.ids.clone();
    match is_off_bridge {
        true => _ = ids.insert(MOVED.to_owned(), "true".to_owned()),
        false => _ = ids.remove(MOVED),
    }
    let mut transaction = Transaction::new(DATABASE);
    // With them the conntrack zone goes along, and so the connections.
    let mut row =
        Insert::into("Interface").set("name", to).set("external_ids", Value::map(&ids)).named(&interface);
    for (column, value) in &from.of_interface {
        row = row.set(*column, value.clone());
    }
    transaction.push(row);
    let mut row = Insert::into("Port").set("name", to).set("interfaces", &interface).named(&port);
    for (column, value) in &from.of_port {
        row = row.set(*column, value.clone());
    }
    transaction.push(row);
    let old = || Value::from(Atom::from(from.row));
    let mutate = Mutate::table("Bridge").filter(bridge.row).filter(Condition::includes("ports", old()));
    let mutate = mutate.mutate("ports", Mutator::Delete, old()).mutate("ports", Mutator::Insert, &port);
    let changed = transaction.push(mutate);
    let text = format!("sgflow migrate: {} in place of {}", to, from.name);
    finish(config, transaction, changed, text, within).await
}

/// Takes an interface off the bridge.
pub(super) async fn unplug(
    config: &Config,
    bridge: &Bridge,
    from: &Plugged,
    within: Duration,
) -> anyhow::Result<()> {
    let mut transaction = Transaction::new(DATABASE);
    let old = Value::from(Atom::from(from.row));
    let mutate = Mutate::table("Bridge").filter(bridge.row).mutate("ports", Mutator::Delete, old);
    let changed = transaction.push(mutate);
    let text = format!("sgflow migrate: {} off {}", from.name, bridge.name);
    finish(config, transaction, changed, text, within).await
}

async fn finish(
    config: &Config,
    mut transaction: Transaction,
    changed: OperationIndex,
    comment: String,
    within: Duration,
) -> anyhow::Result<()> {
    transaction.push(Mutate::table("Open_vSwitch").mutate("next_cfg", Mutator::Add, 1));
    let wanted = transaction.push(Select::from("Open_vSwitch").columns(["next_cfg"]));
    transaction.push(Operation::Comment(comment));
    let mut client = connect(config).await?;
    let reply = client.transact(&transaction).await?;
    ensure!(
        reply.count(changed) == Some(1),
        "somebody else changed {} meanwhile; run this again",
        config.integration_bridge
    );
    let wanted = match reply.rows(wanted).unwrap_or_default() {
        [row] => row.integer("next_cfg")?,
        _ => bail!("the database has no row Open_vSwitch"),
    };
    let deadline = Instant::now() + within;
    loop {
        let mut ask = Transaction::new(DATABASE);
        let taken = ask.push(Select::from("Open_vSwitch").columns(["cur_cfg"]));
        let reply = client.transact(&ask).await?;
        let taken = reply.rows(taken).and_then(|rows| rows.first()).map(|row| row.integer("cur_cfg"));
        if taken.transpose()?.is_some_and(|taken| taken >= wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "ovs-vswitchd has not taken the change");
        sleep(ASK_EVERY).await;
    }
}
