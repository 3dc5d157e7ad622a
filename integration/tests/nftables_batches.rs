//! What the kernel does with batches, large sets and probes, and with frames that a bridge's rules leave untracked.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod nft_tool;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use std::process::Command;

use lab::NetNs;
use nft_tool::{alone, nft, table, try_nft};
use nftables::{
    Base, Batch, Chain, ChainId, ChainKind, Comparison, CtKey, Data, DataType, Element, Error, Expr, Family,
    Field, Hook, Keys, MetaKey, Need, Nftables, Place, Policy, Rule, Selector, Set, Statements, Table,
    TableId, Target, Value, Verdict, ranges,
};

fn named(name: &str) -> nftables::Name {
    name.parse().unwrap()
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IPV4: u16 = 0x0800;

const fn payload(field: Field) -> Selector {
    Selector::Payload(field)
}

/// That it is of an ethertype, as nft(8) finds out in a bridge.
fn of_ethertype(number: u16) -> Statements {
    Statements::new().is(Selector::Meta(MetaKey::PROTOCOL), Value::be16(number))
}

/// A table of the bridge family with an empty chain and a set of IPv4 addresses.
fn small() -> (TableId, ChainId, Set, Batch) {
    let table = table(Family::Bridge, "t");
    let chain = table.chain("c").unwrap();
    let set = Set::new(table.set("s").unwrap(), &[DataType::Ipv4Address], Keys::Single);
    let mut batch = Batch::new();
    batch.add_table(&Table::new(table.clone())).add_chain(&Chain::regular(chain.clone())).add_set(&set);
    (table, chain, set, batch)
}

fn address(number: u32) -> Element {
    Element::key(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

/// The address that is an element's key, as a number.
fn number_of(element: &Element) -> u32 {
    u32::from_be_bytes(element.key.octets().try_into().unwrap())
}

fn dropped(chain: &ChainId, comment: &str) -> Rule {
    Rule::new(chain.clone(), [Expr::verdict(Verdict::Drop)]).with_comment(comment)
}

#[test]
fn a_batch_of_which_one_operation_is_refused_does_nothing_and_names_it() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let (_, chain, set, made) = small();
        let mut batch = made.clone();
        let lookup = Statements::new().is_in(&[payload(Field::IP_SOURCE)], &named("nobody"));
        batch.add_rule(&Rule::new(chain.clone(), of_ethertype(IPV4)), Place::Last);
        batch.add_rule(&Rule::new(chain.clone(), lookup), Place::Last);
        batch.add_elements(&set.id, [address(1)]);
        let Err(Error::Refused(refused)) = kernel.commit(&batch) else { panic!("there is no such set") };
        assert_eq!((refused.operation, refused.part, refused.code), (4, Some(1), 2), "{refused}");
        assert_eq!(refused.action, "add a rule to bridge t c");
        assert_eq!(kernel.tables().unwrap(), []);
        assert_eq!(nft(&["list", "ruleset"], ""), "");

        kernel.commit(&made).unwrap();
        kernel.commit(Batch::new().add_elements(&set.id, (0..9_000).map(address))).unwrap();
        // One that is not there, among elements that fill several messages.
        let mut batch = Batch::new();
        batch.add_rule(&dropped(&chain, ""), Place::Last);
        batch.delete_elements(
            &set.id,
            (0..9_000).map(|number| address(if number == 7_777 { 99_999 } else { number })),
        );
        let Err(Error::Refused(refused)) = kernel.commit(&batch) else { panic!("there is no such element") };
        assert_eq!((refused.operation, refused.part, refused.code), (1, Some(7_777), 2), "{refused}");
        assert_eq!(kernel.elements(&set.id).unwrap().len(), 9_000);
        assert_eq!(kernel.rules(&chain).unwrap(), []);
        // Thousands of refusals, more than there is room for.
        let mut batch = Batch::new();
        (0..20_000).for_each(|handle| _ = batch.delete_rule(&chain, 1_000_000 + handle));
        let Err(Error::Refused(refused)) = kernel.commit(&batch) else { panic!("there is no such rule") };
        assert_eq!((refused.operation, refused.action.as_str()), (0, "delete rule 1000000 of bridge t c"));
        // The connection is as good as before.
        kernel.commit(Batch::new().delete_elements(&set.id, (0..9_000).map(address))).unwrap();
        assert_eq!(kernel.elements(&set.id).unwrap(), []);
    });
}

