//! A session and the in-memory server, byte by byte, in virtual time and with faults: no socket, no clock.
//!
//! Whatever happens on the way, once it is quiet the reader of the events, the session's replica and the server
//! hold the same rows; every change fits what the reader held before; and every transaction has one outcome.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ovsdb::backoff::{BackoffRange, Jitter};
use ovsdb::server::{ConnectionId, MemoryServer};
use ovsdb::session::{Core, Effect, Token};
use ovsdb::{
    Atom, AtomMap, Condition, DatabaseSchema, DatabaseStatus, Datum, Delete, Insert, MonitorTable, Mutate,
    Mutator, Operation, OperationIndex, Remote, Replica, Row, Select, ServerPolicy, SessionConfig,
    SessionEvent, StorageModel, Timestamp, TransactError, Transaction, Update, Uuid, Value,
};
use proptest::prelude::*;

const SCHEMA: &str = include_str!("support/test.ovsschema");

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody else's transaction.
    Elsewhere(Change),
    /// The session's own transaction.
    Own(Change),
    /// That many bytes cross in each direction.
    Deliver(usize),
    /// The connection is lost, with all bytes on their way.
    Drop,
    /// Time passes.
    Wait(Duration),
    /// The rows of these levels and serials are followed; of none: all.
    Follow(BTreeSet<i64>, BTreeSet<i64>),
    /// The lock is asked for, stolen, or given back.
    Lock,
    Steal,
    Unlock,
    /// The server says this of itself.
    Status(DatabaseStatus),
}

#[derive(Debug, Clone)]
enum Change {
    Insert(u8, i64),
    Delete(u8),
    Level(u8, i64),
    Tag(u8, u8),
    Untag(u8, u8),
    Id(u8, u8, u8),
}

