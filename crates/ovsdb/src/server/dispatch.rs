//! The server's methods: RFC 7047 §4.1 and ovsdb-server(7).

use serde_json::{Value as Json, json};

use super::database::{Database, DatabaseName, RowChange};
use super::execute::{Context, Execution, execute};
use super::follower::Follower;
use super::{Blocked, ConnectionId, MemoryServer};
use crate::monitor::MonitorMethod;
use crate::schema::is_id;
use crate::time::Timestamp;
use crate::transaction::Transaction;
use crate::value::Uuid;
use crate::wire::{Message, RpcError};

/// The answer to a request; `None` if it comes later.
type Answer = Result<Option<Json>, RpcError>;

impl MemoryServer {
    pub(super) fn dispatch(&mut self, client: ConnectionId, message: Message) {
        match message {
            Message::Request { method, params, id } => {
                let answer = if self.disabled.contains(&method) {
                    Err(unknown_method(&method))
                } else {
                    self.call(client, &method, &params, &id)
                };
                if let Some(outcome) = answer.transpose() {
                    self.send(client, &Message::Response { outcome, id });
                }
                self.retry_blocked();
            }
            Message::Notification { method, params } if method == "cancel" => self.cancel(client, &params[0]),
            Message::Notification { .. } => {}
            Message::Response { .. } => {
                if let Some(peer) = self.clients.get_mut(&client) {
                    peer.echo_replies += 1;
                }
            }
        }
    }

    fn call(&mut self, client: ConnectionId, method: &str, params: &Json, id: &Json) -> Answer {
        match method {
            "echo" => Ok(Some(params.clone())),
            "list_dbs" => Ok(Some(json!(self.database_names()))),
            "get_schema" => {
                let name = self.database_name(method, &params[0])?;
                Ok(Some(self.database(name).schema_json.clone()))
            }
            "get_server_id" => Ok(Some(self.server_id.to_string().into())),
            "set_db_change_aware" => Ok(Some(json!({}))),
            "transact" => self.transact_for(client, params, id),
            "monitor" => self.monitor(client, MonitorMethod::Plain, params),
            "monitor_cond" => self.monitor(client, MonitorMethod::Cond, params),
            "monitor_cond_since" => self.monitor(client, MonitorMethod::CondSince, params),
            "monitor_cond_change" => self.monitor_cond_change(client, params),
            "monitor_cancel" => self.monitor_cancel(client, &params[0]),
            "lock" | "steal" | "unlock" => self.lock_method(client, method, &params[0]),
            _ => Err(unknown_method(method)),
        }
    }

    fn database_names(&self) -> Vec<&str> {
        let status = self.has_status.then_some(&*self.status.schema.name);
        std::iter::once(&*self.database.schema.name).chain(status).collect()
    }

    const fn database(&self, name: DatabaseName) -> &Database {
        match name {
            DatabaseName::Own => &self.database,
            DatabaseName::Server => &self.status,
        }
    }

    fn database_name(&self, method: &str, name: &Json) -> Result<DatabaseName, RpcError> {
        let name = name.as_str().unwrap_or_default();
        match self.database_names().iter().position(|known| *known == name) {
            Some(0) => Ok(DatabaseName::Own),
            Some(_) => Ok(DatabaseName::Server),
            None => {
                let details = format!("{method} request specifies unknown database {name}");
                Err(RpcError::new("unknown database", details))
            }
        }
    }

    fn transact_for(&mut self, client: ConnectionId, params: &Json, id: &Json) -> Answer {
        let name = self.database_name("transact", &params[0])?;
        let operations = params.as_array().and_then(|params| params.get(1..)).unwrap_or_default().to_vec();
        let blocked = Blocked { client, id: id.clone(), name, operations, since: self.now, deadline: None };
        match self.attempt(&blocked) {
            Attempt::Done(results) => Ok(Some(results.into())),
            Attempt::Wait(deadline) => {
                self.blocked.push(Blocked { deadline, ..blocked });
                Ok(None)
            }
        }
    }

    pub(super) fn run_local(&mut self, transaction: &Transaction) -> Result<Json, RpcError> {
        let params = transaction.params();
        let name = self.database_name("transact", &params[0])?;
        let operations = params.as_array().and_then(|params| params.get(1..)).unwrap_or_default().to_vec();
        let nobody = ConnectionId(u64::MAX);
        let local =
            Blocked { client: nobody, id: Json::Null, name, operations, since: self.now, deadline: None };
        let outcome = match self.attempt(&local) {
            Attempt::Done(results) => Ok(results.into()),
            Attempt::Wait(_) => Err(RpcError::new("timed out", "a \"wait\" does not hold")),
        };
        self.retry_blocked();
        outcome
    }

    /// Runs a transaction; if it commits, the followers are told before the client is answered.
    fn attempt(&mut self, transaction: &Blocked) -> Attempt {
        let owns_lock = |name: &str| self.locks.owner(name) == Some(transaction.client);
        let context = Context {
            owns_lock: &owns_lock,
            waited: self.now.since(transaction.since),
            is_read_only: transaction.name == DatabaseName::Server,
        };
        match execute(self.database(transaction.name), &transaction.operations, &context) {
            Execution::Blocked { timeout } => {
                Attempt::Wait(timeout.map(|timeout| transaction.since.after(timeout)))
            }
            Execution::Done { results, draft } => {
                if let Some(draft) = draft {
                    let database = match transaction.name {
                        DatabaseName::Own => &mut self.database,
                        DatabaseName::Server => &mut self.status,
                    };
                    let changes = database.commit(draft);
                    self.tell(transaction.name, &changes);
                }
                Attempt::Done(results)
            }
        }
    }

