//! Which server a session stays with: the session against in-memory servers, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use ovsdb::backoff::{BackoffRange, Jitter};
use ovsdb::server::{ConnectionId, MemoryServer};
use ovsdb::session::{Core, Effect};
use ovsdb::{
    DatabaseStatus, Insert, MonitorTable, Remote, ServerPolicy, SessionConfig, SessionEvent, StorageModel,
    Timestamp, Transaction,
};

const SCHEMA: &str = include_str!("support/test.ovsschema");

const LEADER: DatabaseStatus =
    DatabaseStatus { model: StorageModel::Clustered, connected: true, leader: true };
const FOLLOWER: DatabaseStatus = DatabaseStatus { leader: false, ..LEADER };
const CUT_OFF: DatabaseStatus = DatabaseStatus { connected: false, ..FOLLOWER };
const RELAY: DatabaseStatus = DatabaseStatus { model: StorageModel::Relay, ..FOLLOWER };
const SHORTEST: Duration = Duration::from_millis(100);

/// A session and its servers, "unix:0", "unix:1", …
struct World {
    servers: Vec<MemoryServer>,
    core: Core,
    connection: Option<(usize, ConnectionId)>,
    now: Timestamp,
    /// What the session told: "live on 0", or why it was not.
    told: Vec<String>,
}

fn server(status: DatabaseStatus) -> MemoryServer {
    let mut server = MemoryServer::new(serde_json::from_str(SCHEMA).unwrap()).unwrap();
    server.set_status(status);
    server
}

impl World {
    fn new(policy: ServerPolicy, statuses: &[DatabaseStatus]) -> Self {
        Self::with(statuses.iter().copied().map(server).collect(), |config| config.server = policy)
    }

    fn with(servers: Vec<MemoryServer>, change: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut config = SessionConfig::new("unix:0".parse().unwrap(), "Test")
            .monitor(MonitorTable::new("Item", ["name"]));
        config.remotes = (0..servers.len()).map(|place| format!("unix:{place}").parse().unwrap()).collect();
        config.backoff = BackoffRange { shortest: SHORTEST, longest: SHORTEST * 8 };
        change(&mut config);
        let core = Core::new(config, Timestamp::default());
        let mut world = Self { servers, core, connection: None, now: Timestamp::default(), told: Vec::new() };
        world.settle();
        world
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            if self.core.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                self.core.tick(self.now, Jitter::new(0));
                idle = false;
            }
            idle &= !self.deliver();
            while let Some(event) = self.core.next_event() {
                idle = false;
                match event {
                    SessionEvent::Connected => {
                        self.told.push(format!("live on {}", self.connection.unwrap().0));
                    }
                    SessionEvent::Disconnected { reason } => self.told.push(reason),
                    _ => {}
                }
            }
            while let Some(effect) = self.core.next_effect() {
                idle = false;
                match effect {
                    Effect::Connect(Remote::Unix(path)) => {
                        let place: usize = path.to_str().unwrap().parse().unwrap();
                        self.connection = Some((place, self.servers[place].connect()));
                        self.core.connected(self.now);
                    }
                    Effect::Close => self.close(),
                    other => panic!("{other:?}"),
                }
            }
            if idle {
                return;
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((place, id)) = self.connection else { return false };
        let to_server = self.core.take_output();
        self.servers[place].receive(id, &to_server, self.now);
        let to_core = self.servers[place].take_output(id);
        if !self.servers[place].is_connected(id) {
            self.core.closed("dropped", self.now);
            return true;
        }
        self.core.receive(&to_core, self.now);
        !to_server.is_empty() || !to_core.is_empty()
    }

    fn close(&mut self) {
        if let Some((place, id)) = self.connection.take() {
            self.servers[place].disconnect(id);
        }
    }

    fn set(&mut self, place: usize, status: DatabaseStatus) {
        self.servers[place].set_status(status);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.settle();
    }

    /// What was told since the last call.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// How long until something happens by itself.
    fn wait(&self) -> Duration {
        self.core.next_deadline().unwrap().since(self.now)
    }
}

#[test]
fn the_leader_is_found_without_waiting() {
    let mut world = World::new(ServerPolicy::Leader, &[FOLLOWER, RELAY, CUT_OFF, LEADER]);
    assert_eq!(
        world.told(),
        [
            "unix:0 is not the cluster's leader",
            "unix:1 is a relay, not the cluster's leader",
            "unix:2 is cut off from its cluster",
            "live on 3"
        ]
    );
}

#[test]
fn leadership_lost_is_left_at_once() {
    let mut world = World::new(ServerPolicy::Leader, &[LEADER, FOLLOWER]);
    assert_eq!(world.told(), ["live on 0"]);
    world.pass(SHORTEST);
    world.servers[1].set_status(LEADER);
    world.set(0, FOLLOWER);
    assert_eq!(world.told(), ["unix:0 is not the cluster's leader", "live on 1"]);
}