impl Change {
    fn operation(&self) -> Operation {
        let named = |name: &u8| Condition::equal("name", format!("n{name}"));
        let text = |value: &u8| format!("t{value}");
        match self {
            // It fails where the name is there already: a good test of failed commits.
            Self::Insert(name, level) => {
                let serial = i64::from(*name);
                Insert::into("Item")
                    .set("name", format!("n{name}"))
                    .set("level", *level)
                    .set("serial", serial)
                    .into()
            }
            Self::Delete(name) => Delete::from("Item").filter(named(name)).into(),
            Self::Level(name, level) => Update::table("Item").filter(named(name)).set("level", *level).into(),
            Self::Tag(name, tag) => Mutate::table("Item")
                .filter(named(name))
                .mutate("tags", Mutator::Insert, Value::set([text(tag)]))
                .into(),
            Self::Untag(name, tag) => Mutate::table("Item")
                .filter(named(name))
                .mutate("tags", Mutator::Delete, Value::set([text(tag)]))
                .into(),
            Self::Id(name, key, value) => {
                Mutate::table("Item").filter(named(name)).set_key("ids", &text(key), &text(value)).into()
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let (name, small, level) = (|| 0_u8..5, || 0_u8..3, || 0_i64..3);
    prop_oneof![
        (name(), level()).prop_map(|(name, level)| Change::Insert(name, level)),
        name().prop_map(Change::Delete),
        (name(), level()).prop_map(|(name, level)| Change::Level(name, level)),
        (name(), small()).prop_map(|(name, tag)| Change::Tag(name, tag)),
        (name(), small()).prop_map(|(name, tag)| Change::Untag(name, tag)),
        (name(), small(), small()).prop_map(|(name, key, value)| Change::Id(name, key, value)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change().prop_map(Step::Elsewhere),
        3 => change().prop_map(Step::Own),
        6 => (1_usize..400).prop_map(Step::Deliver),
        2 => Just(Step::Deliver(usize::MAX)),
        2 => Just(Step::Drop),
        2 => (1_u64..3000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        3 => (levels(), prop::collection::btree_set(0_i64..5, 0..3))
            .prop_map(|(levels, serials)| Step::Follow(levels, serials)),
        1 => Just(Step::Lock),
        1 => Just(Step::Steal),
        1 => Just(Step::Unlock),
        1 => status().prop_map(Step::Status),
    ]
}

/// Often the same ones.
fn levels() -> impl Strategy<Value = BTreeSet<i64>> {
    prop_oneof![Just(BTreeSet::from([1])), prop::collection::btree_set(0_i64..3, 0..3)]
}

fn status() -> impl Strategy<Value = DatabaseStatus> {
    let model =
        prop::sample::select(vec![StorageModel::Standalone, StorageModel::Clustered, StorageModel::Relay]);
    (model, any::<bool>(), any::<bool>()).prop_map(|(model, connected, leader)| DatabaseStatus {
        model,
        connected,
        leader,
    })
}

/// The atoms or pairs of a value, as text.
fn elements(datum: &Datum) -> BTreeSet<String> {
    let pairs = datum.as_map().into_iter().flat_map(AtomMap::iter);
    datum.atoms().map(Atom::to_string).chain(pairs.map(|(key, value)| format!("{key}: {value}"))).collect()
}

/// The two machines, and what is between them.
struct World {
    server: MemoryServer,
    core: Core,
    now: Timestamp,
    connection: Option<ConnectionId>,
    to_server: Vec<u8>,
    to_core: Vec<u8>,
    /// A client of its own, who competes for the lock.
    rival: ConnectionId,
    reader: Replica,
    elements: BTreeMap<(Uuid, &'static str), BTreeSet<String>>,
    is_connected: bool,
    owns_lock: bool,
    wants_lock: bool,
    levels: BTreeSet<i64>,
    /// Never changed after a row was made.
    serials: BTreeSet<i64>,
    columns: Vec<&'static str>,
    next_token: u64,
    waiting: BTreeSet<Token>,
}

impl World {
    fn new(disabled: &[&str], history: usize, policy: ServerPolicy, knows_schema: bool) -> Self {
        Self::following(&["name", "tags", "ids"], disabled, history, policy, knows_schema)
    }

    fn following(
        columns: &[&'static str],
        disabled: &[&str],
        history: usize,
        policy: ServerPolicy,
        knows_schema: bool,
    ) -> Self {
        let mut server = MemoryServer::new(serde_json::from_str(SCHEMA).unwrap()).unwrap();
        disabled.iter().for_each(|method| server.disable_method(method));
        server.keep_transactions(history);
        let rival = server.connect();
        let mut config = SessionConfig::new("unix:/nowhere".parse::<Remote>().unwrap(), "Test")
            .monitor(MonitorTable::new("Item", columns.iter().copied()));
        config.backoff =
            BackoffRange { shortest: Duration::from_millis(100), longest: Duration::from_secs(2) };
        config.server = policy;
        config.schema = knows_schema.then(|| Arc::new(DatabaseSchema::from_text(SCHEMA).unwrap()));
        Self {
            server,
            core: Core::new(config, Timestamp::default()),
            now: Timestamp::default(),
            connection: None,
            to_server: Vec::new(),
            to_core: Vec::new(),
            rival,
            reader: Replica::new(),
            elements: BTreeMap::new(),
            is_connected: false,
            owns_lock: false,
            wants_lock: false,
            levels: BTreeSet::new(),
            serials: BTreeSet::new(),
            columns: columns.to_vec(),
            next_token: 0,
            waiting: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Elsewhere(change) => {
                // A name that is there already makes it fail, which is fine.
                let _ = self.server.transact(&Transaction::new("Test").with(change.operation()));
            }
            Step::Own(change) => {
                let token = self.token();
                self.core.transact(token, Transaction::new("Test").with(change.operation()));
            }
            Step::Deliver(count) => self.deliver(count),
            Step::Drop => self.drop_connection(),
            Step::Wait(time) => {
                self.now = self.now.after(time);
                self.core.tick(self.now, Jitter::new(self.next_token));
                self.server.tick(self.now);
            }
            Step::Follow(levels, serials) => {
                let of_levels = levels.iter().map(|level| Condition::equal("level", *level));
                let of_serials = serials.iter().map(|serial| Condition::equal("serial", *serial));
                let conditions = of_levels.chain(of_serials).collect();
                let token = self.token();
                self.core.set_conditions(token, "Item", conditions);
                (self.levels, self.serials) = (levels, serials);
            }
            Step::Lock => {
                self.core.lock("l", false);
                self.wants_lock = true;
            }
            Step::Steal => {
                self.core.lock("l", true);
                self.wants_lock = true;
            }
            Step::Unlock => {
                self.core.unlock("l");
                (self.wants_lock, self.owns_lock) = (false, false);
            }
            Step::Status(status) => self.server.set_status(status),
        }
        self.settle()
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.waiting.insert(Token(self.next_token));
        Token(self.next_token)
    }

    fn deliver(&mut self, count: usize) {
        let Some(connection) = self.connection else { return };
        self.to_server.extend(self.core.take_output());
        let bytes: Vec<u8> = self.to_server.drain(..count.min(self.to_server.len())).collect();
        self.server.receive(connection, &bytes, self.now);
        self.to_core.extend(self.server.take_output(connection));
        let bytes: Vec<u8> = self.to_core.drain(..count.min(self.to_core.len())).collect();
        self.core.receive(&bytes, self.now);
    }

    fn drop_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.server.disconnect(connection);
            self.to_server.clear();
            self.to_core.clear();
            self.core.closed("dropped", self.now);
        }
    }

    /// Carries out what the session wants, and reads what it tells.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        loop {
            while let Some(event) = self.core.next_event() {
                self.read(event)?;
            }
            match self.core.next_effect() {
                None => return Ok(()),
                Some(Effect::Connect(_)) => {
                    self.connection = Some(self.server.connect());
                    self.core.connected(self.now);
                }
                Some(Effect::Close) => self.drop_connection(),
                Some(Effect::Transacted(token, outcome)) => {
                    prop_assert!(self.waiting.remove(&token), "a second outcome: {outcome:?}");
                    let is_known =
                        !matches!(outcome, Err(TransactError::Malformed(_) | TransactError::Refused(_)));
                    prop_assert!(is_known, "{outcome:?}");
                }
                Some(Effect::ConditionsSet(token, outcome)) => {
                    prop_assert!(self.waiting.remove(&token), "a second outcome: {outcome:?}");
                    prop_assert_eq!(outcome, Ok(()));
                }
            }
        }
    }

    fn read(&mut self, event: SessionEvent) -> Result<(), TestCaseError> {
        match event {
            SessionEvent::Connected => {
                prop_assert!(!self.is_connected);
                self.is_connected = true;
            }
            SessionEvent::Disconnected { .. } => (self.is_connected, self.owns_lock) = (false, false),
            SessionEvent::Update(changes) => {
                prop_assert!(self.is_connected);
                for change in &changes {
                    prop_assert_eq!(change.old_row(), self.reader.row(&change.table, change.uuid));
                    prop_assert_ne!(change.old_row(), change.new_row());
                    self.read_differences(change)?;
                    self.reader.apply([change]);
                }
            }
            SessionEvent::Locked(_) => {
                prop_assert!(self.is_connected && self.wants_lock && !self.owns_lock);
                self.owns_lock = true;
            }
            SessionEvent::Stolen(_) => {
                prop_assert!(self.owns_lock);
                self.owns_lock = false;
            }
        }
        Ok(())
    }

    /// Keeps the columns by what is told of their differences alone.
    fn read_differences(&mut self, change: &ovsdb::Change) -> Result<(), TestCaseError> {
        for column in self.columns.clone() {
            let difference = change.column_difference(column).unwrap();
            let known = self.elements.entry((change.uuid, column)).or_default();
            for element in elements(&difference.removed) {
                prop_assert!(known.remove(&element), "{column}: {element} was not there");
            }
            for element in elements(&difference.added) {
                prop_assert!(known.insert(element), "{column}: it was there already");
            }
            let new = change.new_row().map(|row| elements(row.datum(column).unwrap())).unwrap_or_default();
            prop_assert_eq!(&*known, &new, "{}", column);
        }
        Ok(())
    }

    /// Lets everything arrive.
    fn quiesce(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..50 {
            self.step(Step::Deliver(usize::MAX))?;
            if !self.is_connected {
                self.step(Step::Wait(Duration::from_secs(2)))?;
            }
        }
        prop_assert!(self.is_connected, "{:?}", self.core);
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert!(self.waiting.is_empty(), "no outcome: {:?}", self.waiting);
        prop_assert_eq!(&self.reader, self.core.replica());
        let reply = self.server.transact(&Transaction::new("Test").with(Select::from("Item"))).unwrap();
        let rows = reply.rows(OperationIndex(0)).unwrap();
        let is_followed = |row: &&Row| {
            let (level, serial) = (row.optional_integer("level").unwrap(), row.integer("serial").unwrap());
            self.levels.is_empty() && self.serials.is_empty()
                || level.is_some_and(|level| self.levels.contains(&level))
                || self.serials.contains(&serial)
        };
        let short = |row: &Row| {
            let columns = row.columns().iter().filter(|(name, _)| self.columns.contains(&&***name));
            Row::new(
                row.table().clone(),
                row.uuid(),
                columns.map(|(name, datum)| (name.clone(), datum.clone())).collect(),
            )
        };
        let expected: Vec<Row> = rows.iter().filter(is_followed).map(short).collect();
        let followed: Vec<Row> = self.reader.rows("Item").map(|row| (**row).clone()).collect();
        prop_assert_eq!(followed, expected);
        // Nobody else wants the lock but the rival, who has given it back.
        prop_assert_eq!(self.owns_lock, self.wants_lock);
        Ok(())
    }

    /// The rival steals the lock, or gives it back.
    fn rival(&mut self, method: &str) {
        let request = serde_json::json!({"method": method, "params": ["l"], "id": 1}).to_string();
        let rival = self.rival;
        self.server.receive(rival, request.as_bytes(), self.now);
        self.server.take_output(rival);
    }
}

const NEW: &[&str] = &[];
const OLD: &[&str] = &["monitor_cond_since"];
const OLDEST: &[&str] = &["monitor_cond_since", "monitor_cond", "monitor_cond_change"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_both_sides_end_equal(
        disabled in prop::sample::select(vec![NEW, NEW, OLD, OLDEST]),
        history in prop::sample::select(vec![0_usize, 3, 1000, 1000]),
        policy in prop::sample::select(vec![ServerPolicy::Any, ServerPolicy::Connected, ServerPolicy::Leader]),
        knows_schema in any::<bool>(),
        columns in prop::sample::select(vec![&["name", "tags", "ids"][..], &["name", "level"], &["level", "ids"]]),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::following(columns, disabled, history, policy, knows_schema);
        for (number, step) in steps.into_iter().enumerate() {
            match number % 16 {
                3 => world.rival("steal"),
                11 => world.rival("unlock"),
                _ => {}
            }
            world.step(step)?;
        }
        world.rival("unlock");
        world.step(Step::Status(DatabaseStatus::STANDALONE))?;
        world.quiesce()?;
        world.check()?;
    }

    /// A broken peer ends the connection, not the program.
    #[test]
    fn no_bytes_make_either_side_panic(
        texts in prop::collection::vec(any_message(), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = [texts.concat().into_bytes(), noise].concat();
        let mut world = World::new(NEW, 10, ServerPolicy::Leader, false);
        world.step(Step::Wait(Duration::ZERO))?;
        world.step(Step::Deliver(usize::MAX))?;
        let connection = world.connection.unwrap();
        world.core.receive(&bytes, world.now);
        world.server.receive(connection, &bytes, world.now);
    }
}

/// A session that is live.
fn live() -> World {
    let mut world = World::new(NEW, 0, ServerPolicy::Any, false);
    world.quiesce().unwrap();
    world
}

/// Lets the server's bytes arrive, but not the session's.
fn deliver_to_session(world: &mut World) {
    let connection = world.connection.unwrap();
    world.to_core.extend(world.server.take_output(connection));
    let bytes = std::mem::take(&mut world.to_core);
    world.core.receive(&bytes, world.now);
    world.settle().unwrap();
}

#[test]
fn the_answer_to_a_lock_given_back_is_not_taken_for_the_next_one() {
    let mut world = live();
    world.step(Step::Lock).unwrap();
    let request = world.core.take_output();
    world.server.receive(world.connection.unwrap(), &request, world.now);
    world.step(Step::Unlock).unwrap();
    world.step(Step::Lock).unwrap();
    deliver_to_session(&mut world);
    assert!(!world.owns_lock, "the server will first see that it is given back");
    world.step(Step::Deliver(usize::MAX)).unwrap();
    assert!(world.owns_lock);
}

#[test]
fn a_lock_that_comes_after_it_was_given_up_is_not_taken_for_the_next_one() {
    let mut world = live();
    world.rival("lock");
    world.step(Step::Lock).unwrap();
    world.step(Step::Deliver(usize::MAX)).unwrap();
    assert!(!world.owns_lock);
    world.rival("unlock");
    world.step(Step::Unlock).unwrap();
    world.step(Step::Lock).unwrap();
    deliver_to_session(&mut world);
    assert!(!world.owns_lock, "the server will first see that it is given up");
    world.step(Step::Deliver(usize::MAX)).unwrap();
    assert!(world.owns_lock);
}

#[test]
fn conditions_have_an_outcome_where_the_new_monitor_is_refused() {
    let mut world = World::new(OLDEST, 0, ServerPolicy::Any, false);
    world.quiesce().unwrap();
    world.server.disable_method("monitor");
    world.step(follow([1])).unwrap();
    world.step(Step::Deliver(usize::MAX)).unwrap();
    assert!(!world.is_connected && world.waiting.is_empty(), "{:?}", world.waiting);
}

/// The row was of level 0 when the last update came; nothing that is seen changed when it came to level 1, so that
/// its position is from before.
#[test]
fn a_row_that_goes_after_its_unseen_column_and_the_conditions_changed_goes_here_too() {
    let mut world = World::new(NEW, 1000, ServerPolicy::Any, false);
    world.step(Step::Elsewhere(Change::Insert(0, 0))).unwrap();
    world.quiesce().unwrap();
    world.step(Step::Elsewhere(Change::Level(0, 1))).unwrap();
    world.step(follow([1])).unwrap();
    world.step(Step::Deliver(usize::MAX)).unwrap();
    assert_eq!((world.reader.len(), world.waiting.len()), (1, 0));
    world.step(Step::Drop).unwrap();
    world.step(Step::Elsewhere(Change::Delete(0))).unwrap();
    world.quiesce().unwrap();
    world.check().unwrap();
}

/// The level is followed, but not of rows that no condition lets pass.
#[test]
fn a_row_that_was_let_pass_before_it_was_seen_to_comes_here_when_it_comes() {
    let mut world = World::following(&["name", "level"], NEW, 1000, ServerPolicy::Any, false);
    world.step(Step::Elsewhere(Change::Insert(0, 1))).unwrap();
    world.step(follow([2])).unwrap();
    world.quiesce().unwrap();
    world.step(Step::Elsewhere(Change::Insert(1, 2))).unwrap();
    world.step(Step::Deliver(usize::MAX)).unwrap();
    world.step(Step::Elsewhere(Change::Level(0, 0))).unwrap();
    world.step(follow([1, 2])).unwrap();
    world.step(Step::Deliver(usize::MAX)).unwrap();
    assert_eq!((world.reader.len(), world.waiting.len()), (1, 0));
    world.step(Step::Drop).unwrap();
    world.step(Step::Elsewhere(Change::Level(0, 1))).unwrap();
    world.quiesce().unwrap();
    world.check().unwrap();
}

fn follow<const N: usize>(levels: [i64; N]) -> Step {
    Step::Follow(BTreeSet::from(levels), BTreeSet::new())
}

/// Messages that look right at first sight.
fn any_message() -> impl Strategy<Value = String> {
    let methods = vec![
        "update",
        "update2",
        "update3",
        "locked",
        "stolen",
        "monitor_canceled",
        "echo",
        "transact",
        "cancel",
        "monitor",
        "monitor_cond",
        "monitor_cond_since",
        "monitor_cond_change",
        "monitor_cancel",
        "lock",
        "steal",
        "unlock",
        "get_schema",
        "list_dbs",
    ];
    let id = prop_oneof![
        Just("null".to_owned()),
        (0_u8..4).prop_map(|id| id.to_string()),
        Just("\"echo\"".to_owned())
    ];
    prop_oneof![
        (prop::sample::select(methods), any_json(), id.clone()).prop_map(|(method, params, id)| format!(
            r#"{{"method":"{method}","params":{params},"id":{id}}}"#
        )),
        (any_json(), id).prop_map(|(result, id)| format!(r#"{{"result":{result},"error":null,"id":{id}}}"#)),
    ]
}

fn any_json() -> impl Strategy<Value = String> {
    let words = vec![
        "Test",
        "Item",
        "name",
        "tags",
        "ids",
        "set",
        "map",
        "uuid",
        "named-uuid",
        "insert",
        "op",
        "table",
        "where",
        "row",
        "rows",
        "columns",
        "==",
        "includes",
        "modify",
        "initial",
        "delete",
        "new",
        "old",
        "select",
        "update",
        "mutate",
        "mutations",
        "wait",
        "until",
        "+=",
        "l",
        "00000000-0000-0000-0000-000000000001",
    ];
    let word = prop::sample::select(words).prop_map(|word| format!("{word:?}"));
    let leaf = prop_oneof![4 => word.clone(), 1 => any::<i64>().prop_map(|n| n.to_string()), 1 => Just("null".to_owned()),
        1 => Just("true".to_owned()), 1 => any::<f32>().prop_filter("JSON has it", |n| n.is_finite()).prop_map(|n| format!("{n:e}"))];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<String> =
                    members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}
