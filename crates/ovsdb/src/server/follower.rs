//! A monitor as the server sees it: which rows and columns a client follows, and how changes are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::database::{Columns, Database, DatabaseName, RowChange};
use crate::matching::Matcher;
use crate::monitor::{MonitorMethod, algebra};
use crate::schema::{DatabaseSchema, TableSchema};
use crate::value::Uuid;
use crate::wire::value::{NO_NAMES, datum_to_json};

/// A monitor of a client.
#[derive(Debug)]
pub(super) struct Follower {
    /// The `<json-value>` that the client gave.
    pub(super) id: Json,
    pub(super) name: DatabaseName,
    pub(super) method: MonitorMethod,
    tables: BTreeMap<Arc<str>, TableFollower>,
}

#[derive(Debug)]
struct TableFollower {
    schema: Arc<TableSchema>,
    columns: Vec<Arc<str>>,
    matchers: Vec<Matcher>,
    select: Select,
}

/// `<monitor-select>` of RFC 7047 §4.1.5.
#[derive(Debug, Clone, Copy)]
struct Select {
    initial: bool,
    insert: bool,
    delete: bool,
    modify: bool,
}

/// Table → row → update, as JSON.
type Updates = Map<String, Json>;

impl Follower {
    pub(super) fn read(
        id: Json,
        name: DatabaseName,
        method: MonitorMethod,
        requests: &Json,
        schema: &DatabaseSchema,
    ) -> Result<Self, String> {
        let requests = requests.as_object().ok_or("the monitor requests are no object")?;
        let mut tables = BTreeMap::new();
        for (table, request) in requests {
            let table = schema.table(table).ok_or_else(|| format!("no table named {table}"))?;
            let request = single_request(request)?;
            tables.insert(table.name.clone(), TableFollower::read(request, table, method)?);
        }
        Ok(Self { id, name, method, tables })
    }

    /// Takes new conditions; gives the updates that rows appear or go by.
    pub(super) fn change_conditions(
        &mut self,
        requests: &Json,
        database: &Database,
    ) -> Result<Updates, String> {
        let requests = requests.as_object().ok_or("the requests are no object")?;
        let mut updates = Updates::new();
        for (name, request) in requests {
            let follower =
                self.tables.get_mut(name.as_str()).ok_or_else(|| format!("table {name} is not monitored"))?;
            let request = single_request(request)?;
            let new = Matcher::read_all(request.get("where"), &follower.schema, NO_NAMES)?;
            let old = std::mem::replace(&mut follower.matchers, new);
            for (uuid, record) in database.rows(name) {
                let update =
                    match (holds(&old, uuid, &record.columns), follower.matches(uuid, &record.columns)) {
                        (false, true) => json!({"insert": follower.row_without_defaults(&record.columns)}),
                        (true, false) => json!({"delete": null}),
                        _ => continue,
                    };
                put(&mut updates, name, uuid, update);
            }
        }
        Ok(updates)
    }

    /// All rows: what answers the monitor request.
    pub(super) fn snapshot(&self, database: &Database) -> Updates {
        let mut updates = Updates::new();
        for (name, follower) in self.tables.iter().filter(|(_, follower)| follower.select.initial) {
            for (uuid, record) in
                database.rows(name).filter(|(uuid, record)| follower.matches(*uuid, &record.columns))
            {
                let update = match self.method {
                    MonitorMethod::Plain => json!({"new": follower.row(&record.columns)}),
                    _ => json!({"initial": follower.row_without_defaults(&record.columns)}),
                };
                put(&mut updates, name, uuid, update);
            }
        }
        updates
    }

    /// What of these changes concerns this client.
    pub(super) fn updates(&self, changes: &[RowChange]) -> Updates {
        let mut updates = Updates::new();
        for change in changes {
            let Some(follower) = self.tables.get(&change.table) else { continue };
            let seen = |record: &Option<Arc<super::database::Record>>| {
                record.clone().filter(|record| follower.matches(change.uuid, &record.columns))
            };
            let update = match (seen(&change.old), seen(&change.new)) {
                (None, Some(new)) => follower.inserted(self.method, &new.columns),
                (Some(old), None) => follower.deleted(self.method, &old.columns),
                (Some(old), Some(new)) => follower.modified(self.method, &old.columns, &new.columns),
                (None, None) => None,
            };
            if let Some(update) = update {
                put(&mut updates, &change.table, change.uuid, update);
            }
        }
        updates
    }

    /// The parameters of the notification of these updates.
    pub(super) fn notification(&self, updates: Updates, transaction: Uuid) -> Json {
        match self.method {
            MonitorMethod::CondSince => json!([self.id, transaction.to_string(), updates]),
            MonitorMethod::Cond | MonitorMethod::Plain => json!([self.id, updates]),
        }
    }
}

