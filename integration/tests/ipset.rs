//! The kernel's sets against ipset(8): what one of the two makes, the other reads.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use ipset::{Family, Ipset, Net, SetName, Spec};
use lab::NetNs;

/// Runs in a network namespace that nobody else uses.
fn alone(test: impl FnOnce() + Send) {
    NetNs::new().expect("a namespace").enter(test).expect("it can be entered");
}

fn name(text: &str) -> SetName {
    text.parse().unwrap()
}

fn spec(text: &str, family: Family) -> Spec {
    Spec { name: name(text), family, max_elements: 65_536, hash_size: 1024 }
}

fn net(text: &str) -> Net {
    let (address, prefix) =
        text.split_once('/').unwrap_or((text, if text.contains(':') { "128" } else { "32" }));
    Net::new(address.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

/// What ipset(8) says.
fn tool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("ipset");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ipset(8)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The elements that ipset(8) finds in a set.
fn members(set: &str) -> BTreeSet<String> {
    let text = tool(&["save", set], "");
    text.lines().filter_map(|line| line.strip_prefix(&format!("add {set} "))).map(str::to_owned).collect()
}

#[test]
fn what_is_added_and_taken_out_is_what_the_program_sees() {
    alone(|| {
        let mut sets = Ipset::open().unwrap();
        for (set, family, texts) in [
            ("four", Family::Ipv4, ["10.0.0.1", "10.0.0.0/8", "192.0.2.128/25", "0.0.0.0/1"]),
            ("six", Family::Ipv6, ["2001:db8::1", "2001:db8::/32", "fe80::/10", "8000::/1"]),
        ] {
            sets.create(&spec(set, family)).unwrap();
            sets.add(&name(set), &texts.map(net)).unwrap();
            assert_eq!(members(set), texts.map(str::to_owned).into());
            // What is there, or is not, is as good as done.
            sets.add(&name(set), [&net(texts[0])]).unwrap();
            sets.delete(&name(set), [&net(texts[1]), &net(texts[1])]).unwrap();
            assert_eq!(members(set).len(), 3);
            let listed = sets.list(&name(set)).unwrap();
            let nets: BTreeSet<String> = listed.entries.iter().map(|entry| entry.net.to_string()).collect();
            assert_eq!(nets, members(set));
            assert_eq!((listed.header.elements, listed.header.family), (3, Some(family)));
            assert_eq!((listed.header.max_elements, listed.header.hash_size), (Some(65_536), Some(1024)));
            sets.flush(&name(set)).unwrap();
            assert_eq!(members(set), BTreeSet::new());
            sets.destroy(&name(set)).unwrap();
        }
        assert_eq!(sets.headers().unwrap(), []);
    });
}

#[test]
fn a_hundred_thousand_elements_come_and_go_and_are_listed_whole() {
    alone(|| {
        let mut sets = Ipset::open().unwrap();
        for (set, family) in [("four", Family::Ipv4), ("six", Family::Ipv6)] {
            let nets: BTreeSet<Net> = (0..100_000u32)
                .map(|number| match family {
                    Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)),
                    Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number))),
                })
                .map(|address| Net::new(address, if address.is_ipv4() { 32 } else { 128 }).unwrap())
                .collect();
            sets.create(&Spec { max_elements: 131_072, hash_size: 65_536, ..spec(set, family) }).unwrap();
            sets.add(&name(set), &nets).unwrap();
            let listed = sets.list(&name(set)).unwrap();
            assert_eq!(listed.header.elements, 100_000);
            assert_eq!(listed.entries.len(), 100_000);
            assert!(listed.entries.into_iter().map(|entry| entry.net).collect::<BTreeSet<_>>() == nets);
            let odd: Vec<&Net> = nets.iter().skip(1).step_by(2).collect();
            sets.delete(&name(set), odd.iter().copied()).unwrap();
            let left: BTreeSet<Net> =
                sets.list(&name(set)).unwrap().entries.into_iter().map(|entry| entry.net).collect();
            assert!(left == nets.iter().step_by(2).copied().collect());
        }
    });
}

