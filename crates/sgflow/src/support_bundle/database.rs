//! What the database of Open vSwitch says of the bridge.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use agent::config::Config;
use ovsdb::{Client, ConnectOptions, Row, Select, Transaction, Uuid};

/// The tables, and of each the columns that have to do with us (ovs-vswitchd.conf.db(5), 3.1): named, since in others there may be keys, such as that
/// of a tunnel in `options` of an Interface.
const TABLES: [(&str, &[&str]); 5] = [
    (
        "Open_vSwitch",
        &[
            "ovs_version",
            "db_version",
            "system_type",
            "system_version",
            "next_cfg",
            "cur_cfg",
            "other_config",
        ],
    ),
    (
        "Bridge",
        &[
            "name",
            "ports",
            "controller",
            "fail_mode",
            "datapath_type",
            "datapath_id",
            "protocols",
            "flow_tables",
            "external_ids",
            "status",
        ],
    ),
    ("Flow_Table", &["name", "prefixes", "flow_limit"]),
    ("Port", &["name", "interfaces", "tag", "trunks", "vlan_mode", "other_config"]),
    (
        "Interface",
        &[
            "name",
            "type",
            "ofport",
            "error",
            "admin_state",
            "link_state",
            "mac_in_use",
            "mtu",
            "external_ids",
            "statistics",
        ],
    ),
];

/// The rows of the tables; of bridges other than the integration bridge, and of what is plugged into them, nothing.
pub(super) async fn rows(config: &Config) -> anyhow::Result<String> {
    let options = ConnectOptions { tls: config.ovsdb.tls.clone(), ..ConnectOptions::default() };
    let mut client = Client::connect(&config.ovsdb.remote, &options).await?;
    let mut transaction = Transaction::new("Open_vSwitch");
    let asked = TABLES.map(|(table, columns)| {
        let columns = ["_uuid"].into_iter().chain(columns.iter().copied());
        transaction.push(Select::from(table).columns(columns))
    });
    let reply = client.transact(&transaction).await?;
    let [switch, bridges, tables, ports, interfaces] =
        asked.map(|index| reply.rows(index).unwrap_or_default());
    let mut text = String::new();
    print(&mut text, switch);
    let is_ours = |row: &&Row| row.string("name").is_ok_and(|name| name == config.integration_bridge);
    let bridges: Vec<&Row> = bridges.iter().filter(is_ours).collect();
    print(&mut text, bridges.iter().copied());
    print(&mut text, tables);
    let wanted: BTreeSet<Uuid> =
        bridges.iter().flat_map(|row| row.uuids("ports").unwrap_or_default()).collect();
    let ports: Vec<&Row> = ports.iter().filter(|row| wanted.contains(&row.uuid())).collect();
    print(&mut text, ports.iter().copied());
    let wanted: BTreeSet<Uuid> =
        ports.iter().flat_map(|row| row.uuids("interfaces").unwrap_or_default()).collect();
    print(&mut text, interfaces.iter().filter(|row| wanted.contains(&row.uuid())));
    Ok(text)
}

/// A row a line.
fn print<'a>(text: &mut String, rows: impl IntoIterator<Item = &'a Row>) {
    for row in rows {
        _ = write!(text, "{} {}", row.table(), row.uuid());
        for (column, value) in row.columns().iter().filter(|(column, _)| &***column != "_uuid") {
            _ = write!(text, " {column}={value}");
        }
        text.push('\n');
    }
}
