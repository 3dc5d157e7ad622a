//! Splitting of ovs-ofctl's lists of keys and values.

use crate::error::ParseError;

const SPACES_AND_COMMA: &[char] = &[',', ' ', '\t', '\r', '\n'];
const KEY_END: &[char] = &[':', '=', '(', ',', ' ', '\t', '\r', '\n'];

/// One `key`, `key=value`, `key:value`, `key(value)` or `key(value)->rest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a str,
    /// Without the parentheses; for `key(value)->rest` it is `value)->rest`.
    pub(super) value: &'a str,
}

/// The pairs of a list, separated by commas or white space outside parentheses.
pub(super) struct Pairs<'a> {
    rest: &'a str,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Pairs { rest: text }
    }

    /// Cuts the value off the rest at the first of `ends` outside parentheses; says where it ends.
    fn value_end(&self, ends: &[char], key: &str) -> Result<usize, ParseError> {
        let mut depth = 0u32;
        for (at, c) in self.rest.char_indices() {
            if depth == 0 && ends.contains(&c) {
                return Ok(at);
            }
            match c {
                '(' => depth += 1,
                ')' if depth == 0 => return Err(ParseError::new(key, self.rest, "')' without '('")),
                ')' => depth -= 1,
                _ => {}
            }
        }
        if depth > 0 || ends.contains(&')') {
            return Err(ParseError::new(key, self.rest, "')' is missing"));
        }
        Ok(self.rest.len())
    }

    fn next_pair(&mut self) -> Result<Option<Pair<'a>>, ParseError> {
        self.rest = self.rest.trim_start_matches(SPACES_AND_COMMA);
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key_end = self.rest.find(KEY_END).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at(key_end);
        let delimiter = rest.chars().next();
        self.rest = rest.get(1..).unwrap_or_default();
        let (mut end, parenthesised) = match delimiter {
            Some(':' | '=') => (self.value_end(SPACES_AND_COMMA, key)?, false),
            Some('(') => (self.value_end(&[')'], key)?, true),
            _ => return Ok(Some(Pair { key, value: "" })),
        };
        let mut skip = usize::from(parenthesised);
        if parenthesised && self.rest[end..].starts_with(")->") {
            end += self.rest[end..].find(SPACES_AND_COMMA).unwrap_or(self.rest.len() - end);
            skip = 0;
        }
        let value = &self.rest[..end];
        self.rest = &self.rest[end + skip..];
        Ok(Some(Pair { key, value }))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<Pair<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.next_pair();
        if pair.is_err() {
            self.rest = "";
        }
        pair.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(&str, &str)> {
        Pairs::new(text).map(|pair| pair.map(|pair| (pair.key, pair.value)).unwrap()).collect()
    }

    #[test]
    fn values_end_outside_parentheses() {
        assert_eq!(
            split("ct(commit,exec(set_field:0x1->ct_mark)),load:5->reg0 ,drop, resubmit(,7)"),
            [
                ("ct", "commit,exec(set_field:0x1->ct_mark)"),
                ("load", "5->reg0"),
                ("drop", ""),
                ("resubmit", ",7")
            ]
        );
        assert_eq!(
            split("check_pkt_larger(1500)->reg0[0],drop"),
            [("check_pkt_larger", "1500)->reg0[0]"), ("drop", "")]
        );
    }

    #[test]
    fn unbalanced_parentheses_are_errors() {
        assert!(Pairs::new("ct(commit").any(|pair| pair.is_err()));
        assert!(Pairs::new("a=b)c").any(|pair| pair.is_err()));
    }
}
