use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use policy::evaluator::{Evaluator, Fragment, Frame, IpPacket, Payload, Settings, Tracking, Transport};
use policy::{Direction, MacAddr, Policy, document};

use super::book::{Book, Counts, Fate, SAMPLES, Sighting};
use super::judge::Judge;
use super::log::{Line, Log};
use super::{Events, LogChoice, LogTarget};
use crate::api::DropsQuery;

const DOCUMENT: &str = r#"
security_groups:
- {id: out, security_group_rules: [
    {id: e4, direction: egress, ethertype: IPv4, remote_group_id: in},
    {id: e6, direction: egress, ethertype: IPv6}]}
- {id: in, name: servers, security_group_rules: [
    {id: all, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53},
    {id: own, direction: ingress, ethertype: IPv4, remote_group_id: in},
    {id: peers, direction: ingress, ethertype: IPv4, remote_group_id: out},
    {id: named, direction: ingress, ethertype: IPv4, remote_address_group_id: a},
    {id: six, direction: ingress, ethertype: IPv6, remote_group_id: out}]}
address_groups: [{id: a, addresses: [10.0.0.8/29, 192.0.2.0/24]}]
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}, {ip_address: "fd00::1"}],
   allowed_address_pairs: [{ip_address: 10.0.0.64/28}], security_groups: [out]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [in]}
- {id: p-3, network_id: n, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.65}],
   allowed_address_pairs: [{ip_address: 0.0.0.0/0}], security_groups: [in]}
- {id: p-4, network_id: n, mac_address: "fa:16:3e:00:00:04", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [out, in]}
"#;

fn policy() -> Policy {
    let parsed = document::parse(&[("policy.yaml", DOCUMENT)], None);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    parsed.policy
}

fn frame(src: &str, dst: &str, ports: (u16, u16)) -> Frame {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let transport = Transport::Ports { src: ports.0, dst: ports.1, tcp_flags: 0 };
    let packet = IpPacket { src: ip(src), dst: ip(dst), protocol: 17, fragment: Fragment::No, transport };
    Frame {
        eth_src: MacAddr([0xfa, 0x16, 0x3e, 0, 0, 3]),
        eth_dst: MacAddr([0xfa, 0x16, 0x3e, 0, 0, 2]),
        vlan: None,
        payload: Payload::Ip(packet),
    }
}

/// Of every port, and from and to every kind of address.
fn is_judged_alike(judge: &Judge, policy: &Policy) -> usize {
    let evaluator = Evaluator::new(policy, Settings::default());
    let addresses =
        ["10.0.0.1", "10.0.0.2", "10.0.0.9", "10.0.0.65", "10.0.0.79", "10.0.0.80", "192.0.2.7", "8.8.8.8"];
    let mut admitted = 0;
    for port in policy.ports.keys() {
        for (src, dst) in
            addresses.iter().flat_map(|src| addresses.map(|dst| (*src, dst))).chain([("fd00::1", "fd00::2")])
        {
            for (direction, to) in
                [Direction::Egress, Direction::Ingress].into_iter().flat_map(|way| [(way, 53), (way, 54)])
            {
                let frame = frame(src, dst, (4000, to));
                let expected = evaluator.judge(port, direction, &frame, &Tracking::first(&frame)).rules;
                assert_eq!(judge.admitting(port, direction, &frame), expected, "{port} {direction} {frame}");
                admitted += usize::from(!expected.is_empty());
            }
        }
    }
    admitted
}

#[test]
fn a_packet_is_judged_as_by_the_whole_policy_also_when_that_has_changed() {
    let whole = policy();
    let mut judge = Judge::new(Settings::default());
    let mut steps = vec![Policy::default(), whole.clone()];
    for gone in ["p-4", "p-3", "p-1"] {
        let mut less = whole.clone();
        less.ports.remove(&gone.into());
        steps.extend([less, whole.clone()]);
    }
    let mut moved = whole.clone();
    let mut port = (*moved.ports[&"p-1".into()]).clone();
    port.fixed_ips = BTreeSet::from(["10.0.0.80".parse().unwrap()]);
    port.allowed_address_pairs.clear();
    moved.ports.insert("p-1".into(), port.into());
    let mut without = whole.clone();
    without.address_groups.clear();
    without.groups.remove(&"out".into());
    steps.extend([moved, without, whole]);
    let mut admitted = BTreeSet::new();
    for pair in steps.windows(2) {
        judge.apply(Policy::diff(&pair[0], &pair[1]));
        admitted.insert(is_judged_alike(&judge, &pair[1]));
    }
    assert!(admitted.len() >= 3, "changes matter: {admitted:?}");
}

fn sighting(fate: Fate, ports: (u16, u16)) -> Sighting {
    Sighting {
        port: Some("p-2".into()),
        interface: Some("tap2".into()),
        direction: Some(Direction::Ingress),
        fate,
        frame: frame("10.0.0.1", "10.0.0.2", ports),
        length: 60,
    }
}

fn log(events: Events) -> Log {
    let mut judge = Judge::new(Settings::default());
    judge.apply(Policy::diff(&Policy::default(), &policy()));
    Log::new(choice(events, true), judge)
}

fn choice(events: Events, is_policy_whole: bool) -> LogChoice {
    LogChoice {
        target: LogTarget::Journal,
        events,
        ports: BTreeSet::new(),
        groups: BTreeSet::new(),
        rules: BTreeSet::new(),
        is_policy_whole,
        rate: 1,
    }
}

