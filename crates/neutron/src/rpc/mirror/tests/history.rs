//! Random histories of a server, of what it pushes and of how it answers: in the end, once it is quiet, the mirror has what the server has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use policy::{Policy, PortId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Effect, Event, Mirror, Now, State};
use super::server::{Group, Port, Rule, Server, primitive, revision_of};
use super::{call_of, options, push_body, reply_body};

#[derive(Clone, Debug)]
enum Op {
    MakeGroup(u8),
    Rename(u8),
    MakeRule {
        group: u8,
        rule: u8,
        remote: u8,
        of_addresses: bool,
    },
    DropRule {
        group: u8,
        rule: u8,
    },
    DropGroup(u8),
    MakeAddressGroup(u8),
    Readdress(u8),
    DropAddressGroup(u8),
    MakePort {
        port: u8,
        group: u8,
        host: u8,
    },
    Regroup {
        port: u8,
        group: u8,
    },
    Migrate {
        port: u8,
        host: u8,
    },
    DropPort(u8),
    /// The next pushes come in.
    Deliver(u8),
    /// One that came before comes again.
    Repeat(u8),
    /// Two of different servers come the other way round.
    Swap,
    /// One never comes.
    LosePush,
    /// The oldest call is answered as things are.
    Answer,
    /// As they were a while ago.
    AnswerLate(u8),
    AnswerEmpty,
    Fail,
    Wait(u8),
    /// Everything is pulled again.
    Audit,
    Disconnect,
    Connect,
    Restart,
}

fn change() -> impl Strategy<Value = Op> {
    let small = || 0u8..4;
    prop_oneof![
        small().prop_map(Op::MakeGroup),
        small().prop_map(Op::Rename),
        (small(), 0u8..6, small(), any::<bool>()).prop_map(|(group, rule, remote, of_addresses)| {
            Op::MakeRule { group, rule, remote, of_addresses }
        }),
        (small(), 0u8..6).prop_map(|(group, rule)| Op::DropRule { group, rule }),
        small().prop_map(Op::DropGroup),
        small().prop_map(Op::MakeAddressGroup),
        small().prop_map(Op::Readdress),
        small().prop_map(Op::DropAddressGroup),
        (small(), small(), small()).prop_map(|(port, group, host)| Op::MakePort { port, group, host }),
        (small(), small()).prop_map(|(port, group)| Op::Regroup { port, group }),
        (small(), small()).prop_map(|(port, host)| Op::Migrate { port, host }),
        small().prop_map(Op::DropPort),
    ]
}

/// What happens while nothing is lost.
fn smooth() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => change(),
        6 => (1u8..6).prop_map(Op::Deliver),
        3 => any::<u8>().prop_map(Op::Repeat),
        4 => Just(Op::Swap),
        8 => Just(Op::Answer),
        3 => (0u8..12).prop_map(Op::AnswerLate),
        2 => (0u8..20).prop_map(Op::Wait),
        1 => Just(Op::Audit),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => smooth(),
        1 => Just(Op::LosePush),
        1 => Just(Op::AnswerEmpty),
        1 => Just(Op::Fail),
        1 => Just(Op::Disconnect),
        2 => Just(Op::Connect),
        1 => Just(Op::Restart),
    ]
}

struct Play {
    mirror: Mirror,
    server: Server,
    /// Generations of ids: one that was used is never used again.
    born: BTreeMap<String, u32>,
    /// What the server was, and when.
    past: VecDeque<(Duration, Server)>,
    pushes: VecDeque<Value>,
    delivered: Vec<Value>,
    calls: VecDeque<Value>,
    is_connected: bool,
    now: Duration,
    /// The deltas put together.
    told: Policy,
    /// Ids that the mirror was told are gone.
    deleted: BTreeSet<String>,
    newest: BTreeMap<PortId, u64>,
    /// How often the mirror was started.
    runs: u32,
}

