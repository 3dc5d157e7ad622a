//! One or two publishers, a server and hosts, any of which is killed at any time: no update is lost, none is applied twice, and no object goes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ovsdb::server::MemoryServer;
use ovsdb::session::{Effect, Token};
use ovsdb::{MonitorTable, SessionEvent, Timestamp};
use policy::{Policy, PolicyDelta, Port, SecurityGroup};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::world::{Host, Session, bound_to};
use crate::schema::{self, PUBLISHER_LOCK};
use crate::{Publication, Seen, Sight, prepare};

const HOSTS: u8 = 3;
const GROUPS: u8 = 4;
const PORTS: u8 = 8;
/// Between two looks at everything.
const STEP: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
enum Step {
    /// A group is another one now, or gone if no port has it.
    Group(u8, bool),
    /// A port is another one now: where it is, and what it carries; or it is gone.
    Port(u8, Option<(u8, BTreeSet<u8>)>),
    /// So much time passes.
    Wait(u8),
    /// One of the two publishers hears so many of the changes that are on their way to it.
    Hear(usize, u8),
    KillPublisher(usize),
    /// With `true` it has forgotten its last transactions when it is back.
    KillServer(bool),
    KillHost(u8),
    /// A publisher hears of something and its connection is lost when it has just written that: with `true` it was committed, and it does not know.
    LosePublisher(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::btree_set(0..GROUPS, 0..3);
    prop_oneof![
        4 => (0..GROUPS, prop::bool::weighted(0.8)).prop_map(|(group, stays)| Step::Group(group, stays)),
        6 => (0..PORTS, prop::option::weighted(0.8, (0..HOSTS, groups))).prop_map(|(port, is)| Step::Port(port, is)),
        6 => (1..40_u8).prop_map(Step::Wait),
        6 => (0..2_usize, 1..5_u8).prop_map(|(who, count)| Step::Hear(who, count)),
        2 => (0..2_usize).prop_map(Step::KillPublisher),
        1 => any::<bool>().prop_map(Step::KillServer),
        1 => (0..HOSTS).prop_map(Step::KillHost),
        3 => (0..2_usize, any::<bool>()).prop_map(|(who, arrives)| Step::LosePublisher(who, arrives)),
    ]
}

/// A publisher, and what it knows of the policy: that lags behind, and all of it can be asked for.
struct Publisher {
    session: Session,
    publication: Publication,
    known: Policy,
    on_their_way: VecDeque<PolicyDelta>,
    /// When the answer comes to the question for all of it.
    answer_at: Option<(Timestamp, u64)>,
}

impl Publisher {
    fn new(name: String, now: Timestamp) -> Self {
        let mut session = Session::new(Publication::tables(), now);
        session.core.lock(PUBLISHER_LOCK, false);
        let mut publication = Publication::new(name);
        // Groups of more than two members have several rows.
        publication.writer.room = 2;
        Publisher {
            session,
            publication,
            known: Policy::default(),
            on_their_way: VecDeque::new(),
            answer_at: None,
        }
    }

    fn hear(&mut self, count: usize) {
        for delta in self.on_their_way.drain(..count.min(self.on_their_way.len())) {
            self.publication.policy(&delta, bound_to);
            self.known.apply(delta);
        }
    }

