//! Text for people on a terminal of 80 columns.

/// So many characters a line at most, where words allow it.
pub(crate) const COLUMNS: usize = 80;

/// A line as lines that fit, all but the first begun with `indent` spaces. It is broken at spaces; a word that does not fit is a line of its own.
pub(crate) fn wrap(line: &str, indent: usize) -> String {
    let begin = line.len() - line.trim_start().len();
    let (mut text, mut used) = (line[..begin].to_owned(), begin);
    let mut is_first = true;
    for word in line[begin..].split(' ') {
        let length = word.chars().count();
        if !is_first && used + 1 + length > COLUMNS {
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

/// `text` in so many columns, cut if it has more.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

/// An id in so many columns; a longer one is a line of its own, with as many spaces behind.
pub(crate) fn id(text: &str, columns: usize) -> String {
    match text.chars().count() <= columns {
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
    fn what_is_too_long_is_cut_or_has_a_line_of_its_own() {
        assert_eq!(cut("größer als", 5), "größ…");
        assert_eq!(id("abc", 5), "abc  ");
        assert_eq!(id("abcdef", 5), "abcdef\n     ");
    }
}