impl Play {
    fn new() -> Self {
        Play {
            mirror: Mirror::new(options(false)),
            server: Server::default(),
            born: BTreeMap::new(),
            past: VecDeque::new(),
            pushes: VecDeque::new(),
            delivered: Vec::new(),
            calls: VecDeque::new(),
            is_connected: false,
            now: Duration::from_secs(1000),
            told: Policy::default(),
            deleted: BTreeSet::new(),
            newest: BTreeMap::new(),
            runs: 0,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let now = Now { monotonic: self.now, utc: self.now };
        for effect in self.mirror.handle(event, now) {
            match effect {
                Effect::Call { body, .. } => self.calls.push_back(call_of(&body)),
                Effect::Update(update) => {
                    self.told.apply(update.delta.unwrap_or_default());
                }
            }
        }
        assert_eq!(&self.told, self.mirror.policy(), "the deltas make the policy");
        for (id, port) in &self.told.ports {
            assert!(!self.deleted.contains(id.as_str()), "{id} was deleted");
            let revision = revision_of(&port.fixed_ips.first().unwrap().to_string());
            let newest = self.newest.entry(id.clone()).or_default();
            assert!(revision >= *newest, "{id} goes back from {newest} to {revision}");
            *newest = revision;
        }
        assert!(
            self.told
                .groups
                .values()
                .all(|group| { group.rules.iter().all(|rule| !self.deleted.contains(rule.id.as_str())) })
        );
    }

    /// The id of the object that is there by this name, or of the next one.
    fn id(&self, kind: &str, number: u8) -> String {
        let generation = self.born.get(&format!("{kind}{number}")).copied().unwrap_or_default();
        format!("{kind}{number}-{generation}")
    }

    fn gone(&mut self, kind: &str, number: u8, name: &str) {
        let id = self.id(kind, number);
        *self.born.entry(format!("{kind}{number}")).or_default() += 1;
        self.push(true, primitive(name, json!({"id": id, "security_group_ids": null, "stateful": true})));
    }

    fn push(&mut self, is_deleted: bool, object: Value) {
        if self.is_connected {
            self.pushes.push_back(json!({"deleted": is_deleted, "object": object}));
        }
    }

    fn change(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::MakeGroup(number) => {
                let id = self.id("g", number);
                if self.server.groups.contains_key(&id) {
                    return None;
                }
                self.server.groups.insert(id.clone(), Group::default());
                self.push(false, self.server.group(&id));
            }
            Op::Rename(number) => {
                let id = self.id("g", number);
                let group = self.server.groups.get_mut(&id)?;
                group.revision += 1;
                group.named_at = group.revision;
                self.push(false, self.server.group(&id));
            }
            Op::MakeRule { group, rule, remote, of_addresses } => {
                self.make_rule(group, rule, remote, of_addresses)?
            }
            Op::DropRule { group, rule } => {
                let group = self.id("g", group);
                let id = self.id(&format!("{group}/r"), rule);
                let held = self.server.groups.get_mut(&group)?;
                held.rules.remove(&id)?;
                held.revision += 1;
                self.gone(&format!("{group}/r"), rule, "SecurityGroupRule");
            }
            Op::DropGroup(number) => {
                let id = self.id("g", number);
                if self.server.ports.values().any(|port| port.groups.contains(&id)) {
                    return None;
                }
                self.server.groups.remove(&id)?;
                for group in self.server.groups.values_mut() {
                    let names = |rule: &Rule| rule.remote_group.as_ref() == Some(&id);
                    for (rule, _) in group.rules.iter().filter(|(_, rule)| names(rule)) {
                        let name = rule.rsplit_once('-').unwrap().0;
                        *self.born.entry(name.to_owned()).or_default() += 1;
                    }
                    group.rules.retain(|_, rule| !names(rule));
                }
                self.gone("g", number, "SecurityGroup");
            }
            Op::MakeAddressGroup(number) => {
                let id = self.id("a", number);
                if self.server.address_groups.contains_key(&id) {
                    return None;
                }
                self.server.address_groups.insert(id.clone(), 0);
                self.push(false, self.server.address_group(&id));
            }
            Op::Readdress(number) => {
                let id = self.id("a", number);
                *self.server.address_groups.get_mut(&id)? += 1;
                self.push(false, self.server.address_group(&id));
            }
            Op::DropAddressGroup(number) => {
                let id = self.id("a", number);
                let rules = self.server.groups.values().flat_map(|group| group.rules.values());
                if rules.into_iter().any(|rule| rule.remote_address_group.as_ref() == Some(&id)) {
                    return None;
                }
                self.server.address_groups.remove(&id)?;
                self.gone("a", number, "AddressGroup");
            }
            Op::DropPort(number) => {
                let id = self.id("p", number);
                self.server.ports.remove(&id)?;
                self.gone("p", number, "Port");
            }
            _ => self.change_port(op)?,
        }
        Some(())
    }

