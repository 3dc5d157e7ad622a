//! What the database would say after a write: for runs that write nothing.

use std::collections::BTreeMap;

use ovsdb::Uuid;

use super::{DatabaseWrite, Engine};
use crate::host::{BridgeRow, FlowTableRow, RowChange};

impl Engine {
    /// The rows as they would be if `writes` were made.
    pub fn pretend_written(&self, writes: &[DatabaseWrite]) -> Vec<RowChange> {
        let mut bridge: Option<BridgeRow> = self.host.bridge().cloned();
        let mut rows = Vec::new();
        let mut new_tables: BTreeMap<u8, Uuid> = BTreeMap::new();
        for write in writes {
            match write {
                DatabaseWrite::FailModeSecure { .. } => {
                    bridge.iter_mut().for_each(|bridge| bridge.fail_mode = Some("secure".to_owned()));
                }
                DatabaseWrite::Generation { mark, .. } => {
                    bridge.iter_mut().for_each(|bridge| bridge.generation = Some(mark.to_string()));
                }
                DatabaseWrite::Zone { interface, zone, port } => {
                    let row = self.host.interface(interface).cloned().map(|mut row| {
                        row.zone = Some(*zone);
                        row.zone_port = Some(port.clone());
                        row
                    });
                    rows.push(RowChange::Interface(*interface, row));
                }
                DatabaseWrite::Prefixes { table, row, name, prefixes, .. } => {
                    let id = row.unwrap_or_else(|| Uuid::from_u128(u128::from(*table)));
                    let prefixes = prefixes.iter().map(|field| (*field).to_owned()).collect();
                    let row = FlowTableRow { name: Some((*name).to_owned()), prefixes };
                    rows.push(RowChange::FlowTable(id, Some(row)));
                    new_tables.insert(*table, id);
                }
            }
        }
        if let (Some(id), Some(mut bridge)) = (self.host.bridge_id(), bridge) {
            bridge.flow_tables.extend(new_tables);
            rows.push(RowChange::Bridge(id, Some(bridge)));
        }
        rows
    }
}
