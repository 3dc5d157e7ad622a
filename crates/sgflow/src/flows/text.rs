//! The page for people: groups of flows, what each is for, and below it what it matches and does.

use std::fmt::Write as _;

use explain::decode::{Decoded, Decoding, Subject, Term, Unread, Writer};

use crate::text::{cut, printable};

use super::By;
use super::source::Taken;
use super::view::{Counts, Group, chosen, groups};

/// Where what is said of a flow begins, behind its packets.
const INDENT: usize = 10;

/// Of a line that cannot be read, so many characters are shown.
const UNREAD: usize = 200;

/// How the page looks.
pub(super) struct Page {
    pub(super) columns: usize,
    pub(super) by: By,
    pub(super) is_brief: bool,
}

impl Page {
    pub(super) fn of(&self, taken: &Taken, decoding: &Decoding, subject: Option<&Subject>) -> String {
        let flows = chosen(decoding, subject);
        let mut text = String::new();
        for group in groups(&flows, decoding, self.by) {
            text += &self.group(&group);
        }
        for line in &taken.dump.unread {
            text += &self.unread(line);
        }
        text + &self.summary(taken, decoding, &flows, subject)
    }

    fn group(&self, group: &Group<'_>) -> String {
        let counts = Counts::of(group.flows.iter().copied());
        let title = format!("{}: {}{}", group.title, plural(counts.flows, "flow"), packets(&group.flows));
        let mut text = wrapped("", &title, 2, self.columns);
        for flow in &group.flows {
            text += &self.flow(flow);
        }
        text.push('\n');
        text
    }

    fn flow(&self, flow: &Decoded) -> String {
        let packets = flow.counters.map_or_else(|| "-".to_owned(), |counters| grouped(counters.packets));
        let first = format!("{packets:>width$}  ", width = INDENT - 2);
        let unknown = format!("not known here ({} flow)", flow.writer.name());
        let purpose = flow.purpose.as_deref().unwrap_or(&unknown);
        // Where the table is neither above nor below.
        let purpose = match self.is_brief && self.by != By::Table {
            true => format!("{}: {purpose}", flow.table),
            false => purpose.to_owned(),
        };
        let mut text = wrapped(&first, &purpose, INDENT, self.columns);
        if !self.is_brief {
            text += &self.what_it_says(flow);
        }
        if !flow.unnamed.is_empty() {
            let unnamed = format!("? nothing says what this is: {}", flow.unnamed.join(", "));
            text += &wrapped(&" ".repeat(INDENT), &unnamed, INDENT + 2, self.columns);
        }
        text
    }

    fn what_it_says(&self, flow: &Decoded) -> String {
        let indent = " ".repeat(INDENT);
        if flow.purpose.is_none() && flow.matches.is_empty() && flow.actions.is_empty() {
            return wrapped(&indent, &flow.text, INDENT + 2, self.columns);
        }
        let table = match (self.by, flow.table_name) {
            (By::Table, _) => String::new(),
            (_, Some(name)) => format!("{} {name} ", flow.table),
            (_, None) => format!("{} ", flow.table),
        };
        let said = in_full(flow.purpose.as_deref().unwrap_or_default());
        let words = |terms: &[Term]| {
            let words = terms.iter().map(Term::words).collect::<Vec<_>>().join(", ");
            said.iter().fold(words, |words, (full, short)| words.replace(full, short))
        };
        let mut head = format!("{table}priority {}{}", flow.priority, cookie(flow));
        if !flow.matches.is_empty() {
            head += &format!(": {}", words(&flow.matches));
        }
        let head = said.iter().fold(head, |head, (full, short)| head.replace(full, short));
        let mut text = wrapped(&indent, &head, INDENT + 2, self.columns);
        if !flow.actions.is_empty() {
            text += &wrapped(&format!("{indent}> "), &words(&flow.actions), INDENT + 2, self.columns);
        }
        text
    }

    fn unread(&self, line: &Unread) -> String {
        // It may be any file, and one line of it.
        let text = format!("line {} cannot be read: {}", line.number, cut(&line.reason, UNREAD));
        wrapped("", &text, 2, self.columns) + &format!("  {}\n", cut(&line.text, UNREAD))
    }

