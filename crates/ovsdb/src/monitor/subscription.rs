//! One monitor and the replica it feeds, over any number of connections.
//!
//! At each connect the newest monitor request is tried, then the older ones. Where the server still has the
//! last transaction that was seen, only what came after it is sent; else a snapshot comes, which is compared
//! with the replica, so that only what differs is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use thiserror::Error;

use super::followed::{Followed, RowUpdate};
use super::{MonitorMethod, MonitorTable};
use crate::replica::{Change, Replica};
use crate::row::Row;
use crate::schema::DatabaseSchema;
use crate::transaction::Condition;
use crate::value::Uuid;
use crate::wire::RpcError;
use crate::wire::value::shown;

/// A monitor that cannot go on. The way out is a new connection, or another request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MonitorError {
    /// The schema lacks what is to be monitored, or does not fit a condition.
    #[error("cannot monitor: {0}")]
    Schema(String),
    /// The server refused the monitor.
    #[error("monitor refused: {0}")]
    Refused(RpcError),
    /// The server ended the monitor, because its database is no more or has a new schema.
    #[error("the server ended the monitor")]
    Canceled,
    /// The server sent what the protocol does not allow, or what does not fit the replica.
    #[error("unreadable update: {0}")]
    Malformed(String),
}

/// A request to be sent for the subscription; its answer goes to [`Subscription::answered`].
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name of the method.
    pub method: &'static str,
    /// `params`.
    pub params: Json,
    /// What the answer is about.
    pub purpose: Purpose,
}

/// What a [`Call`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Start the monitor.
    Start,
    /// Change its conditions.
    Conditions,
    /// End an earlier monitor, in favour of one that is started anew.
    Cancel,
}

/// What an answer led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The server does not know the method: send this one.
    Fallback(Call),
    /// The replica is the server's database of now; these are the differences.
    Synced(Vec<Change>),
    /// The conditions were taken, or refused.
    Conditions(Result<(), RpcError>),
    /// Nothing to do.
    Nothing,
}

/// The state of a monitor.
#[derive(Debug)]
pub struct Subscription {
    database: String,
    tables: Vec<MonitorTable>,
    schema: Option<Arc<DatabaseSchema>>,
    followed: BTreeMap<Arc<str>, Followed>,
    method: MonitorMethod,
    /// Tells the subscriptions of one connection apart.
    number: u64,
    /// Counts the requests, so that late updates of an earlier one are told apart.
    request: u64,
    replica: Replica,
    /// Zero: ask for a snapshot.
    last_transaction: Uuid,
    has_resumed: bool,
    /// Whether the request in use has been answered, and none is on its way.
    is_synced: bool,
    /// Tables whose conditions changed while `is_synced` was false.
    deferred: BTreeSet<String>,
    /// Condition changes that are not answered yet, in the order of the requests.
    unsettled: VecDeque<Unsettled>,
}

/// A change of a table's conditions.
#[derive(Debug)]
struct Unsettled {
    /// What the table was before.
    former: MonitorTable,
    /// [`Followed::goes_on_from`].
    goes_on: bool,
}

impl Subscription {
    /// To follow `tables` of `database`; nothing is known yet. The `number` is unique among the subscriptions
    /// of a connection.
    pub fn new(number: u64, database: impl Into<String>, tables: Vec<MonitorTable>) -> Self {
        Self {
            database: database.into(),
            tables,
            schema: None,
            followed: BTreeMap::new(),
            method: MonitorMethod::CondSince,
            number,
            request: 0,
            replica: Replica::new(),
            last_transaction: Uuid::ZERO,
            has_resumed: false,
            is_synced: false,
            deferred: BTreeSet::new(),
            unsettled: VecDeque::new(),
        }
    }

    /// The rows.
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Whether the server sent only what came after the last transaction, when the monitor was last started.
    pub const fn has_resumed(&self) -> bool {
        self.has_resumed
    }

    /// The request that is in use, or being tried.
    pub const fn method(&self) -> MonitorMethod {
        self.method
    }

    /// The last transaction that the replica holds, zero if the server does not tell.
    pub const fn last_transaction(&self) -> Uuid {
        self.last_transaction
    }