#[test]
fn a_follower_or_a_relay_will_do_while_it_is_connected() {
    for (good, reason) in [
        (FOLLOWER, "unix:0 is cut off from its cluster"),
        (RELAY, "unix:0 is a relay that is cut off from its source"),
    ] {
        let mut world = World::new(ServerPolicy::Connected, &[good, good]);
        world.pass(SHORTEST);
        assert_eq!(world.told(), ["live on 0"]);
        world.set(0, DatabaseStatus { connected: false, ..good });
        assert_eq!(world.told(), [reason, "live on 1"]);
    }
}

#[test]
fn without_a_policy_nothing_is_asked() {
    let mut world = World::new(ServerPolicy::Any, &[CUT_OFF]);
    assert_eq!(world.told(), ["live on 0"]);
}

#[test]
fn after_a_round_of_all_servers_the_backoff_is_waited_for() {
    let mut world = World::new(ServerPolicy::Connected, &[CUT_OFF, CUT_OFF, CUT_OFF]);
    let round = |first: usize| {
        (0..3)
            .map(|place| format!("unix:{} is cut off from its cluster", (first + place) % 3))
            .collect::<Vec<_>>()
    };
    assert_eq!(world.told(), round(0));
    for steps in [1, 2, 4, 8, 8] {
        // Half of the step, for the jitter is zero.
        assert_eq!(world.wait(), SHORTEST * steps / 2);
        world.pass(SHORTEST * steps / 2);
        assert_eq!(world.told(), round(0));
    }
    world.servers[1].set_status(FOLLOWER);
    world.pass(SHORTEST * 8);
    assert_eq!(world.told(), ["unix:0 is cut off from its cluster", "live on 1"]);
    // It was a good connection: a new round, and the shortest wait after it.
    world.pass(SHORTEST * 8);
    world.set(1, CUT_OFF);
    assert_eq!(world.told(), [1, 2, 0].map(|place| format!("unix:{place} is cut off from its cluster")));
    assert_eq!(world.wait(), SHORTEST / 2);
}

#[test]
fn servers_that_drop_everyone_at_once_cost_the_backoff() {
    let mut world = World::new(ServerPolicy::Connected, &[FOLLOWER, FOLLOWER]);
    assert_eq!(world.told(), ["live on 0"]);
    world.servers[0].drop_clients();
    world.settle();
    assert_eq!(world.told(), ["dropped", "live on 1"]);
    world.servers[1].drop_clients();
    world.settle();
    assert_eq!(world.told(), ["dropped"]);
    assert_eq!(world.wait(), SHORTEST / 2);
}

#[test]
fn a_server_that_is_too_old_to_tell_is_taken_as_it_is() {
    let mut old = server(CUT_OFF);
    old.forget_status();
    let mut world = World::with(vec![old], |config| config.server = ServerPolicy::Leader);
    assert_eq!(world.told(), ["live on 0"]);
}

#[test]
fn older_monitors_of_the_server_do_too() {
    for disabled in [&["monitor_cond_since"][..], &["monitor_cond_since", "monitor_cond"]] {
        let mut servers = vec![server(FOLLOWER), server(LEADER)];
        for server in &mut servers {
            disabled.iter().for_each(|method| server.disable_method(method));
        }
        let mut world = World::with(servers, |config| config.server = ServerPolicy::Leader);
        assert_eq!(world.told(), ["unix:0 is not the cluster's leader", "live on 1"]);
        world.set(1, FOLLOWER);
        assert_eq!(world.told()[0], "unix:1 is not the cluster's leader");
    }
}

#[test]
fn a_server_without_the_database_is_left() {
    let mut world = World::with(vec![server(LEADER)], |config| {
        config.server = ServerPolicy::Connected;
        config.database = "Nothing".into();
    });
    assert_eq!(world.told(), ["unix:0 has no database Nothing"]);
}

#[test]
fn the_rows_are_right_after_a_move_to_a_server_that_knows_nothing() {
    let mut world = World::new(ServerPolicy::Connected, &[FOLLOWER, FOLLOWER]);
    let insert = |name: &str| Transaction::new("Test").with(Insert::into("Item").set("name", name));
    world.servers[0].transact(&insert("a")).unwrap();
    world.servers[1].transact(&insert("b")).unwrap();
    world.settle();
    world.pass(SHORTEST);
    world.set(0, CUT_OFF);
    let names: Vec<&str> = world.core.replica().rows("Item").map(|row| row.string("name").unwrap()).collect();
    assert_eq!(names, ["b"]);
}