    fn run(&mut self, server: &mut MemoryServer, truth: &Policy, now: Timestamp) {
        let since = |now: Timestamp| now.since(Timestamp::default());
        loop {
            for event in self.session.run(server, now) {
                self.publication.event(&event).unwrap();
            }
            for effect in std::mem::take(&mut self.session.effects) {
                if let Effect::Transacted(_, outcome) = effect {
                    self.publication.outcome(since(now), &outcome.map(|_| ()));
                }
            }
            if let Some(term) = self.publication.new_term() {
                self.answer_at = Some((now.after(STEP * 3), term));
            }
            if let Some((_, term)) = self.answer_at.take_if(|(time, _)| *time <= now) {
                // What was on its way is older than the answer.
                self.on_their_way.clear();
                self.publication.policy(&Policy::diff(&self.known, truth), bound_to);
                self.known = truth.clone();
                self.publication.verified(term);
            }
            let Some(transaction) = self.publication.next(since(now)) else { return };
            self.session.core.transact(Token(0), transaction);
        }
    }
}

/// Which version of each object somebody has seen last.
#[derive(Default)]
struct Versions(BTreeMap<String, u64>);

impl Versions {
    fn see(&mut self, object: String, version: u64) -> Result<(), TestCaseError> {
        let last = self.0.entry(object.clone()).or_default();
        prop_assert!(*last <= version, "{} goes back from {} to {}", object, last, version);
        *last = version;
        Ok(())
    }
}

struct Cloud {
    server: MemoryServer,
    now: Timestamp,
    truth: Policy,
    version: u64,
    publishers: Vec<Publisher>,
    hosts: Vec<Host>,
    of_hosts: Vec<Versions>,
    /// Somebody who sees all rows.
    watcher: Session,
    sight: Sight,
    of_store: Versions,
}

impl Cloud {
    fn new(publishers: usize) -> Self {
        let now = Timestamp::default();
        let mut server = MemoryServer::new(serde_json::from_str(schema::TEXT).unwrap()).unwrap();
        server.transact(&prepare(None, None).unwrap()).unwrap();
        let mut truth = Policy::default();
        for number in 0..GROUPS {
            let group = group(number, 0);
            truth.groups.insert(group.id.clone(), group.into());
        }
        let names = (0..HOSTS).map(|host| format!("h{host}"));
        let tables = [schema::SECURITY_GROUP, schema::MEMBERS, schema::PORT].map(MonitorTable::all_columns);
        Cloud {
            server,
            now,
            truth,
            version: 0,
            publishers: (0..publishers).map(|who| Publisher::new(who.to_string(), now)).collect(),
            hosts: names.map(|name| Host::new(&name, now)).collect(),
            of_hosts: (0..HOSTS).map(|_| Versions::default()).collect(),
            watcher: Session::new(tables.into(), now),
            sight: Sight::default(),
            of_store: Versions::default(),
        }
    }

    fn publisher(&mut self, who: usize) -> &mut Publisher {
        let who = who % self.publishers.len();
        &mut self.publishers[who]
    }

    fn change(&mut self, delta: PolicyDelta) {
        self.publishers.iter_mut().for_each(|publisher| publisher.on_their_way.push_back(delta.clone()));
        self.truth.apply(delta);
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.version += 1;
        match step {
            Step::Group(number, stays) => {
                let group = group(*number, self.version);
                let is_carried =
                    self.truth.ports.values().any(|port| port.security_groups.contains(&group.id));
                let id = group.id.clone();
                let group = (*stays || is_carried).then(|| Arc::new(group));
                self.change(PolicyDelta { groups: vec![(id, group)], ..PolicyDelta::default() });
            }
            Step::Port(number, is) => {
                let is_there =
                    |group: &&u8| self.truth.groups.contains_key(&format!("g{group}").as_str().into());
                let port = is.as_ref().map(|(host, groups)| {
                    let groups = groups.iter().filter(is_there).copied().collect();
                    Arc::new(port(*number, *host, &groups, self.version))
                });
                let id = format!("p{number}").as_str().into();
                self.change(PolicyDelta { ports: vec![(id, port)], ..PolicyDelta::default() });
            }
            Step::Wait(steps) => {
                for _ in 0..*steps {
                    self.run()?;
                }
            }
            Step::Hear(who, count) => self.publisher(*who).hear((*count).into()),
            Step::KillPublisher(who) => {
                let (now, who) = (self.now, who % self.publishers.len());
                self.publishers[who].session.lose(&mut self.server, now);
                self.publishers[who] = Publisher::new(format!("{who} {}", self.version), now);
            }
            Step::KillServer(forgets) => {
                self.server.keep_transactions(if *forgets { 0 } else { 100 });
                let (now, server) = (self.now, &mut self.server);
                self.publishers.iter_mut().for_each(|publisher| publisher.session.lose(server, now));
                self.hosts.iter_mut().for_each(|host| host.session.lose(server, now));
                self.watcher.lose(server, now);
            }
            Step::KillHost(host) => {
                let (now, place) = (self.now, usize::from(*host));
                self.hosts[place].session.lose(&mut self.server, now);
                self.hosts[place] = Host::new(&format!("h{host}"), now);
            }
            Step::LosePublisher(who, arrives) => {
                let since = self.now.since(Timestamp::default());
                let who = who % self.publishers.len();
                let publisher = &mut self.publishers[who];
                publisher.hear(1);
                if let Some(transaction) = publisher.publication.next(since) {
                    publisher.session.core.transact(Token(0), transaction);
                    if *arrives {
                        publisher.session.deliver(&mut self.server, self.now);
                    }
                }
                publisher.session.lose(&mut self.server, self.now);
            }
        }
        self.run()
    }

