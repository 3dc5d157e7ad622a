//! Text for people: lines as wide as their terminal, which does nothing but show them.
//!
//! Names of groups come from tenants, lines of a dump from anybody, and a terminal obeys what is in them. So all that this crate prints goes through
//! the macros below, which take the place of the standard library's. What has to be one line is made so by [`printable`], before it is wrapped or cut.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// As the standard library's, of [`shown`] text.
macro_rules! print {
    ($($what:tt)*) => { $crate::text::tell(std::io::stdout().lock(), format_args!($($what)*)) };
}

/// See `print!`.
macro_rules! println {
    () => { print!("\n") };
    ($($what:tt)*) => { print!("{}\n", format_args!($($what)*)) };
}

/// See `print!`.
macro_rules! eprint {
    ($($what:tt)*) => { $crate::text::tell(std::io::stderr().lock(), format_args!($($what)*)) };
}

/// See `print!`.
macro_rules! eprintln {
    () => { eprint!("\n") };
    ($($what:tt)*) => { eprint!("{}\n", format_args!($($what)*)) };
}

/// Who has seen enough, as `head` has, is told no more, and that is no fault; a full disk is.
pub(crate) fn tell(mut out: impl Write, what: fmt::Arguments<'_>) {
    match out.write_all(shown(&what.to_string()).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            panic!("what is said cannot be written: {error}")
        }
        _ => {}
    }
}

/// Whether somebody may still read what is printed; a pipe says when nobody does (poll(2): `POLLERR`).
pub(crate) fn is_read() -> bool {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Who cannot say goes on until it writes.
    poll(&mut asked, Some(&none)).is_err() || !asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Until nobody may read any more, to a second.
pub(crate) async fn unread() {
    while is_read() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Lines in which no character is an order to a terminal. Each is spelled as JSON spells it, so that JSON stays what it was.
pub(crate) fn shown(lines: &str) -> Cow<'_, str> {
    spelled(lines, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// The same as one line.
pub(crate) fn printable(line: &str) -> Cow<'_, str> {
    spelled(line, char::is_control)
}

fn spelled(text: &str, is_spelled: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_spelled) {
        return Cow::Borrowed(text);
    }
    let spell = |c: char| match c {
        c if !is_spelled(c) => c.to_string(),
        '\n' => "\\n".to_owned(),
        c => format!("\\u{:04x}", u32::from(c)),
    };
    Cow::Owned(text.chars().map(spell).collect())
}

/// So many characters a line at most, where words allow it and nobody has looked how many there are.
pub(crate) const COLUMNS: usize = 80;
/// A terminal that says that it has fewer does not know.
const FEWEST: usize = 40;

/// How many there are; once for a run of the program.
static FOUND: OnceLock<usize> = OnceLock::new();

/// Looks how wide lines may be: as `COLUMNS` says, else as wide as the terminal, else without end, since a program that reads them wants them whole.
pub(crate) fn look() {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let stdout = io::stdout();
    let of_terminal = || match stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout)) {
        Some(Ok(size)) if usize::from(size.ws_col) >= FEWEST => usize::from(size.ws_col),
        Some(_) => COLUMNS,
        None => usize::MAX,
    };
    let found = told.filter(|columns| *columns >= FEWEST).unwrap_or_else(of_terminal);
    // Who looks again finds the same.
    _ = FOUND.set(found);
}

/// So many characters a line at most, where words allow it; without end: as many as there are.
pub(crate) fn columns() -> usize {
    *FOUND.get().unwrap_or(&COLUMNS)
}

