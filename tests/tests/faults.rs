//! The list of seeded faults cannot rot: each can still be made, names what breaks in the words of the law, and is seen by
//! checks that exist; docs/faults.md shows the list. `make faults` makes them and looks who sees them.
//! After a change of the list: `SGFLOW_BLESS=1 cargo test -p tests --test faults`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tests::faults::{List, with_results, with_tables};

const LIST: &str = include_str!("../faults.toml");
const LAW: &str = include_str!("../fixtures/law.md");

fn list() -> List {
    List::parse(LIST).expect("the list can be read")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_fault_can_be_made_in_one_place() {
    let list = list();
    assert!(list.fault.len() >= 25);
    let names: BTreeSet<&str> = list.fault.iter().map(|fault| fault.name.as_str()).collect();
    assert_eq!(names.len(), list.fault.len(), "two faults of one name");
    for fault in &list.fault {
        let text = read(&fault.file);
        let changed = fault.applied_to(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(changed, text, "{}: changes nothing", fault.name);
    }
}

#[test]
fn every_fault_breaks_words_of_the_law() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let law = words(LAW);
    for fault in &list().fault {
        assert!(!fault.law.is_empty() && law.contains(&words(&fault.law)), "{}: {}", fault.name, fault.law);
    }
}

#[test]
fn every_fault_is_seen_by_a_check_that_exists() {
    let list = list();
    for fault in &list.fault {
        assert!(list.is_caught(fault), "{} survives", fault.name);
        for name in &fault.caught {
            let check = list.check.iter().find(|check| check.name == *name);
            assert!(check.is_some_and(|check| check.is_of(fault)), "{}: {name}", fault.name);
        }
    }
    for run in list.runs() {
        let source = read(&run.source());
        let module = run.only.as_deref().map(|only| only.trim_end_matches("::"));
        let has = |name: &str| {
            [format!("fn {name}("), format!("mod {name};")].iter().any(|item| source.contains(item))
        };
        assert!(module.is_none_or(has), "no {module:?} in {}", run.source());
    }
}

#[test]
fn the_page_shows_the_list() {
    let page = read("docs/faults.md");
    let shown = with_tables(&page, &list());
    if std::env::var_os("SGFLOW_BLESS").is_some() {
        fs::write(root().join("docs/faults.md"), shown).expect("docs/faults.md can be written");
    } else {
        assert!(page == shown, "docs/faults.md is stale: SGFLOW_BLESS=1 cargo test -p tests --test faults");
    }
}

#[test]
fn a_list_is_read_applied_and_written() {
    let text = "[[check]]\nname = \"a\"\nwhat = \"b\"\nrun = [{ package = \"crates/x\", only = \"y::\", of = [\"g\"] }]\n\n\
                [[fault]]\nname = \"f\"\nfile = \"g\"\nfind = '''\nname = \"one\"'''\nreplace = \"two\"\nlaw = \"l\"\nmeans = \"m\"\n\
                caught = []\n";
    let list = List::parse(text).expect("a list");
    let fault = &list.fault[0];
    assert!(!list.is_caught(fault));
    assert_eq!(fault.applied_to("a\nname = \"one\"\nb").as_deref(), Ok("a\ntwo\nb"));
    for text in ["name = one", "name = \"one\" name = \"one\""] {
        assert!(fault.applied_to(text).is_err(), "{text}");
    }
    let seen = BTreeMap::from([("f".to_owned(), BTreeSet::from(["a".to_owned()]))]);
    let written = with_results(text, &seen);
    assert_eq!(written, text.replace("caught = []", "caught = [\"a\"]"));
    let list = List::parse(&written).expect("a list");
    assert!(list.is_caught(&list.fault[0]));
    assert!(list.tables().contains("| a | b | `-p x --lib y::` |"));
    assert!(list.tables().ends_with("| f (`g`) | m | x |\n"));
}