#[test]
fn refusals_say_what_is_missing_and_what_is_in_the_way() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let (table, chain, set, batch) = small();
        assert!(kernel.commit(Batch::new().delete_table(&table)).unwrap_err().is_not_found());
        assert!(kernel.sets(&table).unwrap_err().is_not_found());
        assert_eq!(
            (kernel.chains(&table).unwrap(), kernel.rules_of_table(&table).unwrap()),
            (vec![], vec![])
        );
        kernel.commit(&batch).unwrap();
        // What is there as it shall be is no error; what is otherwise is.
        kernel.commit(&batch).unwrap();
        let other = Set::new(set.id.clone(), &[DataType::EtherAddress], Keys::Single);
        assert!(kernel.commit(Batch::new().add_set(&other)).unwrap_err().is_exists());
        let lookup = of_ethertype(IPV4).is_in(&[payload(Field::IP_SOURCE)], &set.id.name);
        kernel.commit(Batch::new().add_rule(&Rule::new(chain.clone(), lookup), Place::Last)).unwrap();
        assert!(kernel.commit(Batch::new().delete_set(&set.id)).unwrap_err().is_in_use());
        kernel.commit(Batch::new().flush_chain(&chain).delete_set(&set.id).delete_chain(&chain)).unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), "table bridge t {\n}\n");
        kernel.commit(Batch::new().delete_table(&table).add_table(&Table::new(table.clone()))).unwrap();
        kernel.commit(&Batch::new()).unwrap();
        kernel.commit(Batch::new().delete_table(&table)).unwrap();
        assert_eq!(kernel.tables().unwrap(), []);
    });
}

#[test]
fn a_batch_for_a_generation_that_is_over_does_nothing() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let (table, _, set, batch) = small();
        let before = kernel.generation().unwrap();
        kernel.commit_for(&batch, before).unwrap();
        assert_eq!(kernel.generation().unwrap(), before + 1);
        let add = |number| {
            let mut batch = Batch::new();
            batch.add_elements(&set.id, [address(number)]);
            batch
        };
        let stale = kernel.commit_for(&add(1), before).unwrap_err();
        assert!(stale.is_stale(), "{stale}");
        assert_eq!(kernel.elements(&set.id).unwrap(), []);
        let now = kernel.generation().unwrap();
        nft(&["add", "table", "ip", "another"], "");
        assert!(kernel.commit_for(&add(1), now).unwrap_err().is_stale());
        let now = kernel.generation().unwrap();
        kernel.commit_for(&add(1), now).unwrap();
        assert_eq!(kernel.elements(&set.id).unwrap(), [address(1)]);
        assert_eq!(kernel.tables().unwrap().len(), 2);
        assert_eq!(kernel.tables().unwrap()[0].id, table);
    });
}

#[test]
fn rules_come_where_they_shall_and_are_replaced_and_deleted_by_handle() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let (_, chain, _, mut batch) = small();
        for comment in ["b", "d"] {
            batch.add_rule(&dropped(&chain, comment), Place::Last);
        }
        kernel.commit(&batch).unwrap();
        let comments = |kernel: &mut Nftables| {
            let rules = kernel.rules(&chain).unwrap();
            rules.iter().map(|rule| rule.comment().unwrap().to_owned()).collect::<String>()
        };
        let handles: Vec<u64> = kernel.rules(&chain).unwrap().iter().map(|rule| rule.handle).collect();
        let [b, d] = handles[..] else { panic!("two rules") };
        let mut batch = Batch::new();
        batch
            .add_rule(&dropped(&chain, "a"), Place::First)
            .add_rule(&dropped(&chain, "c"), Place::Behind(b))
            .add_rule(&dropped(&chain, "C"), Place::Before(d))
            .add_rule(&dropped(&chain, "e"), Place::Last);
        kernel.commit(&batch).unwrap();
        assert_eq!(comments(&mut kernel), "abcCde");
        kernel.commit(Batch::new().replace_rule(d, &dropped(&chain, "D")).delete_rule(&chain, b)).unwrap();
        assert_eq!(comments(&mut kernel), "acCDe");
        assert!(
            kernel.commit(Batch::new().replace_rule(b, &dropped(&chain, "x"))).unwrap_err().is_not_found()
        );
        let theirs = nft(&["-a", "list", "chain", "bridge", "t", "c"], "");
        for rule in kernel.rules(&chain).unwrap() {
            let line = format!("drop comment \"{}\" # handle {}", rule.comment().unwrap(), rule.handle);
            assert!(theirs.contains(&line), "{line} in {theirs}");
        }
    });
}

