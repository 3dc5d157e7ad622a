//! Runs the operations of a transaction on a draft: RFC 7047 §5.2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::database::{Columns, Database, Draft, Record};
use super::{integrity, mutation};
use crate::matching::Matcher;
use crate::schema::{DatabaseSchema, TableSchema, is_id};
use crate::transaction::Mutator;
use crate::value::Uuid;
use crate::wire::RpcError;
use crate::wire::value::{columns_from_json, datum_to_json, shown, uuid_to_json};

/// What became of a transaction.
pub(super) enum Execution {
    /// It was run: its results, and the draft to commit unless an operation failed.
    Done { results: Vec<Json>, draft: Option<Draft> },
    /// A `wait` does not hold yet. Run it again after the next change, or when this long has passed since it
    /// came (`None`: never).
    Blocked { timeout: Option<Duration> },
}

/// The client's side of a transaction.
pub(super) struct Context<'a> {
    /// Whether the client owns the lock of that name.
    pub(super) owns_lock: &'a dyn Fn(&str) -> bool,
    /// How long ago the transaction came.
    pub(super) waited: Duration,
    /// Whether the rows are not the clients' to change.
    pub(super) is_read_only: bool,
}

/// Runs `operations` (the parameters of `transact` without the database's name).
pub(super) fn execute(database: &Database, operations: &[Json], context: &Context<'_>) -> Execution {
    let mut draft = database.draft();
    let names = match name_rows(operations, &mut draft) {
        Ok(names) => names,
        Err((index, error)) => return failed(Vec::new(), index, operations.len(), &error),
    };
    let mut run = Run { schema: database.schema.clone(), draft, names, context };
    let mut results = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        match run.operation(operation) {
            Ok(result) => results.push(result),
            Err(Stop::Blocked { timeout }) => return Execution::Blocked { timeout },
            Err(Stop::Failed(error)) => return failed(results, index, operations.len(), &error),
        }
    }
    let mut draft = run.draft;
    if draft.is_touched()
        && let Err(error) = integrity::settle(&mut draft)
    {
        // RFC 7047 §4.1.3: the error of the commit is one element more than there are operations.
        results.push(error.to_json());
        return Execution::Done { results, draft: None };
    }
    Execution::Done { results, draft: Some(draft) }
}

/// The results of a transaction whose operation `index` failed: null for it is never run what comes after.
fn failed(mut results: Vec<Json>, index: usize, count: usize, error: &RpcError) -> Execution {
    results.resize(index, json!({}));
    results.push(error.to_json());
    results.resize(count, Json::Null);
    Execution::Done { results, draft: None }
}

/// Gives an identity to each `uuid-name`; a name may be used before the operation that makes the row.
fn name_rows(operations: &[Json], draft: &mut Draft) -> Result<BTreeMap<String, Uuid>, (usize, RpcError)> {
    let mut names = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let Some(name) = operation.get("uuid-name") else { continue };
        let name = name.as_str().ok_or_else(|| (index, syntax_error("\"uuid-name\" is no string")))?;
        let uuid = match operation.get("uuid") {
            Some(uuid) => chosen_uuid(uuid).map_err(|error| (index, error))?,
            None => draft.identities.next(),
        };
        if names.insert(name.to_owned(), uuid).is_some() {
            let details = format!("This \"uuid-name\" appeared on an earlier \"insert\" operation: {name}");
            return Err((index, RpcError::new("duplicate uuid-name", details)));
        }
    }
    Ok(names)
}

fn chosen_uuid(json: &Json) -> Result<Uuid, RpcError> {
    json.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| syntax_error("\"uuid\" is no UUID"))
}

fn syntax_error(details: impl Into<String>) -> RpcError {
    RpcError::new("syntax error", details)
}

/// Why an operation has no result.
enum Stop {
    Failed(RpcError),
    Blocked { timeout: Option<Duration> },
}

impl From<RpcError> for Stop {
    fn from(error: RpcError) -> Self {
        Self::Failed(error)
    }
}

struct Run<'a> {
    schema: Arc<DatabaseSchema>,
    draft: Draft,
    names: BTreeMap<String, Uuid>,
    context: &'a Context<'a>,
}

