//! What must hold of a whole database when a transaction commits: RFC 7047 §3.2 and §5.2.
//!
//! It looks at all rows each time: this server is for tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::database::{Columns, Draft};
use crate::schema::{BaseType, ColumnType, RefStrength, TableSchema};
use crate::value::{Atom, AtomMap, Datum, Uuid};
use crate::wire::RpcError;

/// Deletes rows that nothing refers to, removes weak references to rows that are gone, and checks the rest.
pub(super) fn settle(draft: &mut Draft) -> Result<(), RpcError> {
    let tables: Vec<Arc<TableSchema>> = draft.schema.tables.values().cloned().collect();
    check_strong_references(draft, &tables)?;
    while collect_garbage(draft, &tables) {}
    drop_dangling_weak_references(draft, &tables)?;
    tables.iter().try_for_each(|table| check_table(draft, table))
}

/// The references that a value holds: table and row, of the given strength.
fn references<'a>(
    datum: &'a Datum,
    column: &'a ColumnType,
    strength: RefStrength,
) -> impl Iterator<Item = (&'a Arc<str>, Uuid)> {
    let target = move |base: &'a BaseType| {
        base.reference().filter(|(_, found)| *found == strength).map(|(table, _)| table)
    };
    let keys = target(&column.key);
    let values = column.value.as_ref().and_then(target);
    let set = datum.atoms().map(move |atom| (keys, atom));
    let pairs = datum.as_map().into_iter().flat_map(AtomMap::iter);
    let pairs = pairs.flat_map(move |(key, value)| [(keys, key), (values, value)]);
    set.chain(pairs).filter_map(|(table, atom)| table.zip(atom.as_uuid()))
}

/// All references of a table's rows: which row has which.
fn all_references<'a>(
    draft: &'a Draft,
    table: &'a TableSchema,
    strength: RefStrength,
) -> impl Iterator<Item = (Uuid, &'a Arc<str>, Uuid)> {
    draft.rows(&table.name).flat_map(move |(uuid, record)| {
        table.columns.values().flat_map(move |column| {
            let datum = record.columns.get(&column.name).into_iter();
            datum
                .flat_map(move |datum| references(datum, &column.column_type, strength))
                .map(move |(target, referred)| (uuid, target, referred))
        })
    })
}

fn check_strong_references(draft: &Draft, tables: &[Arc<TableSchema>]) -> Result<(), RpcError> {
    for table in tables {
        for (uuid, target, referred) in all_references(draft, table, RefStrength::Strong) {
            if !draft.has_row(target, referred) {
                let details = format!(
                    "Table {} row {uuid} refers to row {referred} of {target}, which is not there.",
                    table.name
                );
                return Err(RpcError::new("referential integrity violation", details));
            }
        }
    }
    Ok(())
}

/// Deletes rows outside the root set to which no other row refers; true if there were any.
fn collect_garbage(draft: &mut Draft, tables: &[Arc<TableSchema>]) -> bool {
    let mut referred: BTreeSet<(&Arc<str>, Uuid)> = BTreeSet::new();
    for table in tables {
        let references = all_references(draft, table, RefStrength::Strong);
        // A row does not keep itself.
        let others = references.filter(|(from, target, to)| **target != table.name || from != to);
        referred.extend(others.map(|(_, target, to)| (target, to)));
    }
    let garbage: Vec<(Arc<str>, Uuid)> = tables
        .iter()
        .filter(|table| !table.is_root)
        .flat_map(|table| draft.rows(&table.name).map(move |(uuid, _)| (&table.name, uuid)))
        .filter(|key| !referred.contains(key))
        .map(|(table, uuid)| (table.clone(), uuid))
        .collect();
    for (table, uuid) in &garbage {
        draft.remove(table, *uuid);
    }
    !garbage.is_empty()
}

fn drop_dangling_weak_references(draft: &mut Draft, tables: &[Arc<TableSchema>]) -> Result<(), RpcError> {
    for table in tables {
        let dangling: BTreeSet<Uuid> = all_references(draft, table, RefStrength::Weak)
            .filter(|(_, target, referred)| !draft.has_row(target, *referred))
            .map(|(uuid, _, _)| uuid)
            .collect();
        for uuid in dangling {
            let Some((_, record)) = draft.rows(&table.name).find(|(found, _)| *found == uuid) else {
                continue;
            };
            let mut columns = record.columns.clone();
            for column in table.columns.values() {
                let Some(datum) = columns.get(&column.name) else { continue };
                let kept = without_dangling(draft, datum, &column.column_type);
                let kept = kept.ok_or_else(|| {
                    let details = format!(
                        "Table {} column {} would lose its last weak reference.",
                        table.name, column.name
                    );
                    RpcError::new("constraint violation", details)
                })?;
                columns.insert(column.name.clone(), kept);
            }
            draft.put(table, uuid, columns);
        }
    }
    Ok(())
}

/// The value without weak references to rows that are gone; `None` if too few are left.
fn without_dangling(draft: &Draft, datum: &Datum, column: &ColumnType) -> Option<Datum> {
    let is_alive = |base: &BaseType, atom: &Atom| match (base.reference(), atom.as_uuid()) {
        (Some((target, RefStrength::Weak)), Some(uuid)) => draft.has_row(target, uuid),
        _ => true,
    };
    match (datum, &column.value) {
        (Datum::Map(pairs), Some(value_type)) => {
            let alive =
                |(key, value): &(&Atom, &Atom)| is_alive(&column.key, key) && is_alive(value_type, value);
            let pairs: AtomMap =
                pairs.iter().filter(alive).map(|(key, value)| (key.clone(), value.clone())).collect();
            column.allows_count(pairs.len()).then_some(Datum::Map(pairs))
        }
        _ => column.shape_set(datum.atoms().filter(|atom| is_alive(&column.key, atom)).cloned().collect()),
    }
}

fn check_table(draft: &Draft, table: &TableSchema) -> Result<(), RpcError> {
    let violation = |details: String| Err(RpcError::new("constraint violation", details));
    let count = draft.count(&table.name);
    if table.max_rows.is_some_and(|max| u64::try_from(count).is_ok_and(|count| count > max)) {
        return violation(format!("transaction causes {:?} table to contain {count} rows", table.name));
    }
    for index in &table.indexes {
        let mut seen = BTreeSet::new();
        let values =
            |columns: &Columns| index.iter().map(|name| columns.get(name).cloned()).collect::<Vec<_>>();
        if let Some((uuid, _)) =
            draft.rows(&table.name).find(|(_, record)| !seen.insert(values(&record.columns)))
        {
            return violation(format!(
                "row {uuid} of table {} has the values of another row in index {index:?}",
                table.name
            ));
        }
    }
    Ok(())
}