    /// Begins on a fresh connection whose server has `schema`.
    ///
    /// # Errors
    /// The schema lacks a table or column, or does not fit a condition.
    pub fn start(&mut self, schema: &Arc<DatabaseSchema>) -> Result<Call, MonitorError> {
        self.followed.clear();
        for wanted in &self.tables {
            let followed = Followed::new(wanted, schema)?;
            if self.followed.insert(followed.schema.name.clone(), followed).is_some() {
                return Err(MonitorError::Schema(format!(
                    "table {} stands twice in the monitor",
                    wanted.table
                )));
            }
        }
        // A difference is against rows of the same types and under the conditions that the server had last.
        if !self.unsettled.is_empty() || !self.deferred.is_empty() || self.schema.as_ref() != Some(schema) {
            self.last_transaction = Uuid::ZERO;
        }
        self.unsettled.clear();
        self.deferred.clear();
        self.schema = Some(schema.clone());
        self.method = MonitorMethod::CondSince;
        Ok(self.start_call())
    }

    /// Tells that the connection is gone: whatever was asked will not be answered.
    pub fn disconnected(&mut self) {
        self.is_synced = false;
    }

    /// Follows other rows of a table. The calls are to be sent in order; there are none while the monitor is
    /// not running, for then the new conditions are part of its start, or follow it
    /// ([`Subscription::deferred_calls`]).
    ///
    /// # Errors
    /// The table is not followed, or a condition does not fit the schema. Nothing has changed then.
    pub fn set_conditions(
        &mut self,
        table: &str,
        conditions: Vec<Condition>,
    ) -> Result<Vec<Call>, MonitorError> {
        let unknown = || MonitorError::Schema(format!("table {table} is not monitored"));
        let wanted = self.tables.iter_mut().find(|wanted| wanted.table == table).ok_or_else(unknown)?;
        let changed = MonitorTable { conditions, ..wanted.clone() };
        if let Some(schema) = &self.schema {
            Followed::new(&changed, schema)?;
        }
        *wanted = changed;
        if self.is_synced {
            return self.change_calls(table);
        }
        self.deferred.insert(table.to_owned());
        Ok(Vec::new())
    }

    /// The calls for conditions that changed while the monitor was being started. To be sent once it is synced.
    ///
    /// # Errors
    /// A condition does not fit the schema.
    pub fn deferred_calls(&mut self) -> Result<Vec<Call>, MonitorError> {
        let mut calls = Vec::new();
        // A plain monitor is started anew for each table: the next one waits for that.
        while self.is_synced {
            let Some(table) = self.deferred.pop_first() else { break };
            calls.extend(self.change_calls(&table)?);
        }
        Ok(calls)
    }

    fn change_calls(&mut self, table: &str) -> Result<Vec<Call>, MonitorError> {
        let wanted = self.tables.iter().find(|wanted| wanted.table == table);
        let (Some(schema), Some(wanted)) = (&self.schema, wanted) else { return Ok(Vec::new()) };
        let followed = Followed::new(wanted, schema)?;
        let request = followed.condition_change();
        let former = self.followed.remove(table);
        self.unsettled.push_back(Unsettled {
            goes_on: former.as_ref().is_some_and(|former| followed.goes_on_from(former)),
            former: former.map_or_else(|| wanted.clone(), |former| former.wanted),
        });
        self.followed.insert(followed.schema.name.clone(), followed);
        if self.method == MonitorMethod::Plain {
            return Ok(vec![self.cancel_call(), self.start_call()]);
        }
        let params = json!([self.id(), self.id(), {table: request}]);
        Ok(vec![Call { method: "monitor_cond_change", params, purpose: Purpose::Conditions }])
    }

