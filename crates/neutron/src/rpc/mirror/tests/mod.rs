use std::time::Duration;

use serde_json::{Value, json};

use super::{Effect, Event, Mirror, Now, Options, State, Update};

mod history;
mod server;

use server::{Group, Port, Server, primitive};

fn options(expected_nonempty: bool) -> Options {
    let text = str::to_owned;
    Options { agent_type: text("t"), binary: text("b"), host: text("h"), seed: text("s"), expected_nonempty }
}

fn body(message: &Value) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string().into_bytes()
}

fn push_body(is_deleted: bool, object: &Value) -> Vec<u8> {
    let event = if is_deleted { "deleted" } else { "updated" };
    body(
        &json!({"method": "push", "args": {"resource_list": [object], "event_type": event}, "version": "1.1"}),
    )
}

fn reply_body(call: &Value, result: &Value) -> Vec<u8> {
    body(&json!({"result": result, "failure": null, "ending": true, "_msg_id": call["_msg_id"]}))
}

/// The message of a call.
fn call_of(body: &str) -> Value {
    let envelope: Value = serde_json::from_str(body).unwrap();
    serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap()
}

/// A mirror, and a server that answers at once.
struct Pair {
    mirror: Mirror,
    server: Server,
    now: Duration,
    updates: Vec<Update>,
    asked: Vec<String>,
    /// Whether pulls are answered with nothing.
    is_deaf: bool,
}

impl Pair {
    fn new(expected_nonempty: bool) -> Self {
        let mut server = Server::default();
        server.groups.insert("g".into(), Group::default());
        server
            .ports
            .insert("p".into(), Port { revision: 1, groups: ["g".into()].into(), hosts: vec!["h".into()] });
        Pair {
            mirror: Mirror::new(options(expected_nonempty)),
            server,
            now: Duration::ZERO,
            updates: Vec::new(),
            asked: Vec::new(),
            is_deaf: false,
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let now = Now { monotonic: self.now, utc: self.now };
        let mut effects = self.mirror.handle(event, now);
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Update(update) => self.updates.push(update),
                    Effect::Call { body, .. } => {
                        let call = call_of(&body);
                        let result = match call["method"].as_str().unwrap() {
                            "report_state" => json!("alive"),
                            _ if self.is_deaf => json!([]),
                            _ => self.server.answer(&call["args"]),
                        };
                        self.asked
                            .push(call["args"]["resource_type"].as_str().unwrap_or("report").to_owned());
                        let body = reply_body(&call, &result);
                        effects.extend(self.mirror.handle(Event::Message(&body), now));
                    }
                }
            }
        }
    }

    fn connect(&mut self) {
        self.event(Event::Connected { reply_queue: "q".into() });
    }

    fn push(&mut self, is_deleted: bool, object: &Value) {
        self.event(Event::Message(&push_body(is_deleted, object)));
    }

    fn wait(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(next) = self.mirror.wakeup().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.event(Event::Time);
        }
        self.now = until;
    }

    /// Object and reason of the newest faults.
    fn faults(&self) -> Vec<String> {
        let last = self.updates.last().expect("something was told");
        last.faults.iter().map(|fault| format!("{}: {}", fault.object, fault.reason)).collect()
    }

    fn ports(&self) -> usize {
        self.mirror.policy().ports.len()
    }
}

#[test]
fn nothing_is_told_before_all_was_pulled_and_then_all_at_once() {
    let mut pair = Pair::new(true);
    pair.connect();
    assert_eq!(pair.asked, ["report", "SecurityGroup", "AddressGroup", "Port", "Port"]);
    let deltas: Vec<_> = pair.updates.iter().filter_map(|update| update.delta.as_ref()).collect();
    assert_eq!(deltas.len(), 1);
    assert_eq!((deltas[0].groups.len(), deltas[0].ports.len()), (1, 1));
    let last = pair.updates.last().unwrap();
    assert_eq!(
        (last.state, last.hosts.as_slice()),
        (State::Following, [("p".into(), vec!["h".into()])].as_slice())
    );
    let told = pair.updates.len();
    pair.wait(200);
    assert_eq!(
        pair.updates[told..].iter().filter(|update| update.delta.is_some()).count(),
        0,
        "nothing changed"
    );
}