#[test]
fn a_hundred_thousand_elements_are_one_transaction_and_one_more_a_small_one() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let (_, _, set, mut batch) = small();
        let before = kernel.generation().unwrap();
        batch.add_elements(&set.id, (0..100_000).map(address));
        kernel.commit(&batch).unwrap();
        kernel.commit(Batch::new().add_elements(&set.id, [address(100_000)])).unwrap();
        assert_eq!(kernel.generation().unwrap(), before + 2);
        let elements: BTreeSet<Element> = kernel.elements(&set.id).unwrap().into_iter().collect();
        assert!(elements == (0..=100_000).map(address).collect());
        kernel.commit(Batch::new().delete_elements(&set.id, (0..100_000).map(address))).unwrap();
        assert_eq!(kernel.elements(&set.id).unwrap(), [address(100_000)]);
    });
}

#[test]
fn thousands_of_ranges_are_held_by_both_kinds_of_sets() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let (table, _, _, mut batch) = small();
        let key = [DataType::EtherAddress, DataType::Ipv4Address];
        let plain = Set::new(table.set("plain").unwrap(), &key[1..], Keys::Ranges);
        let concatenated = Set::new(table.set("concatenated").unwrap(), &key, Keys::Ranges);
        // Every second /28.
        let nets = || (0..20_000u32).map(|number| 0x0a00_0000 + number * 32);
        let last = |first: u32| Ipv4Addr::from_bits(first + 15);
        batch.add_set(&plain).add_set(&concatenated);
        batch.add_elements(
            &plain.id,
            nets().flat_map(|net| Element::range(Ipv4Addr::from_bits(net), last(net))),
        );
        let pair = |address: Ipv4Addr| Value::concatenated([&MAC.into(), &address.into()]);
        let of_pair = |net: u32| Element::between(pair(Ipv4Addr::from_bits(net)), pair(last(net)));
        batch.add_elements(&concatenated.id, nets().take(2_000).map(of_pair));
        kernel.commit(&batch).unwrap();
        let range = |net: u32| {
            let [first, behind] = [net, net + 16].map(Ipv4Addr::from_bits).map(Value::from);
            (first, Some(behind), None::<Data>)
        };
        assert!(ranges(kernel.elements(&plain.id).unwrap()) == nets().map(range).collect::<Vec<_>>());
        let pairs = |kernel: &mut Nftables| -> BTreeSet<Element> {
            kernel.elements(&concatenated.id).unwrap().into_iter().collect()
        };
        assert!(pairs(&mut kernel) == nets().take(2_000).map(of_pair).collect());
        // One out and another in, at once, which begins where that ended and ends where the next one begins; the set is not read.
        let [gone, come] = [0x0a00_0000, 0x0a00_0010];
        let mut batch = Batch::new();
        let of_net = |net| Element::range(Ipv4Addr::from_bits(net), last(net));
        batch.delete_elements(&plain.id, of_net(gone)).add_elements(&plain.id, of_net(come));
        batch
            .delete_elements(&concatenated.id, [of_pair(gone)])
            .add_elements(&concatenated.id, [of_pair(come)]);
        kernel.commit(&batch).unwrap();
        let left = ranges(kernel.elements(&plain.id).unwrap());
        assert!(left == [come].into_iter().chain(nets().skip(1)).map(range).collect::<Vec<_>>());
        // Ranges that are not apart are refused; the same one again is not.
        let of_part = Element::range(Ipv4Addr::from_bits(come + 8), Ipv4Addr::from_bits(come + 24));
        assert!(kernel.commit(Batch::new().add_elements(&plain.id, of_part)).unwrap_err().is_exists());
        kernel.commit(Batch::new().add_elements(&plain.id, of_net(come))).unwrap();
        let wider = Element::between(pair(Ipv4Addr::from_bits(come)), pair(last(come + 16)));
        assert!(kernel.commit(Batch::new().add_elements(&concatenated.id, [wider])).unwrap_err().is_exists());
        assert!(pairs(&mut kernel) == nets().take(2_000).skip(1).chain([come]).map(of_pair).collect());
    });
}

