//! Rows of the policy store that somebody has written by hand: a line of the input is a text of one of the columns, by its first letter.

use std::collections::{BTreeMap, BTreeSet};

use bolero::check;
use fuzz::{CASES, Damage, bounded, corpus, references_lead_somewhere};
use policy::Policy;
use policy::document::{parse, write};
use store::{GroupHead, Memory, Now, PortRow, Seen, SetChange, View};

fn judge(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let seen = rows(&text);
    let mut view = View::new("h");
    let mut policy = Policy::default();
    let delta = bounded(text.len(), || {
        seen.iter().cloned().for_each(|seen| view.see(seen));
        view.commit()
    });
    policy.apply(delta);
    policy.apply(view.commit());
    assert!(view.commit().is_empty(), "nothing is told twice");
    references_lead_somewhere(&policy);
    // What is told of a port is what a document would say.
    let own = view.policy();
    let again = parse(&[("p", &write(own).to_string())], None);
    assert_eq!((&again.policy, again.diagnostics.as_slice()), (own, [].as_slice()));
    // What goes leaves nothing.
    let mut memory = Memory::default();
    seen.iter().for_each(|seen| memory.see(seen));
    for seen in memory.until(&Memory::default()) {
        view.see(seen);
    }
    for _ in 0..2 {
        policy.apply(view.commit());
    }
    assert_eq!(policy, Policy::default());
    assert_eq!(view.faults().count(), 0);
}

/// A group `g` that port `p` carries, a group `h`, an address group `a`.
fn rows(text: &str) -> Vec<Seen> {
    let of = |kind: char| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect()
    };
    let one = |kind: char| of(kind).pop_last().unwrap_or_default();
    let added =
        |texts: BTreeSet<String>| SetChange { added: texts.into_iter().collect(), removed: Vec::new() };
    let rules: BTreeMap<String, String> =
        of('r').into_iter().enumerate().map(|(number, text)| (format!("r{number}"), text)).collect();
    let head = |rules| Some(Now::Is(GroupHead { name: one('n'), stateful: true, rules }));
    let port = PortRow {
        network_id: "n".into(),
        mac_address: one('c'),
        fixed_ips: of('i'),
        allowed_address_pairs: of('p'),
        security_groups: of('g'),
        port_security_enabled: true,
        device_owner: one('o'),
        ..PortRow::default()
    };
    vec![
        Seen::Group { id: "g".into(), head: head(rules), members: added(of('m')) },
        Seen::Group { id: "h".into(), head: head(BTreeMap::new()), members: added(of('m')) },
        Seen::AddressGroup { id: "a".into(), name: Some(Now::Is(one('n'))), addresses: added(of('a')) },
        Seen::Port("p".into(), Some(port)),
    ]
}

#[test]
fn store_rows() {
    check!(name = "store_rows").with_iterations(CASES).for_each(judge);
}

#[test]
fn store_rows_damaged() {
    let seeds = corpus("store_rows");
    check!(name = "store_rows_damaged")
        .with_iterations(CASES)
        .with_type::<Damage>()
        .for_each(|damage| judge(&damage.apply(&seeds)));
}