    fn change_port(&mut self, op: &Op) -> Option<()> {
        let (number, port) = match *op {
            Op::MakePort { port, group, host } => {
                let group = self.id("g", group);
                if self.server.ports.contains_key(&self.id("p", port))
                    || !self.server.groups.contains_key(&group)
                {
                    return None;
                }
                (port, Port { revision: 1, groups: [group].into(), hosts: vec![format!("h{host}")] })
            }
            Op::Regroup { port, group } => {
                let group = self.id("g", group);
                let mut held = self.server.ports.get(&self.id("p", port))?.clone();
                if !self.server.groups.contains_key(&group) {
                    return None;
                }
                held.groups = [group].into();
                (port, held)
            }
            Op::Migrate { port, host } => {
                let mut held = self.server.ports.get(&self.id("p", port))?.clone();
                held.hosts.insert(0, format!("h{host}"));
                held.hosts.truncate(2);
                (port, held)
            }
            _ => return None,
        };
        let id = self.id("p", number);
        self.server.ports.insert(id.clone(), Port { revision: port.revision + 1, ..port });
        self.push(false, self.server.port(&id));
        Some(())
    }

    fn make_rule(&mut self, group: u8, number: u8, remote: u8, of_addresses: bool) -> Option<()> {
        let group = self.id("g", group);
        let id = self.id(&format!("{group}/r"), number);
        let (addresses, members) = (self.id("a", remote), self.id("g", remote));
        let rule = Rule {
            remote_group: (!of_addresses && self.server.groups.contains_key(&members)).then_some(members),
            remote_address_group: (of_addresses && self.server.address_groups.contains_key(&addresses))
                .then_some(addresses),
        };
        let held = self.server.groups.get_mut(&group)?;
        if held.rules.contains_key(&id) {
            return None;
        }
        held.rules.insert(id.clone(), rule);
        held.revision += 1;
        self.push(false, self.server.rule(&group, &id));
        Some(())
    }

    fn deliver(&mut self) {
        let Some(push) = self.pushes.pop_front() else { return };
        self.bring(&push);
        self.delivered.push(push);
    }

    fn bring(&mut self, push: &Value) {
        let is_deleted = push["deleted"] == true;
        if is_deleted {
            let id = &push["object"]["versioned_object.data"]["id"];
            self.deleted.insert(id.as_str().unwrap().to_owned());
        }
        let body = push_body(is_deleted, &push["object"]);
        self.event(Event::Message(&body));
    }

    fn answer(&mut self, state: &Server) {
        let Some(call) = self.calls.pop_front() else { return };
        let result = match call["method"].as_str().unwrap() {
            "report_state" => "alive".into(),
            _ => state.answer(&call["args"]),
        };
        let body = reply_body(&call, &result);
        self.event(Event::Message(&body));
    }

    fn connect(&mut self) {
        if !std::mem::replace(&mut self.is_connected, true) {
            self.event(Event::Connected { reply_queue: "q".into() });
        }
    }

    fn disconnect(&mut self) {
        self.is_connected = false;
        self.pushes.clear();
        self.calls.clear();
        self.event(Event::Lost("gone".into()));
    }