#[test]
fn the_server_is_reported_to_every_thirty_seconds() {
    let mut pair = Pair::new(true);
    pair.connect();
    pair.wait(300);
    assert_eq!(pair.asked.iter().filter(|what| *what == "report").count(), 11);
}

#[test]
fn an_empty_answer_is_not_believed_for_two_minutes() {
    let mut pair = Pair::new(false);
    pair.connect();
    pair.is_deaf = true;
    pair.event(Event::Lost("the broker went".into()));
    assert_eq!(pair.faults(), ["RabbitMQ: the broker went"]);
    pair.connect();
    pair.wait(110);
    assert_eq!(pair.ports(), 1, "the policy stays");
    assert_eq!(
        pair.faults(),
        ["security groups: Neutron names none, which is not believed yet (4 times in a row)"]
    );
    pair.is_deaf = false;
    pair.wait(30);
    assert_eq!((pair.ports(), pair.faults().len()), (1, 0));
    // But if it says so for long enough, it is so.
    pair.is_deaf = true;
    pair.event(Event::Lost("the broker went".into()));
    pair.connect();
    pair.wait(300);
    assert_eq!(pair.ports(), 0);
}

#[test]
fn an_empty_cloud_is_doubted_at_the_start_where_a_policy_is_in_force() {
    for (expected_nonempty, believed_after_s) in [(false, 0), (true, 120)] {
        let mut pair = Pair::new(expected_nonempty);
        pair.is_deaf = true;
        pair.connect();
        if believed_after_s > 0 {
            pair.wait(believed_after_s - 1);
            assert!(pair.updates.iter().all(|update| update.delta.is_none()));
        }
        pair.wait(1);
        assert!(pair.updates.iter().any(|update| update.delta.is_some()), "{expected_nonempty}");
    }
}

#[test]
fn ports_without_any_group_are_doubted() {
    let mut pair = Pair::new(false);
    let groups = std::mem::take(&mut pair.server.groups);
    pair.connect();
    assert!(pair.updates.iter().all(|update| update.delta.is_none()));
    pair.server.groups = groups;
    pair.wait(31);
    assert_eq!(pair.mirror.policy().groups.len(), 1);
}

#[test]
fn a_chunk_without_any_port_is_asked_for_again() {
    let mut pair = Pair::new(false);
    pair.connect();
    let now = Now { monotonic: pair.now, utc: pair.now };
    pair.mirror.begin_resync(pair.now);
    let sent = super::Sent { ask: super::Ask::Ports(vec!["p".into()]), failures: 0, at: pair.now };
    pair.mirror.pulled(&sent, &[], pair.now);
    _ = pair.mirror.handle(Event::Time, now);
    assert_eq!(pair.ports(), 1);
    let sent = super::Sent { failures: super::EMPTY_CHUNKS, ..sent };
    pair.mirror.pulled(&sent, &[], pair.now);
    _ = pair.mirror.handle(Event::Time, now);
    assert_eq!(pair.ports(), 0);
}

