//! What rules are made of that a kernel may be built without.

use nftables::{
    CtKey, DataType, Expr, Family, Field, Keys, Lack, MetaKey, Need, Nftables, Selector, Set, Statements,
    TableId, Target, Value, Verdict,
};

use super::HybridError;

/// Nothing, or else what.
///
/// # Errors
/// The kernel lacks something, or does not answer.
pub(super) fn none() -> Result<(), HybridError> {
    let needs = needs();
    let lacks = Nftables::open()?.probe(&needs)?;
    match lacks.is_empty() {
        true => Ok(()),
        false => Err(HybridError::Lacks(shown(&needs, &lacks))),
    }
}

/// Why dropped packets cannot be sampled, if they cannot.
///
/// # Errors
/// The kernel does not answer.
pub(super) fn samples() -> Result<Option<String>, HybridError> {
    // `NFTA_LIMIT_RATE`, `NFTA_LIMIT_UNIT`, and `NFTA_LOG_GROUP`, as attributes.
    let limit = [[12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10], [12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
    let [group_high, group_low] = hybrid::samples::GROUP.to_be_bytes();
    let log = vec![6, 0, 1, 0, group_high, group_low, 0, 0];
    let other = |name: &str, data: Vec<u8>| Expr::Other { name: name.to_owned(), data };
    let need = |name: &str, data| Need {
        name: name.to_owned(),
        family: Family::Bridge,
        sets: Vec::new(),
        expressions: vec![other(name, data)],
    };
    let needs = [need("limit", limit), need("log", log)];
    let lacks = Nftables::open()?.probe(&needs)?;
    Ok((!lacks.is_empty()).then(|| format!("the kernel lacks {}", shown(&needs, &lacks))))
}

fn shown(needs: &[Need], lacks: &[Lack]) -> String {
    let one = |lack: &Lack| Some(format!("{} ({})", needs.get(lack.need)?.name, lack.refused.reason));
    lacks.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

fn needs() -> Vec<Need> {
    let need = |name: &str, sets: Vec<Set>, statements: Statements| Need {
        name: name.to_owned(),
        family: Family::Inet,
        sets,
        expressions: statements.into(),
    };
    let id = |name: &str| {
        let table = TableId { family: Family::Inet, name: name.parse().expect("a short name") };
        table.set(name).expect("a short name")
    };
    let begin = Statements::new;
    let source = [Selector::Payload(Field::IP_SOURCE)];
    let mark = [Selector::Meta(MetaKey::MARK)];
    let (singles, ranges, verdicts, zones) = (id("singles"), id("ranges"), id("verdicts"), id("zones"));
    vec![
        need("meta mark", vec![], begin().set(Target::Meta(MetaKey::MARK), Value::host32(1))),
        need("meta l4proto", vec![], begin().is(Selector::Meta(MetaKey::L4PROTO), [6])),
        need("payload", vec![], begin().is(Selector::Payload(Field::DESTINATION_PORT), Value::be16(80))),
        need("ether saddr", vec![], begin().is(Selector::Payload(Field::ETHER_SOURCE), [2, 0, 0, 0, 0, 1])),
        need("ct state", vec![], begin().has_any(Selector::Ct(CtKey::STATE), Value::host32(CtKey::NEW))),
        need("ct mark", vec![], begin().set(Target::Ct(CtKey::MARK), Value::host32(1))),
        need("notrack", vec![], begin().with(Expr::NoTrack)),
        need("a verdict", vec![], begin().decide(Verdict::Drop)),
        need(
            "a set",
            vec![Set::new(singles.clone(), &[DataType::Ipv4Address], Keys::Single)],
            begin().is_in(&source, &singles.name),
        ),
        need(
            "a set of ranges",
            vec![Set::new(ranges.clone(), &[DataType::Ipv4Address], Keys::Ranges)],
            begin().is_in(&source, &ranges.name),
        ),
        need(
            "a verdict map",
            vec![Set::verdict_map(verdicts.clone(), &[DataType::Mark], Keys::Single)],
            begin().decide_by(&mark, &verdicts.name),
        ),
        need(
            "ct zone",
            vec![Set::map(zones.clone(), &[DataType::Mark], Keys::Single, DataType::CtZone)],
            begin().set_by(Target::Ct(CtKey::ZONE), &mark, &zones.name),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let needs = needs();
        let lack = |name: &str| Lack {
            need: needs.iter().position(|need| need.name == name).expect("it is needed"),
            refused: nftables::Refused {
                operation: 2,
                action: "add a rule".to_owned(),
                part: Some(0),
                reason: "no such file or directory".to_owned(),
                code: 2,
            },
        };
        assert_eq!(
            shown(&needs, &[lack("ct zone"), lack("notrack")]),
            "ct zone (no such file or directory), notrack (no such file or directory)"
        );
    }
}