    /// Takes the answer to a call.
    ///
    /// # Errors
    /// The monitor cannot go on; the replica is as it was.
    pub fn answered(
        &mut self,
        purpose: Purpose,
        outcome: Result<Json, RpcError>,
    ) -> Result<Progress, MonitorError> {
        match (purpose, outcome) {
            (Purpose::Cancel, _) => Ok(Progress::Nothing),
            (Purpose::Conditions, outcome) => {
                if let Some(Unsettled { former, goes_on }) = self.unsettled.pop_front() {
                    // Until an update brings another.
                    if outcome.is_err() || !goes_on {
                        self.last_transaction = Uuid::ZERO;
                    }
                    if outcome.is_err() {
                        self.restore(former);
                    }
                }
                Ok(Progress::Conditions(outcome.map(|_| ())))
            }
            (Purpose::Start, Ok(result)) => {
                self.unsettled.clear();
                self.is_synced = true;
                let changes = self.started(&result);
                self.forget_position_after(&changes);
                changes.map(Progress::Synced)
            }
            (Purpose::Start, Err(error)) => match self.method.older() {
                Some(older) if error.is_unknown_method() => {
                    self.method = older;
                    Ok(Progress::Fallback(self.start_call()))
                }
                _ => Err(MonitorError::Refused(error)),
            },
        }
    }

    /// Conditions that the server refused must not be part of the next start. Those that are asked for after them are.
    fn restore(&mut self, former: MonitorTable) {
        let mut later = self.unsettled.iter_mut();
        if let Some(later) = later.find(|later| later.former.table == former.table) {
            later.former = former;
            later.goes_on = false;
            return;
        }
        let followed = self.schema.as_ref().and_then(|schema| Followed::new(&former, schema).ok());
        if let Some(followed) = followed {
            self.followed.insert(followed.schema.name.clone(), followed);
        }
        if let Some(wanted) = self.tables.iter_mut().find(|wanted| wanted.table == former.table) {
            *wanted = former;
        }
    }

    /// Takes a notification. `None`: it is about something else than this monitor.
    ///
    /// # Errors
    /// The monitor cannot go on; the replica is as it was.
    pub fn notified(&mut self, method: &str, params: &Json) -> Result<Option<Vec<Change>>, MonitorError> {
        if params.get(0) != Some(&self.id()) {
            return Ok(None);
        }
        match method {
            "monitor_canceled" => return Err(MonitorError::Canceled),
            method if method == self.method.notification() => {}
            _ => return Ok(None),
        }
        let changes = match (self.method, params.as_array().map(Vec::as_slice)) {
            (MonitorMethod::CondSince, Some([_, transaction, updates])) => read_transaction(transaction)
                .and_then(|transaction| {
                    let changes = self.apply_updates(updates, false)?;
                    self.last_transaction = transaction;
                    Ok(changes)
                }),
            (MonitorMethod::Cond | MonitorMethod::Plain, Some([_, updates])) => {
                self.apply_updates(updates, false)
            }
            _ => Err(MonitorError::Malformed(format!("params of {method}: {}", shown(params)))),
        };
        self.forget_position_after(&changes);
        changes.map(Some)
    }

    /// After an update that does not fit the replica only a snapshot helps.
    fn forget_position_after<T>(&mut self, outcome: &Result<T, MonitorError>) {
        if outcome.is_err() {
            self.last_transaction = Uuid::ZERO;
        }
    }

    /// The `<json-value>` of the monitor.
    fn id(&self) -> Json {
        json!([self.number, self.request])
    }

    /// The call that ends the monitor, for one who keeps the connection.
    pub fn cancel_call(&self) -> Call {
        Call { method: "monitor_cancel", params: json!([self.id()]), purpose: Purpose::Cancel }
    }

    fn start_call(&mut self) -> Call {
        self.request += 1;
        self.is_synced = false;
        let tables: Map<String, Json> = self
            .followed
            .iter()
            .map(|(name, followed)| (name.to_string(), followed.request(self.method)))
            .collect();
        let mut params = vec![Json::from(self.database.as_str()), self.id(), Json::Object(tables)];
        if self.method == MonitorMethod::CondSince {
            params.push(self.last_transaction.to_string().into());
        }
        Call { method: self.method.request(), params: params.into(), purpose: Purpose::Start }
    }

    fn started(&mut self, result: &Json) -> Result<Vec<Change>, MonitorError> {
        self.has_resumed = false;
        if self.method != MonitorMethod::CondSince {
            self.last_transaction = Uuid::ZERO;
            return self.apply_updates(result, true);
        }
        let Some([Json::Bool(found), transaction, updates]) = result.as_array().map(Vec::as_slice) else {
            return Err(MonitorError::Malformed(format!("result of monitor_cond_since: {}", shown(result))));
        };
        let transaction = read_transaction(transaction)?;
        let changes = self.apply_updates(updates, !found)?;
        self.last_transaction = transaction;
        self.has_resumed = *found;
        Ok(changes)
    }

