//! `sgflow policy get`: what is in the store, as a document.

use agent::config::Store;
use anyhow::Context as _;
use clap::Args;
use ovsdb::{Condition, MonitorTable};
use policy::Policy;
use policy::document::parse;
use serde_json::Value;
use std::time::Duration;
use store::{Held, Writer, schema};

use super::Place;
use super::following::Following;
use crate::exit::Exit;

/// What the store's document is called where something in it is wrong.
pub(super) const STORE: &str = "store";

/// Print the policy in the store, or some of its objects, as a document; exit 2 if something in the store is no policy
#[derive(Args, Debug)]
pub(super) struct Get {
    /// Ids of security groups, address groups or ports; without any, everything
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// The security group of this id
    #[arg(long = "group", value_name = "ID")]
    groups: Vec<String>,

    /// The address group of this id
    #[arg(long = "address-group", value_name = "ID")]
    address_groups: Vec<String>,

    /// The port of this id
    #[arg(long = "port", value_name = "ID")]
    ports: Vec<String>,

    #[command(flatten)]
    place: Place,

    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

impl Get {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let Get { ids, groups, address_groups, ports, place, json } = self;
        let (store, patience) = place.resolve()?;
        let named = [
            (schema::SECURITY_GROUP, [&ids[..], &groups[..]].concat()),
            (schema::ADDRESS_GROUP, [&ids[..], &address_groups[..]].concat()),
            (schema::PORT, [&ids[..], &ports[..]].concat()),
        ];
        let is_all = named.iter().all(|(_, ids)| ids.is_empty());
        let mut tables: Vec<_> = named.into_iter().filter(|(_, ids)| is_all || !ids.is_empty()).collect();
        if is_all {
            // What a document says of a group is in its own row; this is for what no document says.
            tables.push((schema::MEMBERS, Vec::new()));
        }
        let held = read(&store, patience, tables).await?;
        let (document, mut bad) = held.document()?;
        match json {
            true => println!("{document:#}"),
            false => print!("{}", yaml(&document)?),
        }
        if is_all && bad.is_empty() {
            bad.extend(unsaid(&held, &document));
        }
        bad.extend(missing(&document, &ids, &groups, &address_groups, &ports));
        bad.iter().for_each(|bad| eprintln!("{bad}"));
        Ok(if bad.is_empty() { Exit::Done } else { Exit::Refused })
    }
}

/// The document in YAML.
pub(super) fn yaml(document: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(document).context("the document as YAML")
}

async fn read(
    store: &Store,
    patience: Duration,
    tables: Vec<(&'static str, Vec<String>)>,
) -> anyhow::Result<Held> {
    let monitors = tables.into_iter().map(|(table, ids)| {
        let conditions = ids.iter().map(|id| Condition::equal("id", id.as_str()));
        conditions.fold(MonitorTable::all_columns(table), MonitorTable::matching)
    });
    let mut following = Following::begin(store, monitors.collect())?;
    let mut held = Held::default();
    following.changes(patience).await?.iter().try_for_each(|change| held.see(change))?;
    Ok(held)
}

/// What the store has that its document does not say: what is wrong with it, and what a `put` of the document would change.
pub(super) fn unsaid(held: &Held, document: &Value) -> Vec<String> {
    let parsed = parse(&[(STORE, &document.to_string())], None);
    let mut unsaid: Vec<String> = parsed
        .diagnostics
        .iter()
        .map(|wrong| format!("{}: {}: {}", wrong.object, wrong.field, wrong.reason))
        .collect();
    if !unsaid.is_empty() {
        return unsaid;
    }
    let mut writer = Writer::holding(held.clone());
    writer.apply(&Policy::diff(&Policy::default(), &parsed.policy), |port| held.hosts(&port.id));
    writer.compare_all();
    if let Some(batch) = writer.batch(usize::MAX) {
        unsaid.extend(batch.objects().map(|object| format!("{object}: no document says this of it")));
    }
    unsaid
}

/// Objects that were named and are not there.
fn missing<'a>(
    document: &'a Value,
    ids: &'a [String],
    groups: &'a [String],
    address_groups: &'a [String],
    ports: &'a [String],
) -> Vec<String> {
    let is_in = |kind: &str, id: &String| {
        document[kind].as_array().is_some_and(|objects| objects.iter().any(|object| object["id"] == **id))
    };
    let kinds = ["security_groups", "address_groups", "ports"];
    let anywhere = ids.iter().filter(|id| !kinds.iter().any(|kind| is_in(kind, id)));
    let mut missing: Vec<String> = anywhere.map(|id| format!("{id}: not in the store")).collect();
    let named = [
        ("security group", kinds[0], groups),
        ("address group", kinds[1], address_groups),
        ("port", kinds[2], ports),
    ];
    for (word, kind, ids) in named {
        missing.extend(
            ids.iter().filter(|id| !is_in(kind, id)).map(|id| format!("{word} {id}: not in the store")),
        );
    }
    missing
}
