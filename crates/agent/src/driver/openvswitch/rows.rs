//! Rows of the Open_vSwitch database (ovs-vswitchd.conf.db(5), 3.1) as the host view wants them.

use std::time::Duration;

use ovsdb::{AtomMap, Change, MonitorTable, Row, RowError};
use pipeline::{OfPort, Zone};
use policy::MacAddr;
use tracing::warn;

use crate::host::{
    ATTACHED_MAC, BridgeRow, Configuration, FIRST_ZONE, FlowTableRow, GENERATION, IFACE_ID, InterfaceRow,
    NETWORK, PortRow, RowChange, Tag, ZONE, ZONE_PORT,
};

/// The database of a switch.
pub(in crate::driver) const DATABASE: &str = "Open_vSwitch";

/// `other_config:max-revalidator` when it is not set.
pub(super) const DEFAULT_MAX_REVALIDATOR: Duration = Duration::from_millis(500);

/// What is followed.
pub(in crate::driver) fn monitors() -> Vec<MonitorTable> {
    vec![
        MonitorTable::new("Open_vSwitch", ["other_config", "next_cfg", "cur_cfg"]),
        MonitorTable::new("Bridge", ["name", "ports", "fail_mode", "external_ids", "flow_tables"]),
        MonitorTable::new("Port", ["name", "interfaces", "tag", "other_config"]),
        MonitorTable::new("Interface", ["name", "type", "ofport", "error", "external_ids"]),
        MonitorTable::new("Flow_Table", ["name", "prefixes"]),
    ]
}

/// The longest time between two rounds of the revalidators, when the changes say something of it.
pub(super) fn max_revalidator(changes: &[Change]) -> Option<Duration> {
    let row = changes.iter().rev().find(|change| &*change.table == "Open_vSwitch")?.new_row()?;
    let text = row.map("other_config").ok()?.get("max-revalidator");
    let milliseconds = text.and_then(|text| text.parse().ok());
    Some(milliseconds.map_or(DEFAULT_MAX_REVALIDATOR, Duration::from_millis))
}

/// The changes that concern a host view. A row that cannot be read is as good as none: what it is about is closed.
pub(in crate::driver) fn changes(changes: &[Change]) -> Vec<RowChange> {
    changes.iter().filter_map(change).collect()
}

fn change(change: &Change) -> Option<RowChange> {
    let row = change.new_row();
    match &*change.table {
        "Open_vSwitch" => read(row, configuration).map(RowChange::Configuration),
        "Bridge" => Some(RowChange::Bridge(change.uuid, read(row, bridge))),
        "Port" => Some(RowChange::Port(change.uuid, read(row, port))),
        "Interface" => Some(RowChange::Interface(change.uuid, read(row, interface))),
        "Flow_Table" => Some(RowChange::FlowTable(change.uuid, read(row, flow_table))),
        _ => None,
    }
}

fn read<T>(row: Option<&std::sync::Arc<Row>>, reader: fn(&Row) -> Result<T, RowError>) -> Option<T> {
    reader(row?)
        .map_err(|error| warn!(%error, "a row of the database cannot be read; what it is about is closed"))
        .ok()
}

fn configuration(row: &Row) -> Result<Configuration, RowError> {
    // As ovs-vswitchd reads it: smap_get_bool() of lib/smap.c.
    let restoring = row.map("other_config")?.get("flow-restore-wait");
    let restoring = restoring.is_some_and(|text| text.eq_ignore_ascii_case("true"));
    Ok(Configuration { wanted: row.integer("next_cfg")?, taken: row.integer("cur_cfg")?, restoring })
}

fn bridge(row: &Row) -> Result<BridgeRow, RowError> {
    let tables = row.datum("flow_tables")?.as_map();
    let flow_table = |(key, value): (&ovsdb::Atom, &ovsdb::Atom)| {
        Some((u8::try_from(key.as_integer()?).ok()?, value.as_uuid()?))
    };
    Ok(BridgeRow {
        name: row.string("name")?.to_owned(),
        ports: row.uuids("ports")?.into_iter().collect(),
        fail_mode: row.optional_string("fail_mode")?.map(str::to_owned),
        generation: row.map("external_ids")?.get(GENERATION).map(str::to_owned),
        flow_tables: tables.into_iter().flat_map(AtomMap::iter).filter_map(flow_table).collect(),
    })
}

fn port(row: &Row) -> Result<PortRow, RowError> {
    let column = row.optional_integer("tag")?.and_then(|tag| u16::try_from(tag).ok());
    let other = row.map("other_config")?.get("tag");
    let tag = match (column, other) {
        (Some(tag), _) => Tag::Column(tag),
        (None, Some(text)) => Tag::OtherConfig(text.to_owned()),
        (None, None) => Tag::None,
    };
    let interfaces = row.uuids("interfaces")?.into_iter().collect();
    Ok(PortRow { name: row.string("name")?.to_owned(), interfaces, tag })
}

fn interface(row: &Row) -> Result<InterfaceRow, RowError> {
    let ids = row.map("external_ids")?;
    let zone = ids.get(ZONE).and_then(|text| text.parse().ok()).filter(|zone| *zone >= FIRST_ZONE);
    // -1: the switch could not open it.
    let ofport = row.optional_integer("ofport")?.and_then(|number| u16::try_from(number).ok());
    Ok(InterfaceRow {
        name: row.string("name")?.to_owned(),
        kind: row.string("type")?.to_owned(),
        ofport: ofport.filter(|number| *number > 0).map(OfPort),
        error: row.optional_string("error")?.map(str::to_owned),
        iface_id: ids.get(IFACE_ID).filter(|id| !id.is_empty()).map(Into::into),
        zone: zone.map(Zone),
        zone_port: ids.get(ZONE_PORT).map(Into::into),
        network: ids.get(NETWORK) == Some("true"),
        attached_mac: ids.get(ATTACHED_MAC).and_then(|text| text.parse().ok()).filter(MacAddr::is_station),
    })
}

fn flow_table(row: &Row) -> Result<FlowTableRow, RowError> {
    Ok(FlowTableRow {
        name: row.optional_string("name")?.map(str::to_owned),
        prefixes: row.strings("prefixes")?.into_iter().map(str::to_owned).collect(),
    })
}