    /// Reads all of `<table-updates>` or `<table-updates2>` before any of it is applied. In a snapshot, rows
    /// that are not named are gone.
    fn apply_updates(&mut self, updates: &Json, is_snapshot: bool) -> Result<Vec<Change>, MonitorError> {
        let mut staged = self.read_updates(updates, is_snapshot)?;
        if is_snapshot {
            let named: BTreeSet<(&str, Uuid)> =
                staged.iter().map(|(table, uuid, _)| (&**table, *uuid)).collect();
            let gone: Vec<_> = self
                .replica
                .tables()
                .flat_map(|table| self.replica.rows(table).map(move |row| (table.clone(), row.uuid(), None)))
                .filter(|(table, uuid, _)| !named.contains(&(&**table, *uuid)))
                .collect();
            staged.extend(gone);
        }
        // A row that takes another's place, by what people call it, comes after it.
        staged.sort_by_key(|(.., new)| new.is_some());
        let changes = staged.into_iter().filter_map(|(table, uuid, new)| {
            let old = self.replica.row(&table, uuid).cloned();
            let change = Change::between(&table, uuid, old, new.clone())?;
            self.replica.put(&table, uuid, new);
            Some(change)
        });
        Ok(changes.collect())
    }

    fn read_updates(&self, updates: &Json, is_snapshot: bool) -> Result<Vec<StagedRow>, MonitorError> {
        let malformed = |reason: String| MonitorError::Malformed(reason);
        let tables =
            updates.as_object().ok_or_else(|| malformed(format!("{} is no update", shown(updates))))?;
        let mut staged = Vec::new();
        for (name, rows) in tables {
            let followed = self
                .followed
                .get(name.as_str())
                .ok_or_else(|| malformed(format!("table {name} is updated, which is not monitored")))?;
            let rows = rows
                .as_object()
                .ok_or_else(|| malformed(format!("table {name}: {} is no update", shown(rows))))?;
            for (uuid, json) in rows {
                let uuid: Uuid = uuid.parse().map_err(|error| malformed(format!("table {name}: {error}")))?;
                let old = if is_snapshot { None } else { self.replica.row(name, uuid) };
                let update = match self.method {
                    MonitorMethod::Plain => followed.row_update(uuid, json)?,
                    _ => followed.row_update2(uuid, json, old)?,
                };
                let new = match update {
                    RowUpdate::Present(row) => Some(row),
                    RowUpdate::Absent => None,
                };
                staged.push((followed.schema.name.clone(), uuid, new));
            }
        }
        Ok(staged)
    }
}

/// A row as it will be: there with its columns, or not there.
type StagedRow = (Arc<str>, Uuid, Option<Arc<Row>>);