#[test]
fn what_is_read_while_it_changes_is_whole_as_it_was_at_one_time() {
    alone(|| {
        let (table, _, hashed, mut batch) = small();
        let ranged = Set::new(table.set("ranged").unwrap(), &[DataType::Ipv4Address], Keys::Ranges);
        let range = |number: u32| {
            let [first, last] =
                [number * 4, number * 4 + 1].map(|host| Ipv4Addr::from_bits(0x0a00_0000 + host));
            Element::range(first, last)
        };
        const COUNT: u32 = 4_000;
        batch.add_set(&ranged).add_elements(&ranged.id, (0..COUNT).flat_map(range));
        batch.add_elements(&hashed.id, (0..COUNT).map(address));
        Nftables::open().unwrap().commit(&batch).unwrap();
        std::thread::scope(|scope| {
            // One goes and another comes, so that there are always as many.
            let writer = scope.spawn(|| {
                let mut kernel = Nftables::open().unwrap();
                for number in 0..1_000 {
                    let mut batch = Batch::new();
                    batch.delete_elements(&ranged.id, range(number));
                    batch.add_elements(&ranged.id, range(COUNT + number));
                    batch.delete_elements(&hashed.id, [address(number)]);
                    batch.add_elements(&hashed.id, [address(COUNT + number)]);
                    kernel.commit(&batch).unwrap();
                }
            });
            let mut kernel = Nftables::open().unwrap();
            let mut is_last = false;
            while !is_last {
                is_last = writer.is_finished();
                for set in [&ranged.id, &hashed.id] {
                    match kernel.elements(set) {
                        Ok(elements) => {
                            let step = if *set == ranged.id { 4 } else { 1 };
                            let keys = elements.iter().filter(|element| !element.is_interval_end());
                            let keys: Vec<u32> = keys.map(number_of).collect();
                            assert_eq!(keys.len(), 4_000);
                            assert!(keys.windows(2).all(|pair| pair[1] - pair[0] == step));
                        }
                        // It changed each time that it was read.
                        Err(error) => assert!(error.is_interrupted() && !is_last, "{error}"),
                    }
                }
            }
        });
    });
}

#[test]
fn what_nft_makes_and_we_do_not_know_is_read_without_loss() {
    alone(|| {
        nft(
            &["-f", "-"],
            "table ip t {\n set s { type ipv4_addr; flags timeout; elements = { 10.0.0.1 timeout 1h comment \"x\" } }\n\
             map m { type ipv4_addr : verdict; elements = { * : drop } }\n\
             chain c { type nat hook postrouting priority srcnat;\n limit rate 5/second masquerade\n ip dscp set 3\n\
             log prefix \"p\" ip saddr 10.0.0.1 snat to 10.0.0.2\n }\n}\n",
        );
        let mut kernel = Nftables::open().unwrap();
        let id = table(Family::Ip, "t");
        let chain = kernel.chains(&id).unwrap().remove(0);
        assert_eq!(chain.base.unwrap().kind, ChainKind::Other("nat".to_owned()));
        let rules = kernel.rules_of_table(&id).unwrap();
        let names = |rule: &Rule| rule.expressions.iter().map(|of| of.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&rules[0]), ["limit", "masq"]);
        assert_eq!(names(&rules[2]), ["log", "payload", "cmp", "immediate", "nat"]);
        let sets = kernel.sets(&id).unwrap();
        assert_eq!(kernel.elements(&sets[0].id).unwrap()[0].user_data, *b"\0\x02x\0");
        assert_eq!(kernel.elements(&sets[1].id).unwrap()[0].flags, Element::CATCH_ALL);
        // The same rules, made of what was read, in another chain of the kind.
        let other = id.chain("d").unwrap();
        let base = kernel.chains(&id).unwrap().remove(0).base.unwrap();
        let mut batch = Batch::new();
        batch.add_chain(&Chain::base(other.clone(), base));
        for rule in &rules {
            batch.add_rule(&Rule { chain: other.clone(), ..rule.clone() }, Place::Last);
        }
        kernel.commit(&batch).unwrap();
        let lines = |chain: &str| {
            nft(&["-s", "list", "chain", "ip", "t", chain], "").replace(&format!("chain {chain} "), "")
        };
        assert_eq!(lines("c"), lines("d"));
    });
}