/// A host that is told only what concerns it does not know of others' groups.
#[test]
fn a_name_that_nobody_knows_is_a_mistake_where_all_names_are_known() {
    for (is_policy_whole, expected) in [
        (true, &["ports: the policy knows no port p-9", "rules: the policy knows no rule r-9"][..]),
        (false, &[]),
    ] {
        let mut judge = Judge::new(Settings::default());
        let known = policy();
        let group = known.groups.keys().next().expect("a group").clone();
        let named = LogChoice {
            ports: ["p-9".into()].into(),
            groups: [group].into(),
            rules: ["r-9".into()].into(),
            ..choice(Events::All, is_policy_whole)
        };
        assert_eq!(Log::new(named.clone(), Judge::new(Settings::default())).unknown(), [""; 0]);
        judge.apply(Policy::diff(&Policy::default(), &known));
        assert_eq!(Log::new(named, judge).unknown(), expected);
    }
}

#[test]
fn what_comes_again_is_told_when_its_minute_is_over() {
    let mut log = log(Events::All);
    let at = |second: u64| (Duration::from_secs(second), Duration::from_secs(1_000_000 + second));
    let take = |log: &mut Log, seen: &Sighting, second| log.take(seen, at(second).0, at(second).1);
    let dropped = sighting(Fate::Dropped("no-rule"), (4000, 54));
    assert!(matches!(take(&mut log, &dropped, 0), Some(Line::Drop(_))));
    assert_eq!(take(&mut log, &dropped, 1), None);
    assert_eq!(take(&mut log, &dropped, 59), None);
    // Another source port, another fate: other kinds.
    assert!(take(&mut log, &sighting(Fate::Dropped("no-rule"), (4001, 54)), 2).is_some());
    assert!(take(&mut log, &sighting(Fate::Dropped("ct-invalid"), (4000, 54)), 2).is_some());
    assert!(take(&mut log, &sighting(Fate::Admitted, (4000, 54)), 2).is_some());
    assert_eq!(log.tick(at(59).0, at(59).1), []);
    let [Line::Drop(again)] = &log.tick(at(60).0, at(60).1)[..] else { panic!("one line") };
    assert_eq!(
        (again.repeated, again.dst_port, again.time.as_str()),
        (Some(2), Some(54), "1970-01-12T13:47:40.000Z")
    );
    // What came once needs no second line, and is new again.
    assert_eq!(log.tick(at(70).0, at(70).1), []);
    assert!(take(&mut log, &dropped, 71).is_some());
}

#[test]
fn what_is_remembered_is_bounded_and_nothing_is_lost_by_it() {
    let mut log = log(Events::Drop);
    let now = |number: u32| Duration::from_millis(u64::from(number) / 8);
    let (mut lines, mut repeated) = (0, 0);
    for number in 0..40_000 {
        let port = u16::try_from(number).unwrap();
        let seen = sighting(Fate::Dropped("no-rule"), (port, 54));
        for _ in 0..2 {
            lines += u64::from(log.take(&seen, now(number), Duration::ZERO).is_some());
        }
        if number % 1000 == 999 {
            repeated += log.tick(now(number), Duration::ZERO).iter().map(repeats).sum::<u64>();
        }
    }
    assert_eq!(lines, 40_000);
    assert!(repeated >= 40_000 - 16_384, "{repeated}");
    repeated += log.tick(Duration::from_secs(100), Duration::ZERO).iter().map(repeats).sum::<u64>();
    assert_eq!(repeated, 40_000, "each came once more");
}

fn repeats(line: &Line) -> u64 {
    match line {
        Line::Accept(entry) | Line::Drop(entry) => entry.repeated.unwrap_or(0),
        Line::Limited(_) => 0,
    }
}

#[test]
fn rules_of_an_admitted_packet_are_named_with_the_group_at_the_other_end() {
    let mut log = log(Events::Accept);
    assert_eq!(log.take(&sighting(Fate::Dropped("no-rule"), (1, 2)), Duration::ZERO, Duration::ZERO), None);
    let line = log.take(&sighting(Fate::Admitted, (4000, 53)), Duration::ZERO, Duration::ZERO);
    let Some(Line::Accept(entry)) = line else { panic!("{line:?}") };
    let told: Vec<_> = entry
        .rules
        .iter()
        .map(|rule| (rule.rule.as_str(), rule.group_name.as_str(), rule.remote_group.as_deref()))
        .collect();
    // p-1 and p-4 have the address, in groups out and in.
    let expected =
        [("all", "servers", None), ("own", "servers", Some("in")), ("peers", "servers", Some("out"))];
    assert_eq!(told, expected);
}

#[test]
fn the_latest_samples_are_kept_and_numbered() {
    let mut book = Book::default();
    for _ in 0..SAMPLES + 10 {
        book.take(&sighting(Fate::Dropped("no-rule"), (1, 2)), "no-rule", 0);
    }
    let all = book.answer(&DropsQuery::default());
    assert_eq!((all.samples.len(), all.sampled, all.samples[0].number), (SAMPLES, 1010, 11));
    let new = book.answer(&DropsQuery { after: Some(1005), ..DropsQuery::default() });
    assert_eq!(
        new.samples.iter().map(|sample| sample.number).collect::<Vec<_>>(),
        [1006, 1007, 1008, 1009, 1010]
    );
    let of_other = book.answer(&DropsQuery { port: Some("p-1".into()), ..DropsQuery::default() });
    assert_eq!(of_other.samples, []);
    // The switch's count comes later than its samples.
    book.counts = Counts { could_be_sampled: 1000, ..Counts::default() };
    assert_eq!(book.limited(), 0);
    book.counts.could_be_sampled = 5000;
    assert_eq!(book.limited(), 3990);
}