    /// Tells the followers of a database what changed in it.
    pub(super) fn tell(&mut self, name: DatabaseName, changes: &[RowChange]) {
        let transaction = self.database(name).last_transaction();
        let mut notifications = Vec::new();
        for (client, peer) in &self.clients {
            for follower in peer.followers.iter().filter(|follower| follower.name == name) {
                let updates = follower.updates(changes);
                if !updates.is_empty() {
                    let params = follower.notification(updates, transaction);
                    notifications.push((*client, follower.method.notification(), params));
                }
            }
        }
        for (client, method, params) in notifications {
            self.notify(client, method, params);
        }
    }

    /// Runs the waiting transactions again until none of them gets any further.
    pub(super) fn retry_blocked(&mut self) {
        let mut place = 0;
        while place < self.blocked.len() {
            let blocked = self.blocked.remove(place);
            match self.attempt(&blocked) {
                Attempt::Done(results) => {
                    let Blocked { client, id, .. } = blocked;
                    self.send(client, &Message::Response { outcome: Ok(results.into()), id });
                    // What it changed may let an earlier one go on.
                    place = 0;
                }
                Attempt::Wait(_) => {
                    self.blocked.insert(place, blocked);
                    place += 1;
                }
            }
        }
    }

    /// RFC 7047 §4.1.4: the transaction is answered with the error "canceled".
    fn cancel(&mut self, client: ConnectionId, id: &Json) {
        let place = self.blocked.iter().position(|blocked| blocked.client == client && blocked.id == *id);
        if let Some(place) = place {
            let Blocked { id, .. } = self.blocked.remove(place);
            let canceled = RpcError { error: "canceled".into(), details: None, syntax: None };
            self.send(client, &Message::Response { outcome: Err(canceled), id });
        }
    }

    fn monitor(&mut self, client: ConnectionId, method: MonitorMethod, params: &Json) -> Answer {
        let name = self.database_name(method.request(), &params[0])?;
        let database = self.database(name);
        let id = params[1].clone();
        if self.follower(client, &id).is_some() {
            return Err(RpcError::new("syntax error", "duplicate monitor ID"));
        }
        let follower = Follower::read(id, name, method, &params[2], &database.schema)
            .map_err(|reason| RpcError::new("syntax error", reason))?;
        let result = match method {
            MonitorMethod::Plain | MonitorMethod::Cond => follower.snapshot(database).into(),
            MonitorMethod::CondSince => {
                let last: Option<Uuid> = params[3].as_str().and_then(|text| text.parse().ok());
                let last = last.ok_or_else(|| RpcError::new("syntax error", "no last transaction"))?;
                let current = database.last_transaction().to_string();
                match database.changes_since(last) {
                    Some(changes) => json!([true, current, follower.updates(&changes)]),
                    None => json!([false, current, follower.snapshot(database)]),
                }
            }
        };
        if let Some(peer) = self.clients.get_mut(&client) {
            peer.followers.push(follower);
        }
        Ok(Some(result))
    }

    fn monitor_cond_change(&mut self, client: ConnectionId, params: &Json) -> Answer {
        let unknown = || RpcError::new("unknown monitor", "monitor session not found");
        let peer = self.clients.get_mut(&client).ok_or_else(unknown)?;
        let follower =
            peer.followers.iter_mut().find(|follower| follower.id == params[0]).ok_or_else(unknown)?;
        if follower.method == MonitorMethod::Plain {
            return Err(unknown());
        }
        let database = match follower.name {
            DatabaseName::Own => &self.database,
            DatabaseName::Server => &self.status,
        };
        let transaction = database.last_transaction();
        let updates = follower
            .change_conditions(&params[2], database)
            .map_err(|reason| RpcError::new("syntax error", reason))?;
        follower.id = params[1].clone();
        if !updates.is_empty() {
            let (method, params) =
                (follower.method.notification(), follower.notification(updates, transaction));
            self.notify(client, method, params);
        }
        Ok(Some(json!({})))
    }

    fn monitor_cancel(&mut self, client: ConnectionId, id: &Json) -> Answer {
        let place = self.follower(client, id);
        let place = place.ok_or_else(|| RpcError::new("unknown monitor", "monitor session not found"))?;
        if let Some(peer) = self.clients.get_mut(&client) {
            peer.followers.remove(place);
        }
        Ok(Some(json!({})))
    }

    fn follower(&self, client: ConnectionId, id: &Json) -> Option<usize> {
        self.clients.get(&client)?.followers.iter().position(|follower| follower.id == *id)
    }

    fn lock_method(&mut self, client: ConnectionId, method: &str, name: &Json) -> Answer {
        let name = name.as_str().filter(|name| is_id(name));
        let name = name.ok_or_else(|| RpcError::new("syntax error", "a lock's name is no identifier"))?;
        let twice =
            || RpcError::new("syntax error", "must issue \"unlock\" before new \"lock\" or \"steal\"");
        match method {
            "lock" => {
                self.locks.lock(name, client).map(|locked| Some(json!({"locked": locked}))).ok_or_else(twice)
            }
            "steal" => {
                if let Some(robbed) = self.locks.steal(name, client).ok_or_else(twice)? {
                    self.notify(robbed, "stolen", json!([name]));
                }
                Ok(Some(json!({"locked": true})))
            }
            _ => {
                let never = || RpcError::new("syntax error", "\"unlock\" without \"lock\" or \"steal\"");
                if let Some(heir) = self.locks.unlock(name, client).ok_or_else(never)? {
                    self.notify(heir, "locked", json!([name]));
                }
                Ok(Some(json!({})))
            }
        }
    }
}

enum Attempt {
    Done(Vec<Json>),
    /// Not before a change, or this moment.
    Wait(Option<Timestamp>),
}

fn unknown_method(method: &str) -> RpcError {
    RpcError::new("unknown method", format!("no method {method:?}"))
}