#[test]
fn a_probe_finds_what_nft_finds_and_leaves_nothing() {
    alone(|| {
        let mut kernel = Nftables::open().unwrap();
        let state = Statements::new().has_any(Selector::Ct(CtKey::STATE), Value::host32(CtKey::NEW));
        let zone = Statements::new().set(Target::Ct(CtKey::ZONE), Value::host16(1));
        let bridge_name =
            Statements::new().is(Selector::Meta(MetaKey::BRIDGE_IIFNAME), Value::interface("br0"));
        let reject = Statements::new().with(Expr::Other { name: "reject".to_owned(), data: vec![] });
        let unknown = Statements::new().with(Expr::Other { name: "nobody".to_owned(), data: vec![] });
        let tried = [
            (Family::Bridge, "ct state new", state.clone()),
            (Family::Inet, "ct state new", state),
            (Family::Inet, "ct zone set 1", zone),
            (Family::Bridge, "meta ibrname br0", bridge_name),
            (Family::Bridge, "notrack", Statements::new().with(Expr::NoTrack)),
            (Family::Bridge, "exthdr frag exists", of_ethertype(0x86dd).is(Selector::HasFragmentHeader, [1])),
        ];
        let need = |family, name: &str, statements: Statements| Need {
            name: name.to_owned(),
            family,
            sets: Vec::new(),
            expressions: statements.into(),
        };
        let mut needs: Vec<Need> =
            tried.iter().cloned().map(|(family, name, statements)| need(family, name, statements)).collect();
        let lacked: BTreeSet<usize> = kernel.probe(&needs).unwrap().iter().map(|lack| lack.need).collect();
        for (number, (family, name, _)) in tried.iter().enumerate() {
            let text =
                format!("add table {family} x\nadd chain {family} x y\nadd rule {family} x y {name}\n");
            let can = try_nft(&["-f", "-"], &text).status.success();
            assert_eq!(lacked.contains(&number), !can, "{family} {name}");
            try_nft(&["delete", "table", &family.to_string(), "x"], "");
        }
        // What no kernel has, and sets that it takes.
        let id = table(Family::Bridge, "anywhere").set("pairs").unwrap();
        let key = [DataType::EtherAddress, DataType::Ipv4Address];
        let pairs =
            Statements::new().is_in(&[payload(Field::ETHER_SOURCE), payload(Field::IP_SOURCE)], &id.name);
        needs = vec![need(Family::Bridge, "nobody", unknown), need(Family::Bridge, "pairs", pairs)];
        needs[1].sets.push(Set::new(id, &key, Keys::Ranges));
        needs.push(need(Family::Bridge, "reject without what it takes", reject));
        let lacks = kernel.probe(&needs).unwrap();
        assert_eq!(lacks.iter().map(|lack| lack.need).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((lacks[0].refused.part, lacks[0].refused.code), (Some(0), 2), "{}", lacks[0].refused);
        assert_eq!(nft(&["list", "ruleset"], ""), "");
    });
}

/// In this namespace, between the interfaces of two others that are joined by a bridge, what rules see of the same pings.
#[test]
fn what_a_bridges_rule_leaves_untracked_passes_the_hooks_of_ip_untracked_and_in_its_fragments() {
    for is_left_untracked in [false, true] {
        let [bridge, left, right] = [(); 3].map(|()| NetNs::new().expect("a namespace"));
        let counted = bridge.enter(|| {
            join(&left, &right);
            count(is_left_untracked)
        });
        let mut kernel = counted.unwrap();
        for size in ["56", "4000"] {
            for address in ["10.0.0.2", "fd00::2"] {
                left.enter(|| run("ping", &["-c", "1", "-W", "5", "-q", "-s", size, address])).unwrap();
            }
        }
        // Both pings, and their answers: small ones, and large ones in three fragments.
        let rules = kernel.rules(&table(Family::Inet, "t").chain("c").unwrap()).unwrap();
        let seen: Vec<u64> = rules
            .iter()
            .flat_map(|rule| &rule.expressions)
            .filter_map(|of| if let Expr::Counter { packets, .. } = of { Some(*packets) } else { None })
            .collect();
        // Untracked, tracked, and later fragments of IPv4; tracked, and fragments of IPv6.
        let expected = if is_left_untracked { [2 + 6, 0, 4, 0, 6] } else { [0, 4, 0, 4, 0] };
        assert_eq!(seen, expected);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("it is installed");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Joins two namespaces by a bridge in this one, whose frames pass the hooks of IP.
fn join(left: &NetNs, right: &NetNs) {
    let ip = |line: &str| run("ip", &line.split(' ').collect::<Vec<_>>());
    ip("link add br0 type bridge");
    for setting in ["iptables", "ip6tables"] {
        std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{setting}"), "1").unwrap();
    }
    for (namespace, port, host) in [(left, "left", 1), (right, "right", 2)] {
        ip(&format!("link add {port} type veth peer name eth0 netns {}", namespace.path()));
        ip(&format!("link set {port} master br0 up"));
        namespace
            .enter(|| {
                ip("link set eth0 up");
                ip(&format!("addr add 10.0.0.{host}/24 dev eth0"));
                ip(&format!("addr add fd00::{host}/64 dev eth0 nodad"));
            })
            .unwrap();
    }
    ip("link set br0 up");
}

/// Counts frames behind connection tracking: of ICMP those that are untracked, the others, and fragments behind the first; of IPv6, of
/// which neighbour discovery is never tracked, those that are tracked, and all fragments.
fn count(is_left_untracked: bool) -> Nftables {
    let [of_bridge, of_ip] = [Family::Bridge, Family::Inet].map(|family| table(family, "t"));
    let base =
        |priority| Base { kind: ChainKind::Filter, hook: Hook::PREROUTING, priority, policy: Policy::Accept };
    let mut batch = Batch::new();
    for (table, priority) in [(&of_bridge, -300), (&of_ip, -150)] {
        batch.add_table(&Table::new(table.clone()));
        batch.add_chain(&Chain::base(table.chain("c").unwrap(), base(priority)));
    }
    if is_left_untracked {
        batch.add_rule(&Rule::new(of_bridge.chain("c").unwrap(), [Expr::NoTrack]), Place::Last);
    }
    let icmp =
        || Statements::new().is(Selector::Meta(MetaKey::NFPROTO), [2]).is(payload(Field::IP_PROTOCOL), [1]);
    let ipv6 = || Statements::new().is(Selector::Meta(MetaKey::NFPROTO), [10]);
    let state = |of: Statements, how| {
        let (state, bit) = (Selector::Ct(CtKey::STATE), Value::host32(CtKey::UNTRACKED));
        of.masked(state, bit, how, Value::host32(0))
    };
    let counted = [
        state(icmp(), Comparison::NotEqual),
        state(icmp(), Comparison::Equal),
        icmp().masked(payload(Field::IP_FRAGMENT), Value::be16(0x1fff), Comparison::NotEqual, [0, 0]),
        state(ipv6(), Comparison::Equal),
        ipv6().is(Selector::HasFragmentHeader, [1]),
    ];
    for statements in counted {
        batch.add_rule(&Rule::new(of_ip.chain("c").unwrap(), statements.counted()), Place::Last);
    }
    let mut kernel = Nftables::open().unwrap();
    kernel.commit(&batch).unwrap();
    kernel
}
