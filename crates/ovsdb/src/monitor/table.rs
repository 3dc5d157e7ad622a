//! What to monitor: the `<monitor-request>` of RFC 7047 §4.1.5 and the `<monitor-cond-request>` of
//! ovsdb-server(7) 4.1.12.

use crate::transaction::Condition;

/// A table to follow, with the columns and rows of interest.
///
/// ```
/// use ovsdb::{Condition, MonitorTable};
/// let all = MonitorTable::new("Port", ["name", "tag"]);
/// let some = MonitorTable::new("Interface", ["name", "ofport"]).matching(Condition::equal("type", "internal"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorTable {
    /// Name of the table.
    pub table: String,
    /// Its columns of interest; `None`: all of them. A column that the schema lacks is an error.
    pub columns: Option<Vec<String>>,
    /// Rows for which one of these holds; empty: every row.
    pub conditions: Vec<Condition>,
}

impl MonitorTable {
    /// Every row of `table`, with these columns.
    pub fn new<C: Into<String>>(table: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        let columns = Some(columns.into_iter().map(C::into).collect());
        Self { table: table.into(), columns, conditions: Vec::new() }
    }

    /// Every row of `table`, with all columns that the schema has.
    pub fn all_columns(table: impl Into<String>) -> Self {
        Self { table: table.into(), columns: None, conditions: Vec::new() }
    }

    /// Only rows for which this or another given condition holds.
    #[must_use]
    pub fn matching(mut self, condition: impl Into<Condition>) -> Self {
        self.conditions.push(condition.into());
        self
    }
}