#[test]
fn a_list_loses_nothing_of_what_others_keep_in_a_set() {
    alone(|| {
        tool(
            &["restore"],
            "create t hash:net timeout 600 counters comment skbinfo\n\
             add t 10.0.0.0/8 timeout 300 packets 7 bytes 900 comment \"a note\"\n\
             add t 10.1.0.0/16 nomatch\n\
             create other hash:ip,port\nadd other 10.0.0.1,tcp:80\n\
             create of list:set\nadd of t\n",
        );
        let mut sets = Ipset::open().unwrap();
        let listed = sets.list(&name("t")).unwrap();
        assert_eq!((listed.header.timeout, listed.header.references), (Some(600), 1));
        let entry = |text: &str| listed.entries.iter().find(|entry| entry.net == net(text)).unwrap();
        // IPSET_ATTR_TIMEOUT, IPSET_ATTR_BYTES, IPSET_ATTR_PACKETS, IPSET_ATTR_COMMENT.
        let said =
            |kind: u16| entry("10.0.0.0/8").others.iter().find(|(of, _)| *of == kind).unwrap().1.clone();
        assert!(u32::from_be_bytes(said(6).as_ref().try_into().unwrap()) <= 300);
        assert_eq!(said(24).as_ref(), 900u64.to_be_bytes());
        assert_eq!(said(25).as_ref(), 7u64.to_be_bytes());
        assert_eq!(said(26).as_ref(), b"a note\0");
        assert!(entry("10.1.0.0/16").no_match && !entry("10.0.0.0/8").no_match);
        // Sets of other types are seen, and not taken for ours.
        let types: BTreeSet<String> =
            sets.headers().unwrap().into_iter().map(|header| header.type_name).collect();
        assert_eq!(types, ["hash:net", "hash:ip,port", "list:set"].map(str::to_owned).into());
        for other in ["other", "of"] {
            let error = sets.list(&name(other)).unwrap_err();
            assert!(matches!(error, ipset::Error::OtherType { .. }), "{error}");
        }
    });
}

#[test]
fn sets_change_places_and_a_set_in_use_stays() {
    alone(|| {
        let mut sets = Ipset::open().unwrap();
        for (set, member) in [("one", "10.0.0.1"), ("two", "10.0.0.2")] {
            sets.create(&spec(set, Family::Ipv4)).unwrap();
            sets.add(&name(set), [&net(member)]).unwrap();
        }
        sets.swap(&name("one"), &name("two")).unwrap();
        assert_eq!(
            (members("one"), members("two")),
            (["10.0.0.2".into()].into(), ["10.0.0.1".into()].into())
        );
        let rule = ["-A", "INPUT", "-m", "set", "--match-set", "one", "src", "-j", "DROP"];
        assert!(Command::new("iptables").args(rule).status().unwrap().success());
        assert!(sets.destroy(&name("one")).unwrap_err().is_in_use());
        sets.swap(&name("two"), &name("one")).unwrap();
        sets.destroy(&name("two")).unwrap();
        sets.rename(&name("two"), &name("three")).unwrap_err();
    });
}

#[test]
fn refusals_say_what_and_why() {
    alone(|| {
        let mut sets = Ipset::open().unwrap();
        let small = Spec { max_elements: 2, ..spec("small", Family::Ipv4) };
        sets.create(&small).unwrap();
        assert!(sets.create(&small).unwrap_err().is_exists());
        let more = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(net);
        let full = sets.add(&small.name, &more).unwrap_err();
        assert!(full.is_full());
        assert_eq!(full.to_string(), "ipset: cannot add to small: it is full");
        let missing = sets.list(&name("nobody")).unwrap_err();
        assert!(missing.is_not_found());
        assert_eq!(missing.to_string(), "ipset: cannot list nobody: there is no such set");
        assert!(sets.add(&name("nobody"), &more).unwrap_err().is_not_found());
        let other = sets.add(&small.name, [&net("2001:db8::1")]).unwrap_err();
        assert_eq!(
            other.to_string(),
            "ipset: cannot add to small: the kernel does not understand the message"
        );
        sets.create(&spec("six", Family::Ipv6)).unwrap();
        assert!(sets.swap(&small.name, &name("six")).is_err(), "of different families");
        // The connection is as good as before.
        sets.add(&small.name, &[]).unwrap();
        assert_eq!(members("small").len(), 2);
    });
}
