//! `sgflow policy watch`: changes as they happen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write as _, stdout};
use std::time::Duration;

use clap::Args;
use ovsdb::{Atom, Change, Datum, MonitorTable};
use serde_json::{Value, json};
use store::schema;
use tokio::signal::unix::{SignalKind, signal};

use super::Place;
use super::following::Following;
use crate::exit::Exit;
use crate::text::{printable, unread};

/// Print what changes in the store, a line an object, until interrupted
#[derive(Args, Debug)]
pub(super) struct Watch {
    #[command(flatten)]
    place: Place,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Tables, what their rows are about, and the column that says which.
const TABLES: [(&str, &str, &str); 4] = [
    (schema::SECURITY_GROUP, "security group", "id"),
    (schema::MEMBERS, "security group", "security_group"),
    (schema::ADDRESS_GROUP, "address group", "id"),
    (schema::PORT, "port", "id"),
];

/// Columns that say where something stands, and not what.
const PLACES: [&str; 3] = ["id", "security_group", "part"];

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let (store, patience) = self.place.resolve()?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let monitors = TABLES.iter().map(|(table, ..)| MonitorTable::all_columns(*table)).collect();
        let mut following = Following::begin(&store, monitors)?;
        let rows = following.changes(patience).await?;
        let objects = rows.iter().filter(|change| &*change.table != schema::MEMBERS).count();
        eprintln!("watching {objects} objects");
        loop {
            let changes = tokio::select! {
                changes = following.changes(Duration::MAX) => changes?,
                // Who reads has gone, as head(1) does.
                () = unread() => return Ok(Exit::Done),
                _ = terminate.recv() => return Ok(Exit::Done),
                _ = interrupt.recv() => return Ok(Exit::Done),
            };
            let mut out = stdout().lock();
            for told in Told::all(&changes) {
                let line = if self.json { told.json().to_string() } else { told.line() };
                let line = printable(&line);
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return Ok(Exit::Done);
                }
            }
        }
    }
}

/// What happened to an object.
struct Told<'a> {
    word: &'static str,
    id: &'a str,
    what: &'static str,
    /// By column: what came, and what went.
    columns: BTreeMap<&'a str, [BTreeSet<String>; 2]>,
}

impl<'a> Told<'a> {
    /// An object may have several rows; what has gone from one to another is as it was.
    fn all(changes: &'a [Change]) -> impl Iterator<Item = Self> {
        let mut all: BTreeMap<_, Self> = BTreeMap::new();
        for change in changes {
            let Some((word, id)) = Self::object(change) else { continue };
            let told = Told { word, id, what: "changed", columns: BTreeMap::new() };
            all.entry((word, id)).or_insert(told).add(change);
        }
        all.into_values().filter(|told| told.what != "changed" || !told.columns.is_empty())
    }

    fn object(change: &'a Change) -> Option<(&'static str, &'a str)> {
        let (_, word, column) = TABLES.iter().find(|(table, ..)| *table == &*change.table)?;
        let row = change.new_row().or(change.old_row())?;
        Some((word, row.string(column).ok()?))
    }

    fn add(&mut self, change: &'a Change) {
        let (old, new) = (change.old_row(), change.new_row());
        if &*change.table != schema::MEMBERS {
            self.what = match (old, new) {
                (None, _) => "came",
                (_, None) => "went",
                _ => "changed",
            };
        }
        let Some(row) = new.or(old) else { return };
        for (name, _) in row.columns().iter().filter(|(name, _)| !PLACES.contains(&&***name)) {
            let elements = |row: Option<&'a std::sync::Arc<ovsdb::Row>>| {
                row.and_then(|row| row.datum(name).ok()).map(elements).unwrap_or_default()
            };
            let (before, now) = (elements(old), elements(new));
            let [came, went] = self.columns.entry(&**name).or_default();
            for element in now.difference(&before).filter(|element| !went.remove(*element)) {
                came.insert(element.clone());
            }
            for element in before.difference(&now).filter(|element| !came.remove(*element)) {
                went.insert(element.clone());
            }
        }
        self.columns.retain(|_, [came, went]| !(came.is_empty() && went.is_empty()));
    }

    fn line(&self) -> String {
        let Told { word, id, what, columns } = self;
        let mut line = format!("{word} {id} {what}");
        let mut separator = ": ";
        for (column, [came, went]) in columns {
            let signed = |sign, elements: &BTreeSet<String>| {
                elements.iter().map(|element| format!(" {sign}{element}")).collect::<String>()
            };
            line += &format!("{separator}{column}{}{}", signed('+', came), signed('-', went));
            separator = "; ";
        }
        line
    }

    fn json(&self) -> Value {
        let columns = self
            .columns
            .iter()
            .map(|(column, [came, went])| ((*column).to_owned(), json!({"came": came, "went": went})));
        let columns: serde_json::Map<_, _> = columns.collect();
        json!({"object": self.word, "id": self.id, "what": self.what, "columns": columns})
    }
}

/// The elements of a column in order, as people read them.
fn elements(datum: &Datum) -> BTreeSet<String> {
    let text = |atom: &Atom| match atom {
        Atom::String(text) => text.to_string(),
        atom => atom.to_string(),
    };
    match datum {
        Datum::Map(pairs) => {
            pairs.iter().map(|(key, value)| format!("{}={:?}", text(key), text(value))).collect()
        }
        datum => datum.atoms().map(text).filter(|text| !text.is_empty()).collect(),
    }
}
