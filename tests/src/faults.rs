//! Seeded faults: `tests/faults.toml` lists single-point changes of the renderer, the evaluator and what judges them, the
//! checks that are run on each, and which of them see it. `docs/faults.md` shows the list; `src/bin/faults.rs` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

/// All checks and faults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The columns of the table, in order.
    pub check: Vec<Check>,
    /// Its rows, in order.
    pub fault: Vec<Fault>,
}

/// A way in which a fault can be seen: tests that are run together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// One word.
    pub name: String,
    /// What it compares with what.
    pub what: String,
    /// It sees that something changed, not that it is wrong: alone it does not count.
    #[serde(default)]
    pub is_snapshot: bool,
    /// Its tests.
    pub run: Vec<Run>,
}

/// Tests of one executable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Folder of the package, from the root of the repository.
    pub package: String,
    /// The integration test; none: the tests beside the code.
    #[serde(default)]
    pub test: Option<String>,
    /// Only tests whose names hold this.
    #[serde(default)]
    pub only: Option<String>,
    /// Files and folders whose faults they can see at all; they are run on these.
    pub of: Vec<String>,
}

/// A change of one place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A few words with dashes, unique.
    pub name: String,
    /// The file, from the root of the repository.
    pub file: String,
    /// The text there, which occurs once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
    /// The words of the law that it breaks.
    pub law: String,
    /// What it would mean to a tenant, or to who relies on a check.
    pub means: String,
    /// The checks that see it.
    pub caught: BTreeSet<String>,
}

/// Why a fault cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{fault}: {file} has the text {count} times, not once:\n{find}")]
pub struct NotOnce {
    fault: String,
    file: String,
    count: usize,
    find: String,
}

impl List {
    /// Reads the list.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The part of `docs/faults.md` that the list makes: the checks, then a row for each fault.
    pub fn tables(&self) -> String {
        let mut out = String::from("| check | compares | run |\n|---|---|---|\n");
        let mut line = |text: String| writeln!(out, "{text}").expect("a String takes any text");
        for check in &self.check {
            let runs: Vec<String> = check.run.iter().map(Run::command).collect();
            line(format!("| {} | {} | {} |", check.name, check.what, runs.join(", ")));
        }
        let names: Vec<&str> = self.check.iter().map(|check| check.name.as_str()).collect();
        line(format!("\n| fault | means | {} |", names.join(" | ")));
        line(format!("|---|---|{}", ":-:|".repeat(names.len())));
        for fault in &self.fault {
            let mark = |check: &Check| match fault.caught.contains(&check.name) {
                true => "x",
                false if check.is_of(fault) => "",
                false => "–",
            };
            let marks: Vec<&str> = self.check.iter().map(mark).collect();
            let Fault { name, file, means, .. } = fault;
            line(format!("| {name} (`{file}`) | {means} | {} |", marks.join(" | ")));
        }
        out
    }

    /// Whether the fault is seen by a check that knows what is right.
    pub fn is_caught(&self, fault: &Fault) -> bool {
        self.check.iter().any(|check| !check.is_snapshot && fault.caught.contains(&check.name))
    }

    /// All runs of all checks.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.check.iter().flat_map(|check| &check.run)
    }
}

impl Check {
    /// Whether it is run on the fault.
    pub fn is_of(&self, fault: &Fault) -> bool {
        self.run.iter().any(|run| run.is_of(fault))
    }
}

impl Run {
    /// Whether it is run on the fault.
    pub fn is_of(&self, fault: &Fault) -> bool {
        self.of.iter().any(|part| Path::new(&fault.file).starts_with(part))
    }

    /// Source of the executable, from the root of the repository.
    pub fn source(&self) -> String {
        match &self.test {
            Some(test) => format!("{}/tests/{test}.rs", self.package),
            None => format!("{}/src/lib.rs", self.package),
        }
    }

    /// Name of the package.
    pub fn package_name(&self) -> &str {
        self.package.rsplit('/').next().unwrap_or_default()
    }

    fn command(&self) -> String {
        let target = self.test.as_ref().map_or("--lib".to_owned(), |test| format!("--test {test}"));
        let only = self.only.iter().map(|only| format!(" {only}"));
        format!("`-p {} {target}{}`", self.package_name(), only.collect::<String>())
    }
}

impl Fault {
    /// The file with the fault in it.
    ///
    /// # Errors
    /// [`NotOnce`].
    pub fn applied_to(&self, text: &str) -> Result<String, NotOnce> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            count => {
                let (fault, file, find) = (self.name.clone(), self.file.clone(), self.find.clone());
                Err(NotOnce { fault, file, count, find })
            }
        }
    }
}

/// The list with what was seen now: each line that begins with `caught` anew. The name of a fault is its first line; others
/// may stand in the texts to find.
pub fn with_results(text: &str, seen: &BTreeMap<String, BTreeSet<String>>) -> String {
    let (mut checks, mut is_first) = (None, false);
    let mut lines = String::new();
    for line in text.lines() {
        if is_first {
            checks = line.strip_prefix("name = ").and_then(|name| seen.get(name.trim_matches('"')));
        }
        is_first = line == "[[fault]]";
        match checks {
            Some(checks) if line.starts_with("caught = ") => {
                let checks: Vec<&String> = checks.iter().collect();
                lines += &format!("caught = {checks:?}\n");
            }
            _ => lines += &format!("{line}\n"),
        }
    }
    lines
}

/// The page with the tables of the list in the place of those that it has.
pub fn with_tables(page: &str, list: &List) -> String {
    let (before, _) = page.split_once(BEGIN).unwrap_or((page, ""));
    let (_, after) = page.split_once(END).unwrap_or(("", ""));
    format!("{before}{BEGIN}\n{}{END}{after}", list.tables())
}

const BEGIN: &str = "<!-- made of tests/faults.toml -->";
const END: &str = "<!-- until here -->";
