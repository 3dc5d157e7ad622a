//! `sgflow policy edit`: the policy in an editor.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use policy::document::{Parsed, parse};

use super::put::{BATCH, tell};
use super::scribe::{Conflict, Scribe};
use super::{Place, get};
use crate::exit::Exit;

/// Change the policy in an editor ($VISUAL, $EDITOR, vi)
///
/// What was changed is written when the editor ends, if nobody else has written since it began; if somebody has, or what was
/// written is not taken, the file stays and is named.
#[derive(Args, Debug)]
pub(super) struct Edit {
    #[command(flatten)]
    place: Place,
}

impl Edit {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let (store, patience) = self.place.resolve()?;
        let mut scribe = Scribe::begin(&store, patience).await?;
        scribe.prepare().await?;
        let (document, mut bad) = scribe.held().document()?;
        if bad.is_empty() {
            bad = get::unsaid(scribe.held(), &document);
        }
        if !bad.is_empty() {
            bad.iter().for_each(|bad| eprintln!("{bad}"));
            eprintln!(
                "the store has what its document does not say, and editing would lose it; `sgflow policy put` replaces it"
            );
            return Ok(Exit::Refused);
        }
        let before = get::yaml(&document)?;
        // Its mode is 0600.
        let mut file = tempfile::Builder::new().prefix("sgflow-policy-").suffix(".yaml").tempfile()?;
        file.write_all(before.as_bytes())?;
        let path = file.into_temp_path();
        let Some(parsed) = edited(&path, &before).await? else {
            eprintln!("nothing was changed");
            return Ok(Exit::Done);
        };
        if is_refused(&parsed) {
            return kept(path, Exit::Refused);
        }
        let all = scribe.want(&parsed.policy);
        if all.rows > BATCH {
            eprintln!("{} rows: not in one transaction", all.rows);
        }
        match scribe.write(BATCH, |_| ()).await {
            Ok(written) => eprintln!("wrote {written}"),
            Err(error) => {
                let exit = if error.is::<Conflict>() { Exit::Differs } else { Exit::Failed };
                eprintln!("sgflow: {error:#}");
                return kept(path, exit);
            }
        }
        Ok(Exit::Done)
    }
}

fn is_refused(parsed: &Parsed) -> bool {
    parsed.document_refused || !parsed.diagnostics.is_empty()
}

/// The work of somebody is not thrown away.
fn kept(path: tempfile::TempPath, exit: Exit) -> anyhow::Result<Exit> {
    let path = path.keep()?;
    eprintln!("nothing more is done; what was edited is in {}", path.display());
    Ok(exit)
}

/// What comes of it, edited again while it is refused and somebody wants to; none if it is as it was.
async fn edited(path: &Path, before: &str) -> anyhow::Result<Option<Parsed>> {
    loop {
        run_editor(path).await?;
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        if text == before {
            return Ok(None);
        }
        let parsed = parse(&[(&path.display().to_string(), &text)], None);
        if !is_refused(&parsed) {
            return Ok(Some(parsed));
        }
        tell(&parsed);
        if !wants_again().await? {
            return Ok(Some(parsed));
        }
    }
}

/// The session with the store goes on meanwhile.
async fn run_editor(path: &Path) -> anyhow::Result<()> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let Some(program) = words.next() else { bail!("no editor is named") };
    let mut command = Command::new(program);
    command.args(words).arg(path);
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let status = status.with_context(|| format!("the editor {editor:?}"))?;
    ensure!(status.success(), "the editor {editor:?} ended with {status}; nothing was written");
    Ok(())
}

async fn wants_again() -> anyhow::Result<bool> {
    if stderr().is_terminal() || !stdin().is_terminal() {
        eprint!("edit again? [Y/n] ");
    }
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        stdin().read_line(&mut answer).map(|length| (length, answer))
    });
    let (length, answer) = answer.await??;
    // The end of the input is nobody who wants anything.
    Ok(length > 0 && !answer.trim().eq_ignore_ascii_case("n"))
}
