//! `sgflow policy watch`: changes as they happen.

use std::collections::BTreeMap;
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

/// Print what changes in the store, a line an object, until interrupted
#[derive(Args, Debug)]
pub(super) struct Watch {
    #[command(flatten)]
    place: Place,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Tables, and what a row of each is called.
const TABLES: [(&str, &str); 3] = [
    (schema::SECURITY_GROUP, "security group"),
    (schema::ADDRESS_GROUP, "address group"),
    (schema::PORT, "port"),
];

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let (store, patience) = self.place.resolve()?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let monitors = TABLES.iter().map(|(table, _)| MonitorTable::all_columns(*table)).collect();
        let mut following = Following::begin(&store, monitors)?;
        let rows = following.changes(patience).await?.len();
        eprintln!("watching {rows} objects");
        loop {
            let changes = tokio::select! {
                changes = following.changes(Duration::MAX) => changes?,
                _ = terminate.recv() => return Ok(Exit::Done),
                _ = interrupt.recv() => return Ok(Exit::Done),
            };
            let mut out = stdout().lock();
            for told in changes.iter().filter_map(Told::of) {
                let line = if self.json { told.json().to_string() } else { told.line() };
                // Who reads has gone, as head(1) does.
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
    columns: BTreeMap<&'a str, [Vec<String>; 2]>,
}

impl<'a> Told<'a> {
    fn of(change: &'a Change) -> Option<Self> {
        let (_, word) = TABLES.iter().find(|(table, _)| *table == &*change.table)?;
        let (old, new) = (change.old_row(), change.new_row());
        let row = new.or(old)?;
        let what = match (old, new) {
            (None, _) => "came",
            (_, None) => "went",
            _ => "changed",
        };
        let mut columns = BTreeMap::new();
        for (name, _) in row.columns().iter().filter(|(name, _)| &***name != "id") {
            let elements = |row: Option<&'a std::sync::Arc<ovsdb::Row>>| {
                row.and_then(|row| row.datum(name).ok()).map(elements).unwrap_or_default()
            };
            let (before, now) = (elements(old), elements(new));
            let but = |some: &[String], others: &[String]| -> Vec<String> {
                some.iter().filter(|element| others.binary_search(element).is_err()).cloned().collect()
            };
            let [came, went] = [but(&now, &before), but(&before, &now)];
            if !(came.is_empty() && went.is_empty()) {
                columns.insert(&**name, [came, went]);
            }
        }
        Some(Told { word, id: row.string("id").ok()?, what, columns })
    }

    fn line(&self) -> String {
        let Told { word, id, what, columns } = self;
        let mut line = format!("{word} {id} {what}");
        let mut separator = ": ";
        for (column, [came, went]) in columns {
            let signed = |sign, elements: &[String]| {
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
fn elements(datum: &Datum) -> Vec<String> {
    let text = |atom: &Atom| match atom {
        Atom::String(text) => text.to_string(),
        atom => atom.to_string(),
    };
    let mut elements: Vec<String> = match datum {
        Datum::Map(pairs) => {
            pairs.iter().map(|(key, value)| format!("{}={:?}", text(key), text(value))).collect()
        }
        datum => datum.atoms().map(text).filter(|text| !text.is_empty()).collect(),
    };
    elements.sort();
    elements
}