#[test]
fn what_a_port_names_is_waited_for_then_refused() {
    let mut pair = Pair::new(false);
    pair.connect();
    let port = |group: &str| {
        primitive(
            "Port",
            json!({"id": "q", "network_id": "n", "mac_address": "fa:16:3e:00:00:02",
                                 "security_group_ids": [group], "revision_number": 1}),
        )
    };
    pair.push(false, &port("missing"));
    let last = pair.updates.last().unwrap();
    assert_eq!(
        last.refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["port q: security_groups: security group missing is not defined"]
    );
    assert_eq!(pair.ports(), 1);
    pair.server.groups.insert("missing".into(), Group::default());
    pair.push(false, &pair.server.group("missing"));
    assert_eq!((pair.ports(), pair.updates.last().unwrap().refused.len()), (2, 0));
    // Known to the server, and not pushed yet: asked for.
    pair.server.groups.insert("new".into(), Group::default());
    let again = primitive(
        "Port",
        json!({"id": "r", "network_id": "n", "mac_address": "fa:16:3e:00:00:03",
                                         "security_group_ids": ["new"], "revision_number": 1}),
    );
    pair.push(false, &again);
    assert_eq!((pair.ports(), pair.mirror.policy().groups.len()), (3, 3));
}

#[test]
fn what_is_malformed_stays_as_it_was_and_the_rest_goes_on() {
    let mut pair = Pair::new(false);
    pair.connect();
    let port = |id: &str, mac: &str| {
        primitive(
            "Port",
            json!({"id": id, "network_id": "n", "mac_address": mac, "security_group_ids": ["g"], "revision_number": 5}),
        )
    };
    pair.push(false, &port("p", "nonsense"));
    pair.push(false, &port("q", "fa:16:3e:00:00:02"));
    let refused = &pair.updates.last().unwrap().refused;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].to_string().starts_with("port p: mac_address: \"nonsense\""), "{}", refused[0]);
    assert_eq!(pair.mirror.policy().ports[&"p".into()].mac.to_string(), "fa:16:3e:00:00:01");
    assert_eq!(pair.ports(), 2);
    // What cannot even be put into words.
    let odd = |pairs: Value| {
        primitive(
            "Port",
            json!({"id": "q", "network_id": "n", "mac_address": "fa:16:3e:00:00:02", "security_group_ids": ["g"],
                                 "allowed_address_pairs": pairs, "revision_number": 6}),
        )
    };
    pair.push(false, &odd(json!(7)));
    let refused = &pair.updates.last().unwrap().refused;
    assert!(
        refused
            .iter()
            .any(|refused| refused.to_string() == "port q: allowed_address_pairs: is a number, not a list")
    );
    pair.push(false, &odd(json!([])));
    assert_eq!(pair.updates.last().unwrap().refused.len(), 1);
    pair.event(Event::Message(b"nonsense"));
    assert_eq!(pair.faults(), ["a message: the envelope cannot be read: expected ident at line 1 column 2"]);
}

