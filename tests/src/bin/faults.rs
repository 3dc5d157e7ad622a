//! `make faults`: makes each fault of `tests/faults.toml` in a copy of the repository, builds it and runs the checks.
//! Fails if a fault survives, cannot be built, or is no longer seen by a check that the list names; `SGFLOW_BLESS=1`
//! writes what was seen into the list. With names of faults: those alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, thread};

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::faults::{Fault, List, Run, with_results};

const LIST: &str = "tests/faults.toml";

/// Set: what was seen is written into the list.
const BLESS: &str = "SGFLOW_BLESS";

/// Set: a fault that was seen is shown to the other checks too.
const THOROUGH: &str = "SGFLOW_EVERY_CHECK";

/// The name of the copy without a fault.
const SOUND: &str = "sound";

/// Chance is the same for each fault; what fails is not made small, and not remembered for the next fault.
const CHANCE: [(&str, &str); 3] = [
    ("PROPTEST_RNG_SEED", "1"),
    ("PROPTEST_MAX_SHRINK_ITERS", "0"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
];

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let text = fs::read_to_string(root.join(LIST)).context(LIST)?;
    let list = List::parse(&text).context(LIST)?;
    let only: BTreeSet<String> = env::args().skip(1).collect();
    let bench = Bench::new(&root, &list)?;

    let sound = bench.look(&list, None)?.seeing;
    ensure!(sound.is_empty(), "without a fault these fail: {sound:?}; see {}", bench.logs().display());
    let mut seen = BTreeMap::new();
    let mut complaints = Vec::new();
    for fault in list.fault.iter().filter(|fault| only.is_empty() || only.contains(&fault.name)) {
        let sight = bench.with_fault(fault, || bench.look(&list, Some(fault)))?;
        println!("{}: {}", fault.name, sight.seeing.iter().cloned().collect::<Vec<_>>().join(", "));
        let corrected = sight.applied_to(fault);
        if !list.is_caught(&corrected) {
            complaints.push(format!("{} survives", fault.name));
        }
        let blind = fault.caught.intersection(&sight.blind);
        complaints.extend(blind.map(|check| format!("{} is not seen by {check} any more", fault.name)));
        seen.insert(fault.name.clone(), corrected.caught);
        if env::var_os(BLESS).is_some() {
            fs::write(root.join(LIST), with_results(&text, &seen))?;
        }
    }
    println!("{} faults, {} complaints", seen.len(), complaints.len());
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the checks said that were run.
#[derive(Default)]
struct Sight {
    seeing: BTreeSet<String>,
    blind: BTreeSet<String>,
}

impl Sight {
    /// What the list says, corrected by what was seen now.
    fn applied_to(&self, fault: &Fault) -> Fault {
        let caught = fault.caught.difference(&self.blind).chain(&self.seeing).cloned().collect();
        Fault { caught, ..fault.clone() }
    }
}

/// A copy of the repository, its build and its logs, all under `target/faults`. The build stays for the next time; the
/// copy is made anew each time, because cargo tells by a file's time whether it has to build again.
struct Bench {
    place: PathBuf,
    /// All packages that have a check.
    packages: BTreeSet<String>,
    /// Every check is run on every fault.
    is_thorough: bool,
}

impl Bench {
    fn new(root: &Path, list: &List) -> anyhow::Result<Self> {
        let packages = list.runs().map(|run| run.package_name().to_owned()).collect();
        let bench = Bench {
            place: root.join("target/faults"),
            packages,
            is_thorough: env::var_os(THOROUGH).is_some(),
        };
        bench.clear()?;
        fs::create_dir_all(bench.logs())?;
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("git ls-files")?;
        ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        for path in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let (from, to) = (root.join(path), bench.tree().join(path));
            if from.is_file() {
                fs::create_dir_all(to.parent().context("a file stands in a folder")?)?;
                // Written, not copied: a copy may keep the time.
                fs::write(&to, fs::read(&from)?).with_context(|| format!("copying {path}"))?;
            }
        }
        Ok(bench)
    }

    fn tree(&self) -> PathBuf {
        self.place.join("tree")
    }

    fn logs(&self) -> PathBuf {
        self.place.join("logs")
    }

    fn clear(&self) -> anyhow::Result<()> {
        for folder in [self.tree(), self.logs()].iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }

    fn with_fault<T>(&self, fault: &Fault, look: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let path = self.tree().join(&fault.file);
        let sound = fs::read_to_string(&path).with_context(|| fault.file.clone())?;
        fs::write(&path, fault.applied_to(&sound)?)?;
        let seen = look();
        fs::write(&path, sound)?;
        seen
    }

    /// Which checks fail on the copy as it is: with a fault, up to the first that counts, unless all are asked for.
    fn look(&self, list: &List, fault: Option<&Fault>) -> anyhow::Result<Sight> {
        let name = fault.map_or(SOUND, |fault| &fault.name);
        let mut sight = Sight::default();
        for check in &list.check {
            let runs: Vec<&Run> =
                check.run.iter().filter(|run| fault.is_none_or(|fault| run.is_of(fault))).collect();
            if runs.is_empty() {
                continue;
            }
            let sees = self.sees(&runs, name).with_context(|| format!("{name}, {}", check.name))?;
            if sees { &mut sight.seeing } else { &mut sight.blind }.insert(check.name.clone());
            if fault.is_some() && sees && !check.is_snapshot && !self.is_thorough {
                break;
            }
        }
        Ok(sight)
    }

    /// Whether any of the runs fails.
    fn sees(&self, runs: &[&Run], name: &str) -> anyhow::Result<bool> {
        let built = self.build(runs)?;
        let failed: Vec<anyhow::Result<bool>> = thread::scope(|scope| {
            let running: Vec<_> = runs
                .iter()
                .zip(&built)
                .map(|(run, executable)| scope.spawn(|| self.fails(run, executable, name)))
                .collect();
            running.into_iter().map(|run| run.join().expect("a run of a check does not panic")).collect()
        });
        failed.into_iter().try_fold(false, |any, failed| Ok(any | failed?))
    }

    fn fails(&self, run: &Run, executable: &Path, fault: &str) -> anyhow::Result<bool> {
        let target = run.test.as_deref().unwrap_or("lib");
        let only = run.only.as_deref().unwrap_or("all").trim_end_matches("::");
        let log = self.logs().join(format!("{fault}.{}.{target}.{only}", run.package_name()));
        let log = File::create(log)?;
        let status = Command::new(executable)
            .args(&run.only)
            .current_dir(self.tree().join(&run.package))
            .envs(CHANCE)
            // That is for the list here, not for the pages there.
            .env_remove(BLESS)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .with_context(|| executable.display().to_string())?;
        Ok(!status.success())
    }

    /// Builds all tests at once; gives the executable of each run.
    fn build(&self, runs: &[&Run]) -> anyhow::Result<Vec<PathBuf>> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--no-run", "--locked", "--message-format=json-render-diagnostics"]);
        // Built often, run once.
        cargo.args(["--config", "profile.dev.debug=0", "--config", "profile.dev.package.verify.opt-level=1"]);
        // All packages, where no tests beside the code are built: then libraries of others are the same for each check.
        let of_all =
            self.packages.iter().map(String::as_str).filter(|_| runs.iter().all(|run| run.test.is_some()));
        let packages: BTreeSet<&str> = runs.iter().map(|run| run.package_name()).chain(of_all).collect();
        for package in packages {
            cargo.args(["-p", package]);
        }
        let targets: BTreeSet<Option<&str>> = runs.iter().map(|run| run.test.as_deref()).collect();
        for target in targets {
            match target {
                Some(test) => cargo.args(["--test", test]),
                None => cargo.arg("--lib"),
            };
        }
        let log = File::create(self.logs().join("build"))?;
        let built = cargo
            .current_dir(self.tree())
            .env("CARGO_TARGET_DIR", self.place.join("build"))
            .stdout(Stdio::piped())
            .stderr(log)
            .output()?;
        ensure!(built.status.success(), "does not build; see {}", self.logs().join("build").display());
        let messages = String::from_utf8(built.stdout)?;
        let artifacts = messages.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        runs.iter()
            .map(|run| {
                let executable = artifacts.iter().find_map(|artifact| self.executable(artifact, run));
                executable.with_context(|| format!("cargo built nothing of {}", run.source()))
            })
            .collect()
    }

    /// The executable that a message of cargo speaks of, if it is that of the run.
    fn executable(&self, artifact: &Value, run: &Run) -> Option<PathBuf> {
        let source = self.tree().join(run.source());
        let is_of_run = Path::new(artifact["target"]["src_path"].as_str()?) == source;
        artifact["executable"].as_str().filter(|_| is_of_run).map(PathBuf::from)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.tree());
    }
}
