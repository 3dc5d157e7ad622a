//! What comes over Neutron's message queue: envelopes, and the objects in them, in a mirror that follows.

use std::time::Duration;

use bolero::check;
use fuzz::{CASES, Damage, bounded, corpus, references_lead_somewhere};
use neutron::rpc::envelope::Message;
use neutron::rpc::{Effect, Event, Mirror, Now, Options};
use policy::Policy;

fn judge(bytes: &[u8]) {
    // JSON in JSON: what is quoted twice is read twice.
    let decoded = bounded(bytes.len(), || Message::decode(bytes));
    if let Err(reason) = &decoded {
        assert!(!reason.to_string().is_empty());
    }
    let mut mirror = Mirror::new(Options {
        agent_type: "a".into(),
        binary: "b".into(),
        host: "c".into(),
        seed: "d".into(),
        expected_nonempty: false,
    });
    let mut policy = Policy::default();
    let mut take = |mirror: &mut Mirror, event: Event<'_>, second: u64| {
        let now = Now { monotonic: Duration::from_secs(second), utc: Duration::from_secs(second) };
        for effect in mirror.handle(event, now) {
            if let Effect::Update(update) = effect {
                policy.apply(update.delta.unwrap_or_default());
            }
        }
    };
    take(&mut mirror, Event::Connected { reply_queue: "q".into() }, 1);
    for second in 2..4 {
        take(&mut mirror, Event::Message(bytes), second);
    }
    take(&mut mirror, Event::Lost("gone".into()), 5);
    assert_eq!(&policy, mirror.policy(), "what was told is what is held");
    references_lead_somewhere(&policy);
}

#[test]
fn neutron_message() {
    check!(name = "neutron_message").with_iterations(CASES).for_each(judge);
}

#[test]
fn neutron_message_damaged() {
    let seeds = corpus("neutron_message");
    check!(name = "neutron_message_damaged")
        .with_iterations(CASES / 4)
        .with_type::<Damage>()
        .for_each(|damage| judge(&damage.apply(&seeds)));
}

#[test]
fn every_seed_is_a_message() {
    for seed in corpus("neutron_message") {
        Message::decode(&seed).expect("what a real server has said");
    }
}