impl TableFollower {
    fn read(
        request: &Map<String, Json>,
        table: &Arc<TableSchema>,
        method: MonitorMethod,
    ) -> Result<Self, String> {
        let columns = match request.get("columns") {
            None => table.columns.keys().cloned().collect(),
            Some(names) => names
                .as_array()
                .ok_or("\"columns\" is no list")?
                .iter()
                .map(|name| {
                    let column = name.as_str().and_then(|name| table.column(name));
                    let column = column.ok_or_else(|| format!("no column {name} in table {}", table.name))?;
                    Ok(column.name.clone())
                })
                .collect::<Result<_, String>>()?,
        };
        let conditions = request.get("where").filter(|_| method != MonitorMethod::Plain);
        let matchers = Matcher::read_all(conditions, table, NO_NAMES)?;
        let wanted = |what: &str| {
            let select = request.get("select").and_then(|select| select.get(what));
            select.and_then(Json::as_bool).unwrap_or(true)
        };
        let select = Select {
            initial: wanted("initial"),
            insert: wanted("insert"),
            delete: wanted("delete"),
            modify: wanted("modify"),
        };
        Ok(Self { schema: table.clone(), columns, matchers, select })
    }

    fn matches(&self, uuid: Uuid, columns: &Columns) -> bool {
        holds(&self.matchers, uuid, columns)
    }

    fn inserted(&self, method: MonitorMethod, new: &Columns) -> Option<Json> {
        let update = || match method {
            MonitorMethod::Plain => json!({"new": self.row(new)}),
            _ => json!({"insert": self.row_without_defaults(new)}),
        };
        self.select.insert.then(update)
    }

    fn deleted(&self, method: MonitorMethod, old: &Columns) -> Option<Json> {
        let update = || match method {
            MonitorMethod::Plain => json!({"old": self.row(old)}),
            _ => json!({"delete": null}),
        };
        self.select.delete.then(update)
    }

    fn modified(&self, method: MonitorMethod, old: &Columns, new: &Columns) -> Option<Json> {
        let changed: Vec<&Arc<str>> =
            self.columns.iter().filter(|name| old.get(*name) != new.get(*name)).collect();
        if changed.is_empty() || !self.select.modify {
            return None;
        }
        if method == MonitorMethod::Plain {
            let before: Map<String, Json> = changed
                .into_iter()
                .filter_map(|name| Some((name.to_string(), datum_to_json(old.get(name)?))))
                .collect();
            return Some(json!({"old": before, "new": self.row(new)}));
        }
        let difference: Map<String, Json> = changed
            .into_iter()
            .filter_map(|name| {
                let column = &self.schema.column(name)?.column_type;
                let difference = algebra::difference(old.get(name)?, new.get(name)?, column);
                Some((name.to_string(), datum_to_json(&difference)))
            })
            .collect();
        Some(json!({"modify": difference}))
    }

    fn row(&self, columns: &Columns) -> Json {
        let row = self
            .columns
            .iter()
            .filter_map(|name| Some((name.to_string(), datum_to_json(columns.get(name)?))));
        row.collect::<Map<_, _>>().into()
    }

    /// ovsdb-server(7), 4.1.14: "omits columns whose values equal the default value of the column type".
    fn row_without_defaults(&self, columns: &Columns) -> Json {
        let row = self.columns.iter().filter_map(|name| {
            let datum = columns.get(name)?;
            let default = self.schema.column(name)?.column_type.default_datum();
            (*datum != default).then(|| (name.to_string(), datum_to_json(datum)))
        });
        row.collect::<Map<_, _>>().into()
    }
}

/// Of a monitor's conditions one is enough; none at all means every row.
fn holds(matchers: &[Matcher], uuid: Uuid, columns: &Columns) -> bool {
    matchers.is_empty() || matchers.iter().any(|matcher| matcher.matches(uuid, columns))
}

/// A table's request: a list of one, or the request itself (ovsdb-server(7), "4.1.5 Monitor"). Several requests
/// for one table, which RFC 7047 allows, are more than this server does.
fn single_request(json: &Json) -> Result<&Map<String, Json>, String> {
    let request = match json.as_array().map(Vec::as_slice) {
        None => json,
        Some([request]) => request,
        Some(_) => return Err("want one monitor request for each table".into()),
    };
    request.as_object().ok_or_else(|| "a monitor request is no object".into())
}

fn put(updates: &mut Updates, table: &str, uuid: Uuid, update: Json) {
    let rows = updates.entry(table).or_insert_with(|| json!({}));
    if let Json::Object(rows) = rows {
        rows.insert(uuid.to_string(), update);
    }
}