/// A line as lines that fit, all but the first begun with `indent` spaces. It is broken at spaces; a word that does not fit is a line of its own.
pub(crate) fn wrap(line: &str, indent: usize) -> String {
    let (line, columns) = (&*printable(line), columns());
    let begin = line.len() - line.trim_start().len();
    let (mut text, mut used) = (line[..begin].to_owned(), begin);
    let mut is_first = true;
    for word in line[begin..].split(' ') {
        let length = word.chars().count();
        if !is_first && used + 1 + length > columns {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else if !is_first {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
        is_first = false;
    }
    text
}

/// Lines that fit, each begun anew under its last column, else two spaces further in.
pub(crate) fn folded(lines: &str) -> String {
    lines.lines().map(|line| wrap(line, indent(line)) + "\n").collect()
}

/// Where a line's last column begins: behind two spaces, with most of the line still to come.
fn indent(line: &str) -> usize {
    let begin = line.len() - line.trim_start_matches(' ').len();
    let gap = line[begin..].match_indices("  ").map(|(at, gap)| begin + at + gap.len());
    let column = |at: usize| at + line[at..].len() - line[at..].trim_start_matches(' ').len();
    let column = gap.map(column).map(|at| line[..at].chars().count());
    column.filter(|column| *column <= columns().min(COLUMNS) / 2).max().unwrap_or(begin + 2)
}

/// `text` in so many columns, cut if it has more.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= columns {
        return text.into_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

/// The same where lines have an end.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    cut(text, if self::columns() == usize::MAX { usize::MAX } else { columns })
}

/// An id in so many columns; where lines have an end, a longer one is a line of its own, with as many spaces behind.
pub(crate) fn id(text: &str, columns: usize) -> String {
    let text = printable(text);
    match text.chars().count() <= columns || self::columns() == usize::MAX {
        true => format!("{text:columns$}"),
        false => format!("{text}\n{:columns$}", ""),
    }
}

/// A number, or a dash.
pub(crate) fn number<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// What is said of one object: `name   value`, a value that is long on several lines.
pub(crate) struct Sheet {
    lines: Vec<String>,
}

/// Names of values have so many columns.
const NAME: usize = 14;

impl Sheet {
    /// Of an object.
    pub(crate) fn new(title: &str) -> Self {
        Sheet { lines: vec![wrap(title, 2)] }
    }

    /// One more value, unless it is empty.
    pub(crate) fn add(&mut self, name: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.lines.push(wrap(&format!("  {name:width$}{value}", width = NAME - 2), NAME));
        }
        self
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_words_and_nothing_is_lost() {
        let long = format!("  closed   port p-1: {}", "word ".repeat(30).trim_end());
        let wrapped = wrap(&long, 11);
        assert!(wrapped.lines().all(|line| line.chars().count() <= COLUMNS), "{wrapped}");
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with("           word")), "{wrapped}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&wrapped), words(&long));
        assert_eq!(wrap("short  as it is", 2), "short  as it is");
        let id = "x".repeat(100);
        assert_eq!(wrap(&format!("a {id} b"), 2), format!("a\n  {id}\n  b"));
    }

    #[test]
    fn lines_go_on_under_their_last_column() {
        let words = "word ".repeat(20);
        let words = words.trim_end();
        for (begin, column) in [
            ("", 2),
            ("  packet: ", 4),
            ("    100 classify         ", 25),
            ("missing  ", 9),
            ("  way    a b, ", 9),
            (&format!("{}  ", "x".repeat(50)), 2),
        ] {
            let text = folded(&format!("{begin}{words}\nnext\n"));
            let lines: Vec<&str> = text.lines().collect();
            assert!(
                lines.len() > 2 && lines[0].starts_with(begin) && lines.last() == Some(&"next"),
                "{text}"
            );
            let is_under = |line: &&str| line.find("word") == Some(column) && line.len() <= COLUMNS;
            assert!(lines[1..lines.len() - 1].iter().all(is_under), "{text}");
        }
        assert_eq!((folded(""), folded("\n  a\n")), (String::new(), "\n  a\n".to_owned()));
    }

    /// A name as a tenant may give a group.
    const NAME: &str = "app\u{1b}[2J\u{9b}31mRED\u{7f}\r\nsgflow: forged line";

    #[test]
    fn no_name_gives_orders_to_a_terminal() {
        let spelled = r"app\u001b[2J\u009b31mRED\u007f\u000d\nsgflow: forged line";
        assert_eq!(printable(NAME), spelled);
        assert_eq!(
            (wrap(NAME, 2), cut(NAME, 200), id(NAME, 30).trim_end().to_owned()),
            (spelled.into(), spelled.into(), spelled.into())
        );
        assert_eq!(Sheet::new("group").add("name", NAME).text(), format!("group\n  name        {spelled}"));
        assert_eq!(shown("größer\n\tals\u{1b}\n"), "größer\n\tals\\u001b\n");
    }

    #[test]
    fn json_says_what_it_said() {
        let value = serde_json::json!({ "name": NAME });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = shown(&text);
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_or_has_a_line_of_its_own() {
        assert_eq!(cut("größer als", 5), "größ…");
        assert_eq!(id("abc", 5), "abc  ");
        assert_eq!(id("abcdef", 5), "abcdef\n     ");
    }
}
