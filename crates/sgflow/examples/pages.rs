//! What describes the command, made from the command itself: `pages DIRECTORY` writes man pages to `DIRECTORY/man` and completions of bash, zsh and fish
//! to `DIRECTORY/completions`. `make package` packs them; no copy of them is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use roff::{Inline, Roff, bold, roman};

/// The settings, as people read them.
const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("say which directory"))?;
    write_man_pages(&directory.join("man"))?;
    write_completions(&directory.join("completions"))
}

fn write_man_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // `help` describes what the pages describe already.
    clap_mangen::generate_to(sgflow::command().disable_help_subcommand(true), directory)?;
    fs::write(directory.join("sgflow.toml.5"), settings_page()?)
}

fn write_completions(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut sgflow::command(), "sgflow", directory)?;
    }
    Ok(())
}

/// sgflow.toml(5): the example and the table of keys of docs/configuration.md.
fn settings_page() -> io::Result<String> {
    let lacking = |what: &str| io::Error::other(format!("docs/configuration.md has no {what}"));
    let (intro, rest) = CONFIGURATION.split_once("```toml\n").ok_or_else(|| lacking("example"))?;
    let (example, rest) = rest.split_once("```").ok_or_else(|| lacking("end of its example"))?;
    let intro = intro.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
    let mut page = Roff::new();
    page.control("TH", ["sgflow.toml", "5", "", &format!("sgflow {}", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]).text([roman("sgflow.toml - the settings of sgflow")]);
    page.control("SH", ["DESCRIPTION"]).text(inline(intro.trim()));
    page.control("SH", ["KEYS"]);
    let mut keys = 0;
    for line in rest.lines().filter(|line| line.starts_with("| `") && line.contains("SGFLOW_")) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [key, names, default, meaning] = cells[..] else {
            return Err(lacking("four cells in each line"));
        };
        page.control("TP", []).text([bold(key.trim_matches('`'))]);
        page.text(inline(meaning)).control("br", []);
        let default = if default.is_empty() { String::new() } else { format!(" Default: {default}.") };
        page.text(inline(&format!("Also {names}.{default}")));
        keys += 1;
    }
    if keys == 0 {
        return Err(lacking("table of keys"));
    }
    page.control("SH", ["EXAMPLE"]).control("nf", []);
    for line in example.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["FILES"]);
    page.text([bold("/etc/sgflow/sgflow.toml"), roman(", "), bold("/etc/sgflow/policy.d")]);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("sgflow"), roman("(1), "), bold("sgflow-agent"), roman("(1)")]);
    Ok(page.to_roff())
}

/// A line of Markdown: what is between backticks is bold, of a link its text stays.
fn inline(text: &str) -> Vec<Inline> {
    let text = without_links(text);
    let parts = text.split('`').enumerate();
    parts.map(|(number, part)| if number % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        match link.split_once("](").and_then(|(name, after)| Some((name, after.split_once(')')?.1))) {
            Some((name, after)) => {
                plain.push_str(name);
                rest = after;
            }
            None => {
                plain.push('[');
                rest = link;
            }
        }
    }
    plain + rest
}