impl Run<'_> {
    fn operation(&mut self, json: &Json) -> Result<Json, Stop> {
        let object = json.as_object().ok_or_else(|| syntax_error("an operation is no object"))?;
        match object.get("op").and_then(Json::as_str) {
            Some(op @ ("insert" | "update" | "mutate" | "delete")) if self.context.is_read_only => {
                let details = format!("{op} operation not allowed on table in reserved database _Server");
                Err(RpcError::new("not allowed", details).into())
            }
            Some("insert") => Ok(self.insert(object)?),
            Some("select") => Ok(self.select(object)?),
            Some("update") => Ok(self.update(object)?),
            Some("mutate") => Ok(self.mutate(object)?),
            Some("delete") => Ok(self.delete(object)?),
            Some("wait") => self.wait(object),
            Some("commit" | "comment") => Ok(json!({})),
            Some("abort") => Err(RpcError::new("aborted", "aborted by request").into()),
            Some("assert") => Ok(self.assert(object)?),
            other => Err(syntax_error(format!("no operation {other:?}")).into()),
        }
    }

    fn insert(&mut self, object: &Map<String, Json>) -> Result<Json, RpcError> {
        let table = self.table(object)?;
        let uuid = match (object.get("uuid-name").and_then(Json::as_str), object.get("uuid")) {
            (Some(name), _) => self.names.get(name).copied().unwrap_or_default(),
            (None, Some(uuid)) => chosen_uuid(uuid)?,
            (None, None) => self.draft.identities.next(),
        };
        if self.draft.has_row(&table.name, uuid) {
            return Err(RpcError::new("duplicate uuid", format!("row {uuid} is there already")));
        }
        let mut columns = self.read_row(object.get("row"), &table)?;
        for column in table.columns.values() {
            columns.entry(column.name.clone()).or_insert_with(|| column.column_type.default_datum());
        }
        self.draft.put(&table, uuid, columns);
        Ok(json!({"uuid": uuid_to_json(uuid)}))
    }

    fn select(&self, object: &Map<String, Json>) -> Result<Json, RpcError> {
        let table = self.table(object)?;
        let columns = columns_asked(object, &table)?;
        let rows: Vec<Json> = self
            .matching(object, &table)?
            .into_iter()
            .map(|(uuid, record)| row_json(uuid, &record, &columns))
            .collect();
        Ok(json!({"rows": rows}))
    }

    fn update(&mut self, object: &Map<String, Json>) -> Result<Json, RpcError> {
        let table = self.table(object)?;
        let new = self.read_row(object.get("row"), &table)?;
        if let Some(column) = new.keys().find(|name| table.column(name).is_some_and(|column| !column.mutable))
        {
            let details = format!("Cannot update immutable column {column} in table {}.", table.name);
            return Err(RpcError::new("constraint violation", details));
        }
        let matched = self.matching(object, &table)?;
        for (uuid, record) in &matched {
            let mut columns = record.columns.clone();
            columns.extend(new.clone());
            self.draft.put(&table, *uuid, columns);
        }
        Ok(json!({"count": matched.len()}))
    }

    fn mutate(&mut self, object: &Map<String, Json>) -> Result<Json, RpcError> {
        let table = self.table(object)?;
        let mutations = object.get("mutations").and_then(Json::as_array);
        let mutations = mutations.ok_or_else(|| syntax_error("no list \"mutations\""))?;
        let matched = self.matching(object, &table)?;
        let names = |name: &str| self.names.get(name).copied();
        let mut changed = Vec::new();
        for (uuid, record) in &matched {
            let mut columns = record.columns.clone();
            for mutation in mutations {
                let Some([Json::String(name), Json::String(mutator), value]) =
                    mutation.as_array().map(Vec::as_slice)
                else {
                    return Err(syntax_error(format!("{} is no mutation", shown(mutation))));
                };
                let mutator = Mutator::from_name(mutator)
                    .ok_or_else(|| syntax_error(format!("no mutator {mutator}")))?;
                let column = table.column(name).ok_or_else(|| unknown_column(name, &table))?;
                let datum = columns.get(&column.name).ok_or_else(|| unknown_column(name, &table))?;
                let new = mutation::mutate(datum, mutator, value, column, &names)?;
                columns.insert(column.name.clone(), new);
            }
            changed.push((*uuid, columns));
        }
        for (uuid, columns) in changed {
            self.draft.put(&table, uuid, columns);
        }
        Ok(json!({"count": matched.len()}))
    }

    fn delete(&mut self, object: &Map<String, Json>) -> Result<Json, RpcError> {
        let table = self.table(object)?;
        let matched = self.matching(object, &table)?;
        for (uuid, _) in &matched {
            self.draft.remove(&table.name, *uuid);
        }
        Ok(json!({"count": matched.len()}))
    }

    fn wait(&self, object: &Map<String, Json>) -> Result<Json, Stop> {
        let table = self.table(object)?;
        let columns = columns_asked(object, &table)?;
        let wants_equal = match object.get("until").and_then(Json::as_str) {
            Some("==") => true,
            Some("!=") => false,
            _ => return Err(syntax_error("\"until\" is neither \"==\" nor \"!=\"").into()),
        };
        let rows =
            object.get("rows").and_then(Json::as_array).ok_or_else(|| syntax_error("no list \"rows\""))?;
        let mut wanted = BTreeSet::new();
        for row in rows {
            let mut row = self.read_row(Some(row), &table)?;
            for column in table.columns.values() {
                row.entry(column.name.clone()).or_insert_with(|| column.column_type.default_datum());
            }
            wanted.insert(restricted(&row, &columns));
        }
        let present: BTreeSet<Columns> = self
            .matching(object, &table)?
            .iter()
            .map(|(_, record)| restricted(&record.columns, &columns))
            .collect();
        if (wanted == present) == wants_equal {
            return Ok(json!({}));
        }
        let timeout = object.get("timeout").and_then(Json::as_u64).map(Duration::from_millis);
        match timeout {
            Some(timeout) if self.context.waited >= timeout => {
                Err(RpcError::new("timed out", "\"wait\" timed out").into())
            }
            timeout => Err(Stop::Blocked { timeout }),
        }
    }

    fn assert(&self, object: &Map<String, Json>) -> Result<Json, RpcError> {
        let lock = object.get("lock").and_then(Json::as_str).filter(|lock| is_id(lock));
        let lock = lock.ok_or_else(|| syntax_error("\"lock\" is no identifier"))?;
        if (self.context.owns_lock)(lock) {
            return Ok(json!({}));
        }
        Err(RpcError::new("not owner", format!("Asserted lock {lock} not held.")))
    }

    fn table(&self, object: &Map<String, Json>) -> Result<Arc<TableSchema>, RpcError> {
        let name =
            object.get("table").and_then(Json::as_str).ok_or_else(|| syntax_error("no string \"table\""))?;
        self.schema.table(name).cloned().ok_or_else(|| syntax_error(format!("No table named {name}.")))
    }

    fn matching(
        &self,
        object: &Map<String, Json>,
        table: &TableSchema,
    ) -> Result<Vec<(Uuid, Arc<Record>)>, RpcError> {
        let names = |name: &str| self.names.get(name).copied();
        let matchers = Matcher::read_all(object.get("where"), table, &names).map_err(syntax_error)?;
        let holds =
            |uuid, record: &Record| matchers.iter().all(|matcher| matcher.matches(uuid, &record.columns));
        let rows = self.draft.rows(&table.name).filter(|(uuid, record)| holds(*uuid, record));
        Ok(rows.map(|(uuid, record)| (uuid, record.clone())).collect())
    }

    fn read_row(&self, json: Option<&Json>, table: &TableSchema) -> Result<Columns, RpcError> {
        let names = |name: &str| self.names.get(name).copied();
        let json = json.ok_or_else(|| syntax_error("no object \"row\""))?;
        if let Some(unknown) =
            json.as_object().and_then(|row| row.keys().find(|name| table.column(name).is_none()))
        {
            return Err(unknown_column(unknown, table));
        }
        let columns = columns_from_json(json, table, &names).map_err(syntax_error)?;
        for (name, datum) in &columns {
            let violation = table.column(name).and_then(|column| column.column_type.violation(datum));
            if let Some(reason) = violation {
                let details = format!("table {}, column {name}: {reason}", table.name);
                return Err(RpcError::new("constraint violation", details));
            }
        }
        Ok(columns)
    }
}

