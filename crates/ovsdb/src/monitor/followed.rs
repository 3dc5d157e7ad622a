//! A monitored table, read against the server's schema: how its rows are requested and understood.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::algebra;
use super::{MonitorError, MonitorMethod, MonitorTable};
use crate::matching::Matcher;
use crate::row::Row;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::transaction::where_json;
use crate::value::{Datum, Uuid};
use crate::wire::value::{NO_NAMES, columns_from_json, datum_of_any_count, shown};

/// A table that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) wanted: MonitorTable,
    pub(super) schema: Arc<TableSchema>,
    columns: Vec<Arc<str>>,
    where_json: Json,
    matchers: Vec<Matcher>,
}

/// What an update says about a row.
pub(super) enum RowUpdate {
    /// It is there, and this is all of it.
    Present(Arc<Row>),
    /// It is not there.
    Absent,
}

impl Followed {
    pub(super) fn new(wanted: &MonitorTable, schema: &DatabaseSchema) -> Result<Self, MonitorError> {
        let missing = |what: String| MonitorError::Schema(format!("database {} has no {what}", schema.name));
        let table = schema.table(&wanted.table).ok_or_else(|| missing(format!("table {}", wanted.table)))?;
        let columns = match &wanted.columns {
            None => table.columns.keys().cloned().collect(),
            Some(names) => names
                .iter()
                .map(|name| {
                    let found = table.column(name).map(|column| column.name.clone());
                    found.ok_or_else(|| missing(format!("column {name} in table {}", wanted.table)))
                })
                .collect::<Result<Vec<_>, _>>()?,
        };
        let where_json = where_json(&wanted.conditions);
        let matchers = Matcher::read_all(Some(&where_json), table, NO_NAMES).map_err(MonitorError::Schema)?;
        Ok(Self { wanted: wanted.clone(), schema: table.clone(), columns, where_json, matchers })
    }

    /// The `<monitor-request>` or `<monitor-cond-request>`.
    pub(super) fn request(&self, method: MonitorMethod) -> Json {
        let names = |columns: &[Arc<str>]| columns.iter().map(|name| Json::from(&**name)).collect::<Vec<_>>();
        if method != MonitorMethod::Plain {
            return json!([{"columns": names(&self.columns), "where": self.where_json}]);
        }
        // The conditions are judged here, so their columns are needed too.
        let mut columns = self.columns.clone();
        for column in self.matchers.iter().filter_map(Matcher::column) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        json!([{"columns": names(&columns)}])
    }

    /// Whether the rows that these conditions let pass, and `former` did not or the other way round, are such for good, and what
    /// both look at is monitored.
    ///
    /// If not, a session must not resume from a transaction before the conditions changed: ovsdb-server (3.1, and 4.0 by its
    /// source, `ovsdb_monitor_get_update`) sends no update where no row that is seen changes, so that the last transaction
    /// that was seen can be older than the change. A row may have changed in between, unseen, so that a server that resumes from
    /// there judges it by what it was then: it stays here when it goes, or is missing when it comes.
    pub(super) fn goes_on_from(&self, former: &Followed) -> bool {
        let is_constant = |matcher: &Matcher| match matcher.column() {
            Some(column) => self.schema.column(column).is_some_and(|column| !column.mutable),
            None => true,
        };
        let is_seen = |matcher: &Matcher| matcher.column().is_none_or(|column| self.columns.contains(column));
        let is_common =
            |matcher: &Matcher| self.matchers.contains(matcher) && former.matchers.contains(matcher);
        // No condition at all lets every row pass, for good: there is nothing to look at.
        let all = || self.matchers.iter().chain(&former.matchers);
        all().all(|matcher| is_constant(matcher) || (is_common(matcher) && is_seen(matcher)))
    }

    /// The `<monitor-cond-update-request>`.
    pub(super) fn condition_change(&self) -> Json {
        json!([{"where": self.where_json}])
    }

    /// Reads a `<row-update>` of RFC 7047 §4.1.6. Its `new` is the whole row, also for a modification.
    pub(super) fn row_update(&self, uuid: Uuid, json: &Json) -> Result<RowUpdate, MonitorError> {
        let Some(new) = json.get("new").filter(|new| !new.is_null()) else { return Ok(RowUpdate::Absent) };
        let mut columns = self.columns(new)?;
        let wanted =
            self.matchers.is_empty() || self.matchers.iter().any(|matcher| matcher.matches(uuid, &columns));
        if !wanted {
            return Ok(RowUpdate::Absent);
        }
        columns.retain(|name, _| self.columns.contains(name));
        Ok(self.present(uuid, columns))
    }

    /// Reads a `<row-update2>` of ovsdb-server(7) 4.1.14, on a row that is now `old`.
    pub(super) fn row_update2(
        &self,
        uuid: Uuid,
        json: &Json,
        old: Option<&Arc<Row>>,
    ) -> Result<RowUpdate, MonitorError> {
        let update =
            json.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next());
        match update.map(|(kind, row)| (kind.as_str(), row)) {
            Some(("initial" | "insert", row)) => {
                let mut columns = self.columns(row)?;
                for name in &self.columns {
                    if let (false, Some(column)) = (columns.contains_key(name), self.schema.column(name)) {
                        columns.insert(name.clone(), column.column_type.default_datum());
                    }
                }
                Ok(self.present(uuid, columns))
            }
            Some(("delete", _)) => Ok(RowUpdate::Absent),
            Some(("modify", difference)) => {
                let Some(old) = old else {
                    return Err(self.malformed(&format!("row {uuid} is modified, which was never sent")));
                };
                self.modified(old, difference)
            }
            _ => Err(self.malformed(&format!("{} is no <row-update2>", shown(json)))),
        }
    }

    fn modified(&self, old: &Row, difference: &Json) -> Result<RowUpdate, MonitorError> {
        let difference = difference
            .as_object()
            .ok_or_else(|| self.malformed(&format!("{} is no row", shown(difference))))?;
        let mut columns = old.columns().clone();
        for (name, json) in difference {
            let (Some(column), Some(present)) = (self.schema.column(name), columns.get_mut(name.as_str()))
            else {
                return Err(self.malformed(&format!("column {name} is modified, which is not monitored")));
            };
            let difference = datum_of_any_count(json, &column.column_type, NO_NAMES)
                .map_err(|reason| self.malformed(&format!("column {name}: {reason}")))?;
            *present = algebra::apply(present, difference, &column.column_type).ok_or_else(|| {
                self.malformed(&format!("column {name}: the difference does not fit the row"))
            })?;
        }
        Ok(self.present(old.uuid(), columns))
    }

    fn columns(&self, row: &Json) -> Result<BTreeMap<Arc<str>, Datum>, MonitorError> {
        columns_from_json(row, &self.schema, NO_NAMES).map_err(MonitorError::Malformed)
    }

    fn present(&self, uuid: Uuid, columns: BTreeMap<Arc<str>, Datum>) -> RowUpdate {
        RowUpdate::Present(Arc::new(Row::new(self.schema.name.clone(), uuid, columns)))
    }

    fn malformed(&self, reason: &str) -> MonitorError {
        MonitorError::Malformed(format!("table {}: {reason}", self.schema.name))
    }
}