    fn step(&mut self, op: &Op) {
        self.past.push_back((self.now, self.server.clone()));
        while self.past.len() > 12 {
            self.past.pop_front();
        }
        match op {
            Op::Deliver(count) => (0..*count).for_each(|_| self.deliver()),
            Op::Repeat(index) if self.is_connected && !self.delivered.is_empty() => {
                let push = self.delivered[usize::from(*index) % self.delivered.len()].clone();
                self.bring(&push);
            }
            Op::Swap => {
                // One server tells of one object in order.
                let id = |push: &Value| push["object"]["versioned_object.data"]["id"].clone();
                if self.pushes.len() > 1 && id(&self.pushes[0]) != id(&self.pushes[1]) {
                    self.pushes.swap(0, 1);
                }
            }
            Op::LosePush => _ = self.pushes.pop_front(),
            Op::Answer => self.answer(&self.server.clone()),
            Op::AnswerLate(back) => {
                // No further behind than a database may be.
                let behind = |(at, _): &&(Duration, Server)| *at + Duration::from_secs(20) >= self.now;
                let late: Vec<Server> =
                    self.past.iter().filter(behind).map(|(_, server)| server.clone()).collect();
                let state = late.iter().rev().nth(usize::from(*back)).unwrap_or(&self.server).clone();
                self.answer(&state);
            }
            Op::AnswerEmpty => self.answer(&Server::default()),
            Op::Fail => {
                if let Some(call) = self.calls.pop_front() {
                    let id = call["_msg_id"].as_str().unwrap().to_owned();
                    self.event(Event::Unsent { id, reason: "no server".into() });
                }
            }
            Op::Wait(seconds) => self.wait(Duration::from_secs((*seconds).into())),
            Op::Audit => {
                self.mirror.resync_at = Some(self.now);
                self.event(Event::Time);
            }
            Op::Disconnect => self.disconnect(),
            Op::Connect => self.connect(),
            Op::Restart => {
                self.disconnect();
                self.runs += 1;
                self.mirror =
                    Mirror::new(super::super::Options { seed: self.runs.to_string(), ..options(false) });
                self.told = Policy::default();
                self.deleted.clear();
                self.newest.clear();
                // What was pushed before is not pushed again to a queue that is new.
                self.delivered.clear();
            }
            change => _ = self.change(change),
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.mirror.wakeup().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            // The calls that it gives up are not answered any more, or are answered late, which is the same.
            self.event(Event::Time);
        }
        self.now = until;
    }

    /// All that was said comes in, and all that was asked is answered.
    fn catch_up(&mut self) {
        while !(self.pushes.is_empty() && self.calls.is_empty()) {
            self.deliver();
            self.answer(&self.server.clone());
        }
    }

    /// A cloud with something in it, all of which is known.
    fn settled() -> Self {
        let mut play = Play::new();
        for number in 0..3 {
            play.change(&Op::MakeGroup(number));
            play.change(&Op::MakeAddressGroup(number));
            play.change(&Op::MakePort { port: number, group: number, host: number });
        }
        play.connect();
        play.catch_up();
        play.now += Duration::from_secs(40);
        play
    }

    fn quiet(&mut self) {
        self.connect();
        let end = self.now + Duration::from_secs(2 * 3600 + 600);
        while self.now < end {
            self.catch_up();
            self.wait(Duration::from_secs(10));
        }
        self.catch_up();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn once_it_is_quiet_the_mirror_has_what_the_server_has(ops in proptest::collection::vec(op(), 0..120)) {
        let mut play = Play::settled();
        for op in &ops {
            play.step(op);
        }
        prop_assert!(play.calls.len() < 10, "calls are bounded: {}", play.calls.len());
        play.quiet();
        prop_assert_eq!(play.mirror.state(), State::Following);
        prop_assert_eq!(play.mirror.policy(), &play.server.policy());
        for (id, port) in &play.server.ports {
            let mut hosts: Vec<&str> = port.hosts.iter().map(String::as_str).collect();
            hosts.dedup();
            prop_assert_eq!(play.mirror.hosts(&id.as_str().into()), hosts);
        }
    }

    /// While nothing is lost, and whatever order things come in, the mirror has it all without asking again.
    #[test]
    fn what_was_said_is_enough(ops in proptest::collection::vec(smooth(), 0..120)) {
        let mut play = Play::settled();
        prop_assert_eq!(play.mirror.policy(), &play.server.policy());
        for op in &ops {
            play.step(op);
        }
        play.catch_up();
        // What was given up for a while is asked again.
        play.wait(Duration::from_secs(2));
        play.catch_up();
        prop_assert_eq!(play.mirror.policy(), &play.server.policy());
    }
}