fn unknown_column(name: &str, table: &TableSchema) -> RpcError {
    RpcError::new("unknown column", format!("No column {name} in table {}.", table.name))
}

/// The `columns` of a `select` or `wait`; absent means all, with `_uuid` and `_version`.
fn columns_asked(object: &Map<String, Json>, table: &TableSchema) -> Result<Vec<Arc<str>>, RpcError> {
    let implicit = ["_uuid", "_version"].map(Arc::<str>::from);
    let Some(json) = object.get("columns") else {
        return Ok(implicit.into_iter().chain(table.columns.keys().cloned()).collect());
    };
    let names = json.as_array().ok_or_else(|| syntax_error("\"columns\" is no list"))?;
    let known = |name: &Json| {
        let name = name.as_str().ok_or_else(|| syntax_error("a column's name is no string"))?;
        let implicit = implicit.iter().find(|implicit| ***implicit == *name).cloned();
        let column = table.columns.get_key_value(name).map(|(name, _)| name.clone());
        implicit.or(column).ok_or_else(|| unknown_column(name, table))
    };
    names.iter().map(known).collect()
}

fn row_json(uuid: Uuid, record: &Record, columns: &[Arc<str>]) -> Json {
    let mut row = Map::new();
    for name in columns {
        let json = match &**name {
            "_uuid" => Some(uuid_to_json(uuid)),
            "_version" => Some(uuid_to_json(record.version)),
            _ => record.columns.get(name).map(datum_to_json),
        };
        row.extend(json.map(|json| (name.to_string(), json)));
    }
    row.into()
}

fn restricted(row: &Columns, columns: &[Arc<str>]) -> Columns {
    row.iter()
        .filter(|(name, _)| columns.contains(name))
        .map(|(name, datum)| (name.clone(), datum.clone()))
        .collect()
}