    fn summary(
        &self,
        taken: &Taken,
        decoding: &Decoding,
        flows: &[&Decoded],
        subject: Option<&Subject>,
    ) -> String {
        let (all, counts) = (decoding.flows.len(), Counts::of(flows.iter().copied()));
        let mut text = match subject {
            Some(subject) => {
                format!(
                    "{}: {} of {all} flows concern {}: ",
                    taken.place,
                    counts.flows,
                    subject.words(&decoding.names)
                )
            }
            None => format!("{}: {}: ", taken.place, plural(all, "flow")),
        };
        let writers = [
            (counts.sgflow, "sgflow"),
            (counts.neutron, "neutron"),
            (counts.openvswitch, "ovs-vswitchd's own"),
            (counts.other, "others"),
        ];
        let writers: Vec<String> = writers
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, who)| format!("{count} {who}"))
            .collect();
        text += &if writers.is_empty() { "none".to_owned() } else { writers.join(", ") };
        match counts.flows - counts.named {
            0 => text += "; all named",
            unnamed => _ = write!(text, "; {unnamed} not named in all they say"),
        }
        if !taken.dump.unread.is_empty() {
            _ = write!(text, "; {} could not be read", plural(taken.dump.unread.len(), "line"));
        }
        wrapped("", &text, 2, self.columns)
    }
}

/// The cookie by what it says; by its number where only that tells whose flow it is.
fn cookie(flow: &Decoded) -> String {
    match (&flow.cookie_means, flow.cookie, flow.writer) {
        (Some((kind, Some(object))), ..) if object.starts_with(kind) => format!(", cookie {object}"),
        (Some((kind, Some(object))), ..) => format!(", cookie {kind} {object}"),
        (Some((kind, None)), _, Writer::Sgflow) => format!(", cookie {kind}"),
        (None, Some(cookie), _) => format!(", cookie {cookie:#x}"),
        _ => String::new(),
    }
}

/// What a purpose names in full, `set 3 (database, ssh)`, each with what is enough below it, `set 3`.
fn in_full(purpose: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for kind in ["set ", "remote ", "conjunction "] {
        for (start, _) in purpose.match_indices(kind) {
            let tail = &purpose[start..];
            let Some(open) = tail[kind.len()..].find(|c: char| !c.is_ascii_digit()).map(|at| at + kind.len())
            else {
                continue;
            };
            let mut depth = 0;
            let end = tail[open..].find(|c: char| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                c == ')' && depth == 0
            });
            if let (true, Some(end)) = (tail[open..].starts_with(" ("), end) {
                found.push((&tail[..=open + end], &tail[..open]));
            }
        }
    }
    found
}

fn plural(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{} {what}s", grouped(count as u64)),
    }
}

fn packets(flows: &[&Decoded]) -> String {
    let counters: Vec<u64> =
        flows.iter().filter_map(|flow| flow.counters).map(|counters| counters.packets).collect();
    match counters.is_empty() {
        true => String::new(),
        false => match counters.iter().sum() {
            1 => ", 1 packet".to_owned(),
            sum => format!(", {} packets", grouped(sum)),
        },
    }
}

/// `12,345`; from a hundred million on, millions.
fn grouped(number: u64) -> String {
    const MANY: u64 = 100_000_000;
    let (number, unit) = if number >= MANY { (number / 1_000_000, "M") } else { (number, "") };
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + unit
}

/// Words behind what the first line begins with, in lines of at most so many columns; what is longer than a line stays whole.
fn wrapped(first: &str, words: &str, indent: usize, columns: usize) -> String {
    let mut text = first.to_owned();
    let mut used = first.chars().count();
    let mut is_begun = false;
    for word in printable(words).split_whitespace() {
        let length = word.chars().count();
        if is_begun && used + 1 + length > columns {
            _ = write!(text, "\n{}", " ".repeat(indent));
            used = indent;
            is_begun = false;
        }
        if is_begun {
            text.push(' ');
            used += 1;
        }
        text += word;
        used += length;
        is_begun = true;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_longer_than_the_terminal_is_wide() {
        let text = wrapped("   12  ", "web-1 may send IPv4 from 10.0.0.11 with MAC fa:16:3e:00:10:11", 7, 30);
        assert_eq!(
            text,
            "   12  web-1 may send IPv4\n       from 10.0.0.11 with MAC\n       fa:16:3e:00:10:11\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 30));
        assert_eq!(wrapped("", "2001:db8:0000:0000:0000:0000:0000:0001", 2, 10).lines().count(), 1);
    }

    #[test]
    fn what_is_named_in_full_is_short_below() {
        let purpose = "ingress rule of set 3 (a, b (c)): tcp/80 from remote 2 (web) and set 3";
        assert_eq!(in_full(purpose), [("set 3 (a, b (c))", "set 3"), ("remote 2 (web)", "remote 2")]);
        assert_eq!(in_full("set 3 of others (a)"), []);
    }

    #[test]
    fn numbers_are_grouped_and_keep_to_their_column() {
        let numbers = [0, 999, 1000, 99_999_999, 100_000_000, u64::MAX];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "99,999,999", "100M", "18,446,744,073,709M"]);
    }
}
