//! What is written is read as it was; damage never panics.

use nfnetlink::{Message, Messages, Request};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::wire::{self, command};
use crate::*;

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9_-]{0,20}".prop_map(|text| text.parse().unwrap())
}

fn table_id() -> impl Strategy<Value = TableId> {
    let families = [Family::Inet, Family::Ip, Family::Arp, Family::Bridge, Family::Ip6];
    (proptest::sample::select(families.to_vec()), name()).prop_map(|(family, name)| TableId { family, name })
}

fn value() -> impl Strategy<Value = Value> {
    proptest::collection::vec(any::<u8>(), 1..=64).prop_map(|octets| octets.as_slice().into())
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Drop),
        Just(Verdict::Accept),
        Just(Verdict::Continue),
        Just(Verdict::Break),
        Just(Verdict::Return),
        Just(Verdict::Other(3)),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ]
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![value().prop_map(Data::from), verdict().prop_map(Data::from)]
}

fn register() -> impl Strategy<Value = Register> {
    prop_oneof![Just(Register::VERDICT), (0..16u32).prop_map(|word| Register::at(word).unwrap())]
}

fn comparison() -> impl Strategy<Value = Comparison> {
    (0..6u32).prop_map(|number| Comparison::of_number(number).unwrap())
}

fn direction() -> impl Strategy<Value = Option<Direction>> {
    let directions = [None, Some(Direction::Original), Some(Direction::Reply)];
    proptest::sample::select(directions.to_vec())
}

fn load() -> impl Strategy<Value = Expr> {
    let field = any::<[u32; 3]>().prop_map(|[header, offset, length]| Field {
        header: Header(header),
        offset,
        length,
    });
    prop_oneof![
        (any::<u32>(), register()).prop_map(|(key, to)| Expr::Meta { key: MetaKey(key), to }),
        (field, register()).prop_map(|(field, to)| Expr::Payload { field, to }),
        (any::<u8>(), any::<[u32; 2]>(), any::<bool>(), register()).prop_map(
            |(header, [offset, length], is_presence, to)| {
                Expr::ExtensionHeader { header, offset, length, is_presence, to }
            }
        ),
        (any::<u32>(), direction(), register()).prop_map(|(key, direction, to)| Expr::Ct {
            key: CtKey(key),
            direction,
            to
        }),
        (register(), data()).prop_map(|(to, data)| Expr::Immediate { to, data }),
    ]
}

fn computation() -> impl Strategy<Value = Expr> {
    let masks = (1..=64usize).prop_flat_map(|length| {
        let octets = || proptest::collection::vec(any::<u8>(), length);
        (octets(), octets())
    });
    prop_oneof![
        (register(), comparison(), value()).prop_map(|(from, how, with)| Expr::Compare { from, how, with }),
        (register(), any::<bool>(), value(), value())
            .prop_map(|(from, is_inverted, first, last)| Expr::Range { from, is_inverted, first, last }),
        (register(), register(), masks).prop_map(|(from, to, (mask, xor))| Expr::Bitwise {
            from,
            to,
            mask: mask.as_slice().into(),
            xor: xor.as_slice().into()
        }),
        (register(), register(), any::<bool>(), any::<[u32; 2]>()).prop_map(
            |(from, to, to_host, [length, size])| Expr::ByteOrder { from, to, to_host, length, size }
        ),
        (name(), register(), proptest::option::of(register()), any::<bool>())
            .prop_map(|(set, from, to, is_inverted)| Expr::Lookup { set, from, to, is_inverted }),
    ]
}

