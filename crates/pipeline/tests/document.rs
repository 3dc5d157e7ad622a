//! `docs/pipeline.md` is `flows/pipeline.toml` for people, followed by `flows/reading-guide.md`.
//! After a change of either: `UPDATE_EXPECT=1 cargo test -p pipeline --test document`.

use std::fmt::Write as _;

use pipeline::{Hook, LAYOUT};

fn document(reading_guide: &str) -> String {
    let mut out = String::from(
        "# The flow pipeline\n\n\
         Generated from `flows/pipeline.toml` and `flows/reading-guide.md` by \
         `UPDATE_EXPECT=1 cargo test -p pipeline --test document`; the tests fail when it is stale.\n\n",
    );
    let mut line = |text: &str| writeln!(out, "{text}").expect("a String takes any text");
    line("## Tables\n");
    for table in LAYOUT.tables {
        line(&format!("- **{} `{}`**: {}", table.id, table.name, table.doc));
    }
    line("\n## Registers\n\n| field | holds | |\n|---|---|---|");
    for (field, name, doc) in LAYOUT.registers {
        line(&format!("| `{field}` | {name} | {doc} |"));
    }
    line("\n`ct_mark` is the generation under which the connection was admitted; 0 is unproven.");
    line(&format!("\n## Cookies\n\n{}\n\n| kind | | object |\n|---|---|---|", LAYOUT.cookie));
    for (id, name, doc) in LAYOUT.kinds {
        line(&format!("| {id:#04x} | {name} | {doc} |"));
    }
    line("\n## Drop reasons\n\n| `reg10` | reason | |\n|---|---|---|");
    for (id, name, doc) in LAYOUT.reasons {
        line(&format!("| {id:#x} | {name} | {doc} |"));
    }
    line("\n## Table by table\n");
    for table in LAYOUT.tables {
        line(&format!("### {} {}\n\n{}\n", table.id, table.name, table.doc));
        line("| priority | slot | matches | does |\n|---|---|---|---|");
        for slot in table.slots {
            line(&format!(
                "| {} | {} | {} | {} |",
                slot.priority,
                slot.name,
                cell(slot.matches),
                cell(slot.action)
            ));
        }
        line("");
    }
    out + reading_guide
}

fn cell(text: &str) -> String {
    // In a code span, or <port> would be taken for HTML.
    if text.is_empty() { "any".to_owned() } else { format!("`{text}`") }
}

#[test]
fn the_document_says_what_the_declaration_says() {
    let guide = include_str!("../../../flows/reading-guide.md");
    expect_test::expect_file!["../../../docs/pipeline.md"].assert_eq(&document(guide));
}

#[test]
fn every_quoted_flow_is_one_of_the_demo() {
    let demo: Vec<&str> = include_str!("../../../docs/examples/demo.flows").lines().map(str::trim).collect();
    let guide = include_str!("../../../flows/reading-guide.md");
    let quoted: Vec<&str> = guide.lines().filter(|line| line.starts_with("cookie=")).collect();
    assert!(!quoted.is_empty());
    for line in quoted {
        assert!(demo.contains(&line), "not a flow of the demo: {line}");
    }
    assert!(guide.contains(&format!("{} of them", demo.len())), "the demo has {} flows", demo.len());
}

#[test]
fn tables_and_priorities_are_declared_in_order_and_once() {
    for pair in LAYOUT.tables.windows(2) {
        assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].name, pair[1].name);
    }
    for table in LAYOUT.tables {
        let is_hook = [Hook::Bridge, Hook::Transient].map(Hook::table).contains(&table.id);
        assert!(is_hook || table.id >= 100, "{}: Neutron's agent clears its own tables", table.name);
        for pair in table.slots.windows(2) {
            assert!(
                pair[0].priority > pair[1].priority,
                "{}: {} and {}",
                table.name,
                pair[0].name,
                pair[1].name
            );
        }
    }
}
