//! `sgflow policy put`: the store is to hold exactly what a document says.

use std::io::{IsTerminal as _, stderr};
use std::path::PathBuf;

use agent::source::Documents;
use clap::Args;
use policy::Policy;
use policy::document::{Parsed, parse};
use serde_json::json;
use store::Held;

use super::scribe::{Conflict, Scribe, Written};
use super::{Place, get, wait};
use crate::exit::Exit;

/// Up to so many rows are one transaction; docs/store.md says why.
pub(super) const BATCH: usize = 10_000;

/// Make the store hold exactly what a document says
///
/// What differs is written, in one transaction: hosts take all of it at once. More rows than --batch are written in several,
/// in an order in which no port is without what it refers to. A document with anything that is refused is not written.
#[derive(Args, Debug)]
pub(super) struct Put {
    /// A document, or a directory of *.yaml, *.yml and *.json
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,

    #[command(flatten)]
    place: Place,

    /// Then wait until all hosts have it in force, or these
    #[arg(long, value_name = "HOSTS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    wait: Option<String>,

    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Objects that are refused stay as they are in the store, and the rest is written
    #[arg(long)]
    keep_going: bool,

    /// When somebody else writes meanwhile, begin again from what is there then
    #[arg(long)]
    retry: bool,

    /// How many rows are one transaction at most
    #[arg(long, value_name = "ROWS", default_value_t = BATCH, value_parser = at_least_one)]
    batch: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a number from 1".to_owned())
}

impl Put {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let Put { path, place, wait, dry_run, keep_going, retry, batch, json } = self;
        let documents = Documents::read(&path)?;
        let alone = parse(&documents.as_pairs(), None);
        tell(&alone);
        if alone.document_refused || !(keep_going || alone.diagnostics.is_empty()) {
            eprintln!("nothing was written");
            return Ok(Exit::Refused);
        }
        let (store, patience) = place.resolve()?;
        let mut scribe = Scribe::begin(&store, patience).await?;
        if !dry_run {
            scribe.prepare().await?;
        }
        let written = loop {
            let policy = if alone.diagnostics.is_empty() {
                alone.policy.clone()
            } else {
                parse(&documents.as_pairs(), Some(&policy_of(scribe.held())?)).policy
            };
            let all = scribe.want(&policy);
            if dry_run {
                let objects: Vec<String> = all.objects().collect();
                match json {
                    true => println!("{}", json!({"rows": all.rows, "objects": objects})),
                    false => objects.iter().for_each(|object| println!("{object}")),
                }
                eprintln!("would write {} rows{}", all.rows, several(all.rows, batch));
                return Ok(exit_of(&alone));
            }
            if all.rows > batch {
                eprintln!("{} rows{}", all.rows, several(all.rows, batch));
            }
            match scribe.write(batch, |written| progress(written, all.rows)).await {
                Ok(written) => break written,
                Err(error) if retry && error.is::<Conflict>() => {
                    eprintln!("{error}; once more from what is there now");
                    scribe.again()?;
                }
                Err(error) => return Err(error),
            }
        };
        match json {
            true => println!("{}", json!({"rows": written.rows, "transactions": written.transactions})),
            false if written.transactions == 0 => eprintln!("the store was so already"),
            false => eprintln!("wrote {written}"),
        }
        let exit = exit_of(&alone);
        let Some(hosts) = wait else { return Ok(exit) };
        let waited = wait::until_applied(&store, patience, &wait::names(&hosts), json).await?;
        Ok(if waited == Exit::Done { exit } else { waited })
    }
}

fn exit_of(parsed: &Parsed) -> Exit {
    if parsed.diagnostics.is_empty() { Exit::Done } else { Exit::Refused }
}

/// Everything that is wrong with the documents, at once.
pub(super) fn tell(parsed: &Parsed) {
    parsed.diagnostics.iter().for_each(|diagnostic| eprintln!("{diagnostic}"));
    parsed.refused.iter().for_each(|object| eprintln!("refused: {object}"));
}

/// What the rows that there are come to.
fn policy_of(held: &Held) -> anyhow::Result<Policy> {
    let (document, _) = held.document()?;
    Ok(parse(&[(get::STORE, &document.to_string())], None).policy)
}

fn several(rows: usize, limit: usize) -> String {
    if rows <= limit {
        return String::new();
    }
    format!(
        ", more than {limit}: not in one transaction, but in up to {}, between which hosts have a part of it",
        rows.div_ceil(limit)
    )
}

fn progress(written: Written, all: usize) {
    if !stderr().is_terminal() {
        return;
    }
    match written.rows < all {
        true => std::eprint!("\r{} of {all} rows ", written.rows),
        false => std::eprint!("\r\x1b[K"),
    }
}
