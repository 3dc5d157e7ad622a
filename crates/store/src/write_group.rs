//! How a group gets into its rows.

use std::collections::BTreeMap;

use ovsdb::{Delete, Insert, Mutate, Mutator, Operation, Row, RowError, Update, Value};
use policy::GroupId;

use crate::content::{GroupRow, MemberText};
use crate::group_rows::GroupRows;
use crate::member_text::Family;
use crate::placement::{Place, Plan};
use crate::schema::{MEMBERS, SECURITY_GROUP};
use crate::sight::GroupHead;

/// What is to be written of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GroupWriting {
    /// How many rows change.
    pub(crate) rows: usize,
    /// Something else than members differs.
    pub(crate) head_differs: bool,
    /// Members change that are in the group before and after: they stand elsewhere then. So do rows that go empty.
    pub(crate) moves: bool,
}

/// Makes the rows of a group as they are wanted. Of its members, only `members` may differ, but for a group that has no row of its own yet. No row has more
/// than `room` members of a family then.
pub(crate) fn write_group(
    id: &GroupId,
    wanted: Option<&GroupRow>,
    held: Option<&GroupRows>,
    members: &[MemberText],
    room: usize,
    operations: &mut Vec<Operation>,
) -> GroupWriting {
    let before = operations.len();
    let Some((wanted, head)) = wanted.and_then(|group| Some((group, group.head.as_ref()?))) else {
        let rows = held.iter().flat_map(|rows| {
            let parts = rows.parts.values().map(|row| Delete::from(MEMBERS).filter(row.uuid()));
            let head = rows.head.iter().map(|row| Delete::from(SECURITY_GROUP).filter(row.uuid()));
            head.chain(parts).map(Operation::from)
        });
        operations.extend(rows);
        let rows = operations.len() - before;
        return GroupWriting { rows, head_differs: rows > 0, moves: false };
    };
    // A column that is missing is missing everywhere: the session would not be there.
    write_wanted(id, wanted, head, held, members, room, operations).unwrap_or_default()
}

fn write_wanted(
    id: &GroupId,
    wanted: &GroupRow,
    head: &GroupHead,
    held: Option<&GroupRows>,
    members: &[MemberText],
    room: usize,
    operations: &mut Vec<Operation>,
) -> Result<GroupWriting, RowError> {
    let is_new = held.is_none_or(|rows| rows.head.is_none());
    let all: Vec<MemberText>;
    let mut changes: BTreeMap<&MemberText, bool> =
        members.iter().map(|member| (member, wanted.members.contains_key(member))).collect();
    if is_new {
        // Rows that stood there without a group.
        all = held.map(GroupRows::texts).transpose()?.unwrap_or_default();
        changes.extend(all.iter().map(|member| (member, wanted.members.contains_key(member))));
        changes.extend(wanted.members.keys().map(|member| (member, true)));
    }
    let plan = Plan::new(held, &changes, room)?;
    let mut writing = GroupWriting { moves: plan.moves, ..GroupWriting::default() };
    let before = operations.len();
    writing.head_differs = write_head(id, head, &plan.head, operations);
    writing.rows += usize::from(operations.len() > before);
    for place in &plan.parts {
        let operation = write_part(id, place);
        writing.rows += usize::from(operation.is_some());
        operations.extend(operation);
    }
    Ok(writing)
}

/// Whether something else than members differs.
fn write_head(id: &GroupId, head: &GroupHead, place: &Place<'_>, operations: &mut Vec<Operation>) -> bool {
    let Some(row) = place.row else {
        let rules = Value::map(head.rules.iter().map(|(id, text)| (id.as_str(), text.as_str())));
        let insert = Insert::into(SECURITY_GROUP)
            .set("id", id.as_str())
            .set("name", head.name.as_str())
            .set("stateful", unless_true(head.stateful))
            .set("rules", rules);
        operations.push(with_members(insert, place).into());
        return true;
    };
    let is_other = row.string("name").ok() != Some(&head.name)
        || row.optional_boolean("stateful").ok().map(|is| is.unwrap_or(true)) != Some(head.stateful);
    if is_other {
        let update = Update::table(SECURITY_GROUP).filter(row.uuid());
        operations
            .push(update.set("name", head.name.as_str()).set("stateful", unless_true(head.stateful)).into());
    }
    let mutate = Mutate::table(SECURITY_GROUP).filter(row.uuid());
    let (mutate, rules_differ) = write_rules(mutate, &head.rules, row);
    if rules_differ || place.is_changed() {
        operations.push(write_members(mutate, place).into());
    }
    is_other || rules_differ
}

/// None if nothing is another.
fn write_part(id: &GroupId, place: &Place<'_>) -> Option<Operation> {
    match place.row {
        None => {
            let insert = Insert::into(MEMBERS).set("security_group", id.as_str()).set("part", place.part);
            Some(with_members(insert, place).into())
        }
        Some(row) if place.is_empty() => Some(Delete::from(MEMBERS).filter(row.uuid()).into()),
        Some(row) => {
            let mutate = Mutate::table(MEMBERS).filter(row.uuid());
            place.is_changed().then(|| write_members(mutate, place).into())
        }
    }
}

fn with_members(insert: Insert, place: &Place<'_>) -> Insert {
    Family::BOTH.into_iter().fold(insert, |insert, family| {
        insert.set(family.column(), Value::set(place.come[family.place()].iter().map(String::as_str)))
    })
}

fn write_members(mut mutate: Mutate, place: &Place<'_>) -> Mutate {
    for family in Family::BOTH {
        let [gone, come] = [&place.gone, &place.come].map(|of| of[family.place()].iter().map(String::as_str));
        (mutate, _) = write_set(mutate, family.column(), gone.collect(), come.collect());
    }
    mutate
}

/// Rules that are other ones now, rule by rule.
fn write_rules(mutate: Mutate, wanted: &BTreeMap<String, String>, row: &Row) -> (Mutate, bool) {
    let held: BTreeMap<&str, &str> = row.map("rules").map(|rules| rules.iter().collect()).unwrap_or_default();
    let wanted: BTreeMap<&str, &str> = wanted.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let gone: Vec<&str> =
        held.iter().filter(|(id, text)| wanted.get(*id) != Some(text)).map(|(id, _)| *id).collect();
    let come: Vec<(&str, &str)> = wanted
        .iter()
        .filter(|(id, text)| held.get(*id) != Some(text))
        .map(|(id, text)| (*id, *text))
        .collect();
    let differs = !gone.is_empty() || !come.is_empty();
    // An insertion leaves the value of a key alone that is there (RFC 7047, 5.1 <mutation>).
    let mutate =
        if gone.is_empty() { mutate } else { mutate.mutate("rules", Mutator::Delete, Value::set(gone)) };
    let mutate =
        if come.is_empty() { mutate } else { mutate.mutate("rules", Mutator::Insert, Value::map(come)) };
    (mutate, differs)
}

/// Elements that go from a set column and come to it; whether there are any.
pub(crate) fn write_set(
    mut mutate: Mutate,
    column: &str,
    gone: Vec<&str>,
    come: Vec<&str>,
) -> (Mutate, bool) {
    let differs = !gone.is_empty() || !come.is_empty();
    if !gone.is_empty() {
        mutate = mutate.mutate(column, Mutator::Delete, Value::set(gone));
    }
    if !come.is_empty() {
        mutate = mutate.mutate(column, Mutator::Insert, Value::set(come));
    }
    (mutate, differs)
}

/// What is so for nearly all is left out: each host is told less.
pub(crate) fn unless_true(is: bool) -> Value {
    Value::set((!is).then_some(false))
}