#[test]
fn a_failure_is_told_with_its_words_and_tried_again() {
    let mut mirror = Mirror::new(options(false));
    let now = |seconds| Now { monotonic: Duration::from_secs(seconds), utc: Duration::ZERO };
    let effects = mirror.handle(Event::Connected { reply_queue: "q".into() }, now(0));
    let [Effect::Update(update), Effect::Call { body: report, topic, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!((update.state, *topic), (State::Pulling, "q-reports-plugin"));
    let effects = mirror.handle(Event::Message(&reply_body(&call_of(report), &json!("new"))), now(0));
    let calls: Vec<Value> = effects
        .iter()
        .filter_map(|effect| if let Effect::Call { body, .. } = effect { Some(call_of(body)) } else { None })
        .collect();
    assert_eq!(calls.len(), 2);
    let failure = json!({"class": "DBError", "module": "m", "message": "gone away"}).to_string();
    let failed = body(&json!({"failure": failure, "_msg_id": calls[0]["_msg_id"]}));
    let effects = mirror.handle(Event::Message(&failed), now(0));
    let [Effect::Update(update)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(update.faults[0].reason, "DBError: gone away");
    assert_eq!(mirror.wakeup(), Some(Duration::from_secs(1)));
    assert_eq!(mirror.handle(Event::Time, now(1)).len(), 1, "asked again");
    // Nobody answers any of it.
    let effects = mirror.handle(Event::Time, now(61));
    let Some(Effect::Update(update)) = effects.first() else { panic!("{effects:?}") };
    assert!(update.faults.iter().any(|fault| fault.reason == "no answer within 60 s"), "{:?}", update.faults);
}

/// The captured answers and pushes, in the order in which they came.
#[test]
fn captured_messages_make_a_policy() {
    let mut pair = Pair::new(false);
    pair.server = Server::default();
    pair.connect();
    let sample = |text: &str| serde_json::from_str::<Value>(text).unwrap()["body"].to_string().into_bytes();
    let objects = |text: &str| {
        serde_json::from_str::<Value>(text).unwrap()["decoded_oslo.message"]["result"]
            .as_array()
            .unwrap()
            .clone()
    };
    for object in [
        objects(include_str!("../../../../tests/data/rpc/reply_to_call_bulk_pull_AddressGroup.json")),
        objects(include_str!("../../../../tests/data/rpc/reply_to_call_bulk_pull_SecurityGroup.json")),
        objects(include_str!("../../../../tests/data/rpc/reply_to_call_bulk_pull_Port.json")),
    ]
    .concat()
    {
        pair.push(false, &object);
    }
    let told = |pair: &Pair| {
        let policy = pair.mirror.policy();
        let rules: usize = policy.groups.values().map(|group| group.rules.len()).sum();
        (policy.groups.len(), rules, policy.address_groups.len(), policy.ports.len())
    };
    assert_eq!(pair.updates.last().unwrap().refused, []);
    assert_eq!(told(&pair), (2, 12, 1, 4));
    // An address group comes without addresses first.
    let created = sample(include_str!("../../../../tests/data/rpc/push_AddressGroup_updated_ag2_1474.json"));
    let filled = sample(include_str!("../../../../tests/data/rpc/push_AddressGroup_updated_ag2_1744.json"));
    let addresses = |pair: &Pair| {
        pair.mirror.policy().address_groups.values().map(|group| group.addresses.len()).sum::<usize>()
    };
    let before = addresses(&pair);
    pair.event(Event::Message(&created));
    assert_eq!((told(&pair).2, addresses(&pair)), (2, before));
    pair.event(Event::Message(&filled));
    assert_eq!(addresses(&pair), before + 1);
    pair.event(Event::Message(&created));
    assert_eq!(addresses(&pair), before + 1, "said late");
    pair.event(Event::Message(&sample(include_str!(
        "../../../../tests/data/rpc/push_AddressGroup_deleted.json"
    ))));
    pair.event(Event::Message(&filled));
    assert_eq!(told(&pair).2, 1, "gone for good");
    // A rule that is pushed again changes nothing; the port that goes was never known.
    let told_before = pair.updates.iter().filter(|update| update.delta.is_some()).count();
    pair.event(Event::Message(&sample(include_str!(
        "../../../../tests/data/rpc/push_SecurityGroupRule_updated.json"
    ))));
    pair.event(Event::Message(&sample(include_str!("../../../../tests/data/rpc/push_Port_deleted.json"))));
    assert_eq!(pair.updates.iter().filter(|update| update.delta.is_some()).count(), told_before);
}

#[test]
fn a_pushed_group_takes_no_rule_away_and_a_pulled_one_does() {
    let mut pair = Pair::new(false);
    pair.connect();
    pair.wait(100);
    let without = pair.server.group("g");
    let rule = server::Rule { remote_group: None, remote_address_group: None };
    pair.server.groups.get_mut("g").unwrap().rules.insert("r".into(), rule);
    pair.push(false, &pair.server.rule("g", "r"));
    let rules = |pair: &Pair| pair.mirror.policy().groups[&"g".into()].rules.len();
    assert_eq!(rules(&pair), 1);
    pair.wait(100);
    pair.push(false, &without);
    assert_eq!(rules(&pair), 1, "of before the rule, said late");
    pair.server.groups.get_mut("g").unwrap().rules.clear();
    pair.wait(3600);
    assert_eq!(rules(&pair), 0, "its end was missed");
}
