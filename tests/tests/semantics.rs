//! docs/semantics.md is the law, each sentence with the tests that hold it. The law by itself is `fixtures/law.md`: who
//! changes a sentence changes it in both places, on purpose. Whether a test holds its sentence is for a reader to judge;
//! that there is one is judged here.

use std::fs;
use std::path::Path;

const LAW: &str = include_str!("../fixtures/law.md");
const PAGE: &str = include_str!("../../docs/semantics.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What the item below a sentence begins with; then come the tests that hold it, each in backticks.
const HELD_BY: &str = "- *held by*";

/// A sentence of the law and the tests under it: pages of `flows/cases`, and `FILE fn FUNCTION`.
#[derive(Debug, Default)]
struct Held {
    sentence: String,
    holders: Vec<String>,
}

/// What stands after the first heading of the second level; before it the page speaks of itself. Headings count as words
/// of the sentence that they stand before.
fn sentences(page: &str) -> Vec<Held> {
    let provisions = page.find("\n## ").map_or("", |start| &page[start..]);
    let mut all = vec![Held::default()];
    let mut lines = provisions.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let last = all.len() - 1;
        if let Some(first) = line.strip_prefix(HELD_BY) {
            // A sentence of the law that begins with a backtick stands behind an empty line or a list's marker.
            let mut holders = first.trim().to_owned();
            while let Some(more) = lines.next_if(|next| next.starts_with('`')) {
                holders = format!("{holders} {more}").trim().to_owned();
            }
            all[last].holders =
                holders.split(", ").map(|holder| holder.trim_matches('`').to_owned()).collect();
            all.push(Held::default());
        } else if !line.is_empty() {
            let sentence = &mut all[last].sentence;
            *sentence = format!("{sentence} {line}").trim().to_owned();
        }
    }
    all.retain(|held| !held.sentence.is_empty());
    all
}

/// Whether a sentence ends before the text does. The number of a list's item is no end.
fn holds_several(text: &str) -> bool {
    let is_number = |word: &str| word.trim_end_matches('.').parse::<u8>().is_ok();
    let ends = |word: &&str| !is_number(word) && [".", ".)", ".**"].iter().any(|end| word.ends_with(end));
    text.split_whitespace().filter(ends).count() > 1
}

/// Why a holder is none.
fn fault(holder: &str) -> Option<String> {
    let (path, function) = match holder.split_once(" fn ") {
        Some((path, function)) => (path, Some(function)),
        None => (holder, None),
    };
    let Ok(text) = fs::read_to_string(Path::new(ROOT).join(path)) else {
        return Some(format!("no file {path}"));
    };
    match function {
        None if path.starts_with("flows/cases/") && path.ends_with(".md") => None,
        None => Some(format!("{path} is no case, and no function is named")),
        Some(function) if is_test(&text, function) => None,
        Some(function) => Some(format!("no test {function} in {path}")),
    }
}

/// Whether a function of that name stands under an attribute that makes it a test, one that is run.
fn is_test(text: &str, function: &str) -> bool {
    let head = format!("fn {function}(");
    let mut is_marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if is_marked && line.trim_start_matches("async ").starts_with(&head) {
            return true;
        } else if line.starts_with("#[ignore") || !line.starts_with("#[") && !line.starts_with("//") {
            is_marked = false;
        }
    }
    false
}

#[test]
fn no_sentence_of_the_law_is_lost_or_changed() {
    let words = |page: &str| -> Vec<String> {
        let words = |held: &Held| held.sentence.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        sentences(page).iter().flat_map(words).collect()
    };
    let (law, page) = (words(LAW), words(PAGE));
    for (at, (law_word, page_word)) in law.iter().zip(&page).enumerate() {
        assert_eq!(law_word, page_word, "after: … {}", law[at.saturating_sub(12)..at].join(" "));
    }
    assert_eq!(law.len(), page.len(), "one goes on where the other ends");
    assert!(law.len() > 1000, "the law was read");
}

#[test]
fn every_sentence_has_tests_of_its_own_and_they_exist() {
    let mut faults = Vec::new();
    for held in sentences(PAGE) {
        let Held { sentence, holders } = &held;
        if holds_several(sentence) {
            faults.push(format!("more than one sentence over one list of tests: {sentence}"));
        }
        if holders.is_empty() {
            faults.push(format!("no test holds: {sentence}"));
        }
        faults.extend(holders.iter().filter_map(|holder| fault(holder)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_wrong_with_a_page_is_told() {
    let page =
        "# It\n\nOf itself.\n\n## A\n\n- One.\n  - *held by* `a.md`,\n    `b.rs fn c`\n- Two. Three.\n";
    let read = sentences(page);
    assert_eq!(read[0].sentence, "## A - One.");
    assert_eq!(read[0].holders, ["a.md", "b.rs fn c"]);
    assert!(
        !holds_several(&read[0].sentence)
            && !holds_several("2. One **(differs)**.")
            && holds_several(&read[1].sentence)
    );
    assert!(read[1].holders.is_empty());
    assert!(fault("flows/cases/no/such.md").is_some() && fault("README.md").is_some());
    assert!(fault("tests/tests/semantics.rs fn is_test").is_some(), "a function that is no test");
    let ignored = "#[test]\n#[ignore = \"fails\"]\nfn never() {}\n";
    assert!(is_test(&ignored.replace("#[ignore", "#[cfg"), "never") && !is_test(ignored, "never"));
    assert_eq!(fault("tests/tests/semantics.rs fn what_is_wrong_with_a_page_is_told"), None);
    assert_eq!(fault("flows/cases/vlan/tagged.md"), None);
}
