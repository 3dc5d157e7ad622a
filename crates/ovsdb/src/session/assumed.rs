//! A schema that was assumed, against the one that the server has.

use std::collections::BTreeSet;

use crate::monitor::MonitorTable;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::transaction::Condition;

/// What of `monitors`, which fit `assumed`, does not fit the schema that the server has; for people. `None` if all
/// of it fits.
pub(super) fn mismatch(
    database: &str,
    assumed: &DatabaseSchema,
    found: &DatabaseSchema,
    monitors: &[MonitorTable],
) -> Option<String> {
    let lacks: Vec<String> = monitors.iter().flat_map(|monitor| lacks(assumed, found, monitor)).collect();
    (!lacks.is_empty()).then(|| {
        format!(
            "the database {database} has schema {}, this program needs {}: {}",
            version(found),
            version(assumed),
            lacks.join(", ")
        )
    })
}

fn version(schema: &DatabaseSchema) -> &str {
    schema.version.as_deref().unwrap_or("without version")
}

fn lacks(assumed: &DatabaseSchema, found: &DatabaseSchema, monitor: &MonitorTable) -> Vec<String> {
    let table = &monitor.table;
    let Some(found) = found.table(table) else { return vec![format!("no table {table}")] };
    let Some(assumed) = assumed.table(table) else { return Vec::new() };
    let wanted = |name: &str| {
        let assumed = &assumed.column(name)?.column_type;
        match found.column(name) {
            None => Some(format!("no column {name} in table {table}")),
            Some(column) if column.column_type != *assumed => {
                let found = &column.column_type;
                Some(format!("column {name} in table {table} is {found}, not {assumed}"))
            }
            Some(_) => None,
        }
    };
    columns(assumed, monitor).into_iter().filter_map(wanted).collect()
}

/// The columns that are followed or looked at by a condition.
fn columns<'a>(table: &'a TableSchema, monitor: &'a MonitorTable) -> BTreeSet<&'a str> {
    let mut columns: BTreeSet<&str> = match &monitor.columns {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => table.columns.keys().map(|name| &**name).collect(),
    };
    columns.extend(monitor.conditions.iter().filter_map(|condition| match condition {
        Condition::Column { column, .. } => Some(column.as_str()),
        Condition::Always(_) => None,
    }));
    columns
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn schema(version: &str, tables: &Json) -> DatabaseSchema {
        DatabaseSchema::from_json(&json!({"name": "D", "version": version, "tables": tables})).unwrap()
    }

    #[test]
    fn what_is_missing_is_named_with_both_versions() {
        let text = json!({"type": "string"});
        let set = json!({"type": {"key": "string", "min": 0, "max": "unlimited"}});
        let assumed = schema(
            "1.0.0",
            &json!({"T": {"columns": {"a": text, "b": set, "c": text, "d": text}}, "U": {"columns": {"a": text}}}),
        );
        let found = schema("2.0.0", &json!({"T": {"columns": {"b": text}}}));
        let monitors = [
            MonitorTable::new("T", ["a", "b"]).matching(Condition::equal("c", "x")),
            MonitorTable::all_columns("U"),
        ];
        assert_eq!(
            mismatch("D", &assumed, &found, &monitors).unwrap(),
            "the database D has schema 2.0.0, this program needs 1.0.0: no column a in table T, column b in \
             table T is string, not set of string (0 or more), no column c in table T, no table U"
        );
        assert_eq!(mismatch("D", &assumed, &assumed, &monitors), None);
    }
}