    fn run(&mut self) -> Result<(), TestCaseError> {
        self.now = self.now.after(STEP);
        self.server.tick(self.now);
        for publisher in &mut self.publishers {
            publisher.run(&mut self.server, &self.truth, self.now);
        }
        for event in self.watcher.run(&mut self.server, self.now) {
            let SessionEvent::Update(changes) = event else { continue };
            for seen in self.sight.read(&changes).unwrap() {
                match seen {
                    Seen::Group { id, head: Some(crate::Now::Is(head)), .. } => {
                        self.of_store.see(format!("group {id}"), head.name.parse().unwrap())?;
                    }
                    Seen::Port(id, Some(row)) => {
                        self.of_store.see(format!("port {id}"), row.device_owner.parse().unwrap())?;
                    }
                    _ => {}
                }
            }
        }
        for (host, versions) in self.hosts.iter_mut().zip(&mut self.of_hosts) {
            let mut before = host.policy.clone();
            host.run(&mut self.server, self.now);
            for delta in std::mem::take(&mut host.deltas) {
                check_told(&before, &delta, versions)?;
                before.apply(delta);
            }
        }
        Ok(())
    }
}

/// Nothing is told twice, and nothing goes back.
fn check_told(before: &Policy, delta: &PolicyDelta, versions: &mut Versions) -> Result<(), TestCaseError> {
    for (id, group) in &delta.groups {
        prop_assert_ne!(before.groups.get(id), group.as_ref(), "told twice");
        if let Some(group) = group {
            versions.see(format!("group {id}"), group.name.parse().unwrap())?;
        }
    }
    for (id, port) in &delta.ports {
        prop_assert_ne!(before.ports.get(id), port.as_ref(), "told twice: {}", id);
        if let Some(version) = port.as_ref().and_then(|port| port.device_owner.parse().ok()) {
            versions.see(format!("port {id}"), version)?;
        }
    }
    Ok(())
}

/// Its name is its version; it admits the next group.
fn group(number: u8, version: u64) -> SecurityGroup {
    let rule = policy::Rule {
        id: format!("r{number}").as_str().into(),
        direction: policy::Direction::Ingress,
        ethertype: policy::Ethertype::Ipv4,
        service: policy::Service::Any,
        remote: policy::Remote::Group(
            format!("g{}", (u64::from(number) + version) % u64::from(GROUPS)).as_str().into(),
        ),
    };
    SecurityGroup {
        id: format!("g{number}").as_str().into(),
        name: version.to_string(),
        stateful: true,
        rules: vec![rule],
    }
}

/// Its owner is its version.
fn port(number: u8, host: u8, groups: &BTreeSet<u8>, version: u64) -> Port {
    Port {
        id: format!("p{number}").as_str().into(),
        network_id: "n".into(),
        mac: policy::MacAddr([0xfa, 0x16, 0x3e, 0, 0, number]),
        // Two ports may have one address.
        fixed_ips: [std::net::IpAddr::from([10, 0, 0, number / 2])].into(),
        allowed_address_pairs: BTreeSet::new(),
        security_groups: groups.iter().map(|group| format!("g{group}").as_str().into()).collect(),
        port_security_enabled: true,
        device_owner: version.to_string(),
        host: Some(format!("h{host}")),
    }
}

/// Whether somebody is killed, or loses its connection in the middle of what it does.
fn is_kill(step: &Step) -> bool {
    match step {
        Step::KillPublisher(_) | Step::KillServer(_) | Step::KillHost(_) | Step::LosePublisher(..) => true,
        Step::Group(..) | Step::Port(..) | Step::Wait(_) | Step::Hear(..) => false,
    }
}

fn run(publishers: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut cloud = Cloud::new(publishers);
    for step in steps {
        cloud.step(step)?;
    }
    // Quiet.
    cloud.publishers.iter_mut().for_each(|publisher| publisher.hear(usize::MAX));
    for _ in 0..100 {
        cloud.run()?;
    }
    prop_assert_eq!(cloud.publishers.iter().filter(|publisher| publisher.publication.leads()).count(), 1);
    for (number, host) in cloud.hosts.iter().enumerate() {
        let name = format!("h{number}");
        super::history::check_host(host, &name, &cloud.truth)?;
    }
    Ok(())
}

#[test]
fn nothing_is_lost_or_told_twice_or_goes_back() {
    let kills = AtomicUsize::new(0);
    let histories = (1..=2_usize, prop::collection::vec(step(), 1..60));
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::default() };
    let cases = config.cases;
    let outcome = TestRunner::new(config).run(&histories, |(publishers, steps)| {
        kills.fetch_add(steps.iter().filter(|step| is_kill(step)).count(), Ordering::Relaxed);
        run(publishers, &steps)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let kills = kills.into_inner();
    println!("{kills} kills in {cases} histories");
    // Fewer only where the environment asks for fewer histories.
    assert!(kills >= 1000 || cases < 256, "{kills} kills");
}