fn read_transaction(json: &Json) -> Result<Uuid, MonitorError> {
    let text = json
        .as_str()
        .ok_or_else(|| MonitorError::Malformed(format!("{} is no transaction id", shown(json))))?;
    text.parse().map_err(|error: crate::value::UuidError| MonitorError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "00000000-0000-0000-0000-000000000001";
    const TRANSACTION: &str = "00000000-0000-0000-0000-00000000000a";
    const NEXT: &str = "00000000-0000-0000-0000-00000000000b";

    fn schema() -> Arc<DatabaseSchema> {
        let json = json!({"name": "D", "tables": {"T": {"columns": {
            "name": {"type": "string"},
            "kind": {"type": "string", "mutable": false},
            "tags": {"type": {"key": "string", "min": 0, "max": 2}}}}}});
        Arc::new(DatabaseSchema::from_json(&json).unwrap())
    }

    /// Synced with one row called "a" that has tag "x", after transaction 10.
    fn synced() -> Subscription {
        let mut subscription = Subscription::new(1, "D", vec![MonitorTable::all_columns("T")]);
        let call = subscription.start(&schema()).unwrap();
        assert_eq!(call.method, "monitor_cond_since");
        let rows = json!({"T": {ROW: {"initial": {"name": "a", "tags": "x"}}}});
        let progress = subscription.answered(Purpose::Start, Ok(json!([false, TRANSACTION, rows]))).unwrap();
        assert!(matches!(progress, Progress::Synced(changes) if changes.len() == 1));
        subscription
    }

    fn unknown_method() -> Result<Json, RpcError> {
        Err(RpcError::new("unknown method", ""))
    }

    #[test]
    fn the_request_falls_back_to_what_the_server_knows() {
        let mut subscription = Subscription::new(1, "D", vec![MonitorTable::all_columns("T")]);
        subscription.start(&schema()).unwrap();
        for expected in ["monitor_cond", "monitor"] {
            let progress = subscription.answered(Purpose::Start, unknown_method()).unwrap();
            assert!(matches!(progress, Progress::Fallback(call) if call.method == expected));
        }
        let nothing_older = subscription.answered(Purpose::Start, unknown_method());
        assert!(matches!(nothing_older, Err(MonitorError::Refused(_))));
    }

    #[test]
    fn an_update_that_does_not_fit_changes_nothing_and_asks_for_a_snapshot() {
        for updates in [
            json!({"T": {ROW: {"modify": {"tags": ["set", ["y", "z"]]}}}}),
            json!({"T": {ROW: {"modify": {"name": "b"}}, "2": {"delete": null}}}),
            json!({"T": {ROW: {"modify": {"colour": "b"}}}}),
            json!({"T": {ROW: {"modify": {"name": 7}}}}),
            json!({"T": {"00000000-0000-0000-0000-000000000002": {"modify": {"name": "b"}}}}),
            json!({"T": {ROW: {"delete": null, "insert": {}}}}),
            json!({"T": {ROW: {"vanish": null}}}),
            json!({"U": {ROW: {"delete": null}}}),
            json!({"T": 7}),
            json!([]),
        ] {
            let mut subscription = synced();
            let before = subscription.replica().clone();
            let params = json!([subscription.id(), "00000000-0000-0000-0000-00000000000b", updates]);
            let outcome = subscription.notified("update3", &params);
            assert!(matches!(outcome, Err(MonitorError::Malformed(_))), "{updates}: {outcome:?}");
            assert_eq!(*subscription.replica(), before, "{updates}");
            let call = subscription.start(&schema()).unwrap();
            assert_eq!(call.params[3], json!(Uuid::ZERO.to_string()), "{updates}");
        }
    }

    #[test]
    fn only_what_belongs_to_the_monitor_is_taken() {
        let mut subscription = synced();
        let updates = json!({"T": {ROW: {"delete": null}}});
        let (ours, other) = (subscription.id(), json!([1, 99]));
        assert_eq!(subscription.notified("update3", &json!([other, TRANSACTION, updates])), Ok(None));
        assert_eq!(subscription.notified("update2", &json!([ours, updates])), Ok(None));
        let canceled = subscription.notified("monitor_canceled", &json!([ours]));
        assert_eq!(canceled, Err(MonitorError::Canceled));
        let changes =
            subscription.notified("update3", &json!([ours, TRANSACTION, updates])).unwrap().unwrap();
        assert_eq!((changes.len(), subscription.replica().len()), (1, 0));
    }

    #[test]
    fn another_schema_or_an_unsettled_condition_means_a_snapshot() {
        let mut subscription = synced();
        assert_eq!(subscription.start(&schema()).unwrap().params[3], json!(TRANSACTION));
        let mut other = (*schema()).clone();
        other.version = Some("2.0.0".into());
        assert_eq!(subscription.start(&Arc::new(other)).unwrap().params[3], json!(Uuid::ZERO.to_string()));

        let mut subscription = synced();
        let calls = subscription.set_conditions("T", vec![Condition::equal("name", "b")]).unwrap();
        assert_eq!((calls.len(), calls[0].method), (1, "monitor_cond_change"));
        subscription.disconnected();
        assert_eq!(subscription.start(&schema()).unwrap().params[3], json!(Uuid::ZERO.to_string()));

        let mut subscription = synced();
        subscription.disconnected();
        assert_eq!(subscription.set_conditions("T", vec![Condition::equal("name", "b")]), Ok(Vec::new()));
        assert_eq!(subscription.start(&schema()).unwrap().params[3], json!(Uuid::ZERO.to_string()));
    }

    #[test]
    fn conditions_that_change_during_the_start_follow_it() {
        let mut subscription = synced();
        subscription.disconnected();
        subscription.start(&schema()).unwrap();
        assert_eq!(subscription.set_conditions("T", vec![Condition::equal("name", "b")]), Ok(Vec::new()));
        assert_eq!(subscription.deferred_calls(), Ok(Vec::new()));
        subscription.answered(Purpose::Start, Ok(json!([true, TRANSACTION, {}]))).unwrap();
        let calls = subscription.deferred_calls().unwrap();
        assert_eq!((calls.len(), calls[0].method), (1, "monitor_cond_change"));
        assert_eq!(calls[0].params[2], json!({"T": [{"where": [["name", "==", "b"]]}]}));
    }

    /// What is resumed from after a change of conditions from `before` to `after`, and an update.
    fn resumes_from(columns: &[&str], before: &[Condition], after: &[Condition], is_updated: bool) -> Json {
        let table = MonitorTable::new("T", columns.iter().copied());
        let table = before.iter().cloned().fold(table, MonitorTable::matching);
        let mut subscription = Subscription::new(1, "D", vec![table]);
        subscription.start(&schema()).unwrap();
        let rows = json!({"T": {ROW: {"initial": {"tags": "x"}}}});
        subscription.answered(Purpose::Start, Ok(json!([false, TRANSACTION, rows]))).unwrap();
        let calls = subscription.set_conditions("T", after.to_vec()).unwrap();
        subscription.answered(calls[0].purpose, Ok(json!({}))).unwrap();
        if is_updated {
            let params = json!([subscription.id(), NEXT, {"T": {ROW: {"modify": {"tags": "y"}}}}]);
            subscription.notified("update3", &params).unwrap().unwrap();
        }
        subscription.disconnected();
        subscription.start(&schema()).unwrap().params[3].clone()
    }

    #[test]
    fn after_conditions_on_what_may_change_only_an_update_gives_a_position() {
        let condition = |column, value| [Condition::equal(column, value)];
        let (name, kind) = (condition("name", "b"), condition("kind", "k"));
        let none = json!(Uuid::ZERO.to_string());
        assert_eq!(resumes_from(&["tags"], &[], &name, false), none);
        assert_eq!(resumes_from(&["tags", "name"], &[], &name, false), none);
        assert_eq!(resumes_from(&["tags", "name"], &name, &[], false), none);
        assert_eq!(resumes_from(&["tags"], &[], &name, true), json!(NEXT));
        // What never changes, or is in both and seen.
        assert_eq!(resumes_from(&["tags"], &[], &kind, false), json!(TRANSACTION));
        assert_eq!(resumes_from(&["tags"], &[], &[Condition::Always(false)], false), json!(TRANSACTION));
        let both = [Condition::equal("tags", "x"), Condition::equal("kind", "k")];
        assert_eq!(resumes_from(&["tags"], &both[..1], &both, false), json!(TRANSACTION));
        assert_eq!(resumes_from(&["name"], &both[..1], &both, false), none);
    }

    #[test]
    fn of_conditions_of_which_the_first_are_refused_the_later_hold() {
        let mut subscription = synced();
        let mut conditions = |name: &str| {
            let calls = subscription.set_conditions("T", vec![Condition::equal("name", name)]).unwrap();
            calls[0].purpose
        };
        let (first, second) = (conditions("b"), conditions("c"));
        subscription.answered(first, Err(RpcError::new("syntax error", "no"))).unwrap();
        subscription.answered(second, Ok(json!({}))).unwrap();
        let call = subscription.start(&schema()).unwrap();
        assert_eq!(call.params[2]["T"][0]["where"], json!([["name", "==", "c"]]));
        assert_eq!(call.params[3], json!(Uuid::ZERO.to_string()));
    }

    #[test]
    fn refused_conditions_are_not_asked_for_again() {
        let mut subscription = synced();
        let calls = subscription.set_conditions("T", vec![Condition::equal("name", "b")]).unwrap();
        let refusal = RpcError::new("syntax error", "no");
        let progress = subscription.answered(calls[0].purpose, Err(refusal.clone())).unwrap();
        assert_eq!(progress, Progress::Conditions(Err(refusal)));
        let call = subscription.start(&schema()).unwrap();
        assert_eq!(call.params[2]["T"][0]["where"], json!([]));
    }
}