fn action() -> impl Strategy<Value = Expr> {
    prop_oneof![
        (any::<u32>(), register()).prop_map(|(key, from)| Expr::SetMeta { key: MetaKey(key), from }),
        (any::<u32>(), direction(), register()).prop_map(|(key, direction, from)| Expr::SetCt {
            key: CtKey(key),
            direction,
            from
        }),
        any::<[u64; 2]>().prop_map(|[packets, bytes]| Expr::Counter { packets, bytes }),
        Just(Expr::NoTrack),
        Just(Expr::Other { name: "masq".to_owned(), data: Vec::new() }),
        // Attributes of whole words, as the kernel tells them: kind 1 and kind 9, four bytes each.
        Just(Expr::Other {
            name: "log".to_owned(),
            data: vec![8, 0, 1, 0, 1, 2, 3, 4, 8, 0, 9, 0, 5, 6, 7, 8]
        }),
        // One of ours with what is not known here: kind 7.
        Just(Expr::Other { name: "cmp".to_owned(), data: vec![8, 0, 7, 0, 1, 2, 3, 4] }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let expression = prop_oneof![load(), computation(), action()];
    (table_id(), name(), proptest::collection::vec(expression, 0..8), ".{0,200}").prop_map(
        |(table, name, expressions, comment)| {
            Rule::new(ChainId { table, name }, expressions).with_comment(&comment)
        },
    )
}

fn chain() -> impl Strategy<Value = Chain> {
    let kinds = [ChainKind::Filter, ChainKind::Route, ChainKind::Other("nat".to_owned())];
    let policies = [Policy::Accept, Policy::Drop];
    let base = (
        proptest::sample::select(kinds.to_vec()).boxed(),
        0..5u32,
        any::<i32>(),
        proptest::sample::select(policies.to_vec()),
    );
    let base =
        base.prop_map(|(kind, hook, priority, policy)| Base { kind, hook: Hook(hook), priority, policy });
    (table_id(), name(), proptest::option::of(base)).prop_map(|(table, name, base)| Chain {
        id: ChainId { table, name },
        base,
        handle: 0,
    })
}

fn types() -> impl Strategy<Value = DataType> {
    let types = [
        DataType::Ipv4Address,
        DataType::Ipv6Address,
        DataType::EtherAddress,
        DataType::EtherType,
        DataType::InetProtocol,
        DataType::InetService,
        DataType::IcmpType,
        DataType::Icmpv6Type,
        DataType::Mark,
        DataType::InterfaceName,
        DataType::CtZone,
    ];
    proptest::sample::select(types.to_vec())
}

fn set() -> impl Strategy<Value = Set> {
    let keys = [Keys::Single, Keys::Ranges];
    let of = (
        table_id(),
        name(),
        proptest::collection::vec(types(), 1..5),
        proptest::sample::select(keys.to_vec()),
        proptest::option::of(types()),
        0..3u8,
        proptest::option::of(any::<u32>()),
    );
    of.prop_map(|(table, name, key, keys, to, kind, size)| {
        let id = SetId { table, name };
        let set = match (kind, to) {
            (0, Some(to)) => Set::map(id, &key, keys, to),
            (1, _) => Set::verdict_map(id, &key, keys),
            _ => Set::new(id, &key, keys),
        };
        Set { size, ..set }
    })
}

fn element() -> impl Strategy<Value = Element> {
    let user_data = prop_oneof![Just(Vec::new()), Just(vec![0, 2, b'a', 0])];
    let of = (value(), 0..2u32, proptest::option::of(value()), proptest::option::of(data()), user_data);
    let of = of.prop_map(|(key, flags, key_end, data, user_data)| Element {
        key,
        flags,
        key_end,
        data,
        user_data,
    });
    prop_oneof![
        9 => of,
        1 => data().prop_map(|data| Element { flags: Element::CATCH_ALL, ..Element::key(Value::default()) }.to(data)),
    ]
}

/// The messages of requests, one after the other.
fn told(requests: impl IntoIterator<Item = Request>) -> Vec<u8> {
    requests.into_iter().flat_map(Request::into_bytes).collect()
}

fn messages(bytes: &[u8]) -> Vec<Message<'_>> {
    Messages::new(bytes).map(Result::unwrap).collect()
}

fn changed(command: u8, set: &SetId, elements: &[Element]) -> Vec<Request> {
    let mut elements = elements.iter().cloned();
    std::iter::from_fn(|| wire::change_elements(command, set, &mut elements))
        .map(|(request, _)| request)
        .collect()
}

proptest! {
    #[test]
    fn tables_chains_and_sets_are_read_as_they_were_made(
        id in table_id(), is_dormant in any::<bool>(), chain in chain(), set in set(),
    ) {
        let table = Table { is_dormant, ..Table::new(id) };
        let bytes = told([wire::new_table(&table), wire::new_chain(&chain), wire::new_set(&set, 1)]);
        let messages = messages(&bytes);
        prop_assert_eq!(wire::table(&messages[0]), Ok(Some(table)));
        prop_assert_eq!(wire::chain(&messages[1]), Ok(Some(chain)));
        prop_assert_eq!(wire::set(&messages[2]), Ok(Some(set)));
    }

    #[test]
    fn rules_are_read_as_they_were_made(rule in rule(), handle in any::<u64>()) {
        for (request, does) in [
            (wire::new_rule(&rule, Place::Last), "add a rule to".to_owned()),
            (wire::new_rule(&rule, Place::Before(handle)), "add a rule to".to_owned()),
            (wire::replace_rule(handle, &rule), format!("replace rule {handle} of")),
        ] {
            let bytes = request.into_bytes();
            let message = messages(&bytes)[0];
            let mut read = wire::rule(&message).unwrap().unwrap();
            read.handle = 0;
            prop_assert_eq!(&read, &rule);
            prop_assert_eq!(wire::action(&message).unwrap(), format!("{does} {}", rule.chain));
        }
    }

    #[test]
    fn elements_are_read_as_they_were_made(
        table in table_id(), name in name(), elements in proptest::collection::vec(element(), 0..600),
    ) {
        let set = SetId { table, name };
        for (command, is_whole) in [(command::NEW_ELEMENT, true), (command::DELETE_ELEMENT, false)] {
            let bytes = told(changed(command, &set, &elements));
            let mut read = Vec::new();
            for message in messages(&bytes) {
                wire::elements(&message, |element| read.push(element)).unwrap();
            }
            let mut expected = elements.clone();
            if !is_whole {
                expected = elements.iter().map(|element| Element { data: None, user_data: Vec::new(), ..element.clone() }).collect();
            }
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn damage_is_an_error_or_something_else(
        chain in chain(), set in set(), rule in rule(), elements in proptest::collection::vec(element(), 0..4),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(), offset in 0..2000usize,
    ) {
        let mut bytes = told([wire::new_chain(&chain), wire::new_set(&set, 1), wire::new_rule(&rule, Place::First)]);
        bytes.extend(told(changed(command::NEW_ELEMENT, &set.id, &elements)));
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            for message in Messages::new(bytes).flatten() {
                _ = wire::table(&message);
                _ = wire::chain(&message);
                _ = wire::set(&message);
                _ = wire::rule(&message).map(|rule| rule.map(|rule| rule.comment().map(str::len)));
                _ = wire::elements(&message, drop);
                _ = wire::generation(&message);
                _ = wire::action(&message);
                _ = wire::part_at(&message, offset);
            }
        }
    }
}

#[test]
fn a_refusal_is_traced_to_operation_and_part() {
    let table = TableId { family: Family::Bridge, name: "t".parse().unwrap() };
    let (chain, set) = (table.chain("c").unwrap(), table.set("s").unwrap());
    let elements = || (0..10_000u32).map(|number| Element::key(Value::host32(number)));
    let mut batch = Batch::new();
    batch.add_elements(&set, elements()).delete_elements(&set, elements());
    let rule =
        Statements::new().is(Selector::Payload(Field::ETHER_TYPE), Value::be16(0x0806)).decide(Verdict::Drop);
    batch.add_rule(&Rule::new(chain.clone(), rule), Place::Last).flush_chain(&chain).delete_rule(&chain, 7);
    assert_eq!(batch.len(), 5);
    let requests = batch.requests().len();
    let refused = |index, offset| {
        let refusal = nfnetlink::Refusal { index, code: 2, words: None, offset };
        let refused = batch.refused(&refusal).unwrap();
        (refused.operation, refused.action, refused.part)
    };
    // Each element is 16 bytes: its own header, the key's, the value's, and the value. Before them are headers of 20 bytes, the names of
    // the table and the set of 8 each, and the list's header.
    let begun = 20 + 8 + 8 + 4;
    assert_eq!(refused(0, Some(begun)), (0, "add elements to bridge t s".to_owned(), Some(0)));
    assert_eq!(refused(0, Some(begun + 16 * 3 + 4)), (0, "add elements to bridge t s".to_owned(), Some(3)));
    assert_eq!(refused(0, Some(20)).2, None);
    let (operation, action, part) = refused(requests - 4, Some(begun));
    assert_eq!((operation, action.as_str()), (1, "delete elements from bridge t s"));
    assert!(part.is_some_and(|part| part > 5_000), "{part:?}");
    let expressions = refused(requests - 3, Some(begun + 4)).2;
    assert_eq!((expressions, refused(requests - 3, None).2), (Some(0), None));
    assert_eq!(refused(requests - 2, None).1, "flush chain bridge t c");
    assert_eq!(refused(requests - 1, None).1, "delete rule 7 of bridge t c");
    assert!(
        batch.refused(&nfnetlink::Refusal { index: requests, code: 2, words: None, offset: None }).is_err()
    );
}

#[test]
fn registers_have_the_numbers_that_the_kernel_tells() {
    let numbers: Vec<u32> = (0..16).map(|word| Register::at(word).unwrap().number()).collect();
    assert_eq!(numbers, [1, 9, 10, 11, 2, 13, 14, 15, 3, 17, 18, 19, 4, 21, 22, 23]);
    assert_eq!(Register::at(16), None);
    // A register has two numbers where a long one begins.
    assert_eq!((Register::of_number(8), Register::of_number(12)), (Register::at(0), Register::at(4)));
    assert_eq!((Register::of_number(24), Register::of_number(5)), (None, None));
}
