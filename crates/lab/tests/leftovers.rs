//! What is left of a lab whose process is killed, or which was meant to stay. Needs root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Datapath, FailMode, Mac, Ovs, OvsOptions, VmSpec, teardown};

/// Set for the process that is to be killed: then the test below starts a lab and waits for that.
const VICTIM: &str = "LAB_TEST_VICTIM";

const MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);

/// Plays the process that is killed; without [`VICTIM`] in the environment it has nothing to do.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let mut ovs = Ovs::start(OvsOptions::default()).unwrap();
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    let vm = ovs.add_vm(VmSpec::new("a", "p-1", MAC).address("10.0.0.1/24").unwrap()).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    ovs.start_daemon_in(&vm, "sleeper", sleep).unwrap();
    println!("\nrundir {}", ovs.rundir().display());
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_process_leaves_nothing() {
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "victim", "--nocapture", "--test-threads=1"]).env(VICTIM, "1");
    let mut victim = victim.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let rundir = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("rundir ").map(PathBuf::from));
    let rundir = rundir.expect("the victim starts its lab");
    let pids = processes_of(&rundir);
    assert_eq!(pids.len(), 4, "ovsdb-server, ovs-vswitchd, sleeper and the janitor: {pids:?}");

    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_until(|| processes_of(&rundir).is_empty() && !rundir.exists());
}

#[test]
fn a_kept_lab_stays_until_it_is_torn_down() {
    let prefix = format!("lab-test-{}", std::process::id());
    let mut ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: Some(prefix.clone()) }).unwrap();
    ovs.add_bridge("br-int", FailMode::Secure).unwrap();
    let vm = ovs.add_vm(VmSpec::new("a", "p-1", MAC).address("10.0.0.1/24").unwrap()).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    ovs.start_daemon_in(&vm, "sleeper", sleep).unwrap();
    drop(vm);
    let rundir = ovs.keep().unwrap();
    // Whatever fails below, the lab must go.
    let result = std::panic::catch_unwind(|| {
        assert_eq!(processes_of(&rundir).len(), 3);
        let show = Command::new("ip").args(["-n", &format!("{prefix}-a"), "addr"]).output().unwrap();
        assert!(String::from_utf8_lossy(&show.stdout).contains("10.0.0.1/24"));
        assert!(
            Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: Some(prefix.clone()) }).is_err(),
            "taken"
        );
    });
    teardown(&prefix).unwrap();
    wait_until(|| processes_of(&rundir).is_empty() && !rundir.exists());
    let names: Vec<_> = fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(&prefix)), "{names:?}");
    teardown(&prefix).expect("nothing to do is no error");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_named_lab_that_is_not_kept_goes_like_the_others() {
    let prefix = format!("lab-gone-{}", std::process::id());
    let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: Some(prefix.clone()) }).unwrap();
    let rundir = ovs.rundir().to_owned();
    drop(ovs);
    assert!(processes_of(&rundir).is_empty() && !rundir.exists());
    assert!(!Path::new("/run/netns").join(&prefix).exists());
    let nameless = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None }).unwrap();
    assert!(nameless.keep().is_err(), "a lab without a name cannot stay");
}

/// Every process that has the run directory in its arguments or its environment, this one aside.
fn processes_of(rundir: &Path) -> Vec<String> {
    let needle = rundir.to_str().expect("the path is plain");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == std::process::id().to_string() || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned();
        if text.contains(needle) {
            found.push(pid);
        }
    }
    found
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "still there after ten seconds");
        thread::sleep(Duration::from_millis(20));
    }
}
