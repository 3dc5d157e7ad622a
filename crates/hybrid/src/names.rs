//! Names of chains, less what says of what kind they are.

use std::collections::BTreeMap;

use crate::name::{digits, is_random_uuid};

/// Neutron cuts what follows its prefix so that 28 characters are left (neutron/agent/linux/iptables_manager.py: `MAX_CHAIN_LEN_WRAP`), one of them for
/// the kind.
const ROOM: usize = 10;

/// Which object's chain has which name: as Neutron names it where that is its alone.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Owner, by the end of the name.
    taken: BTreeMap<String, String>,
}

impl Names {
    /// The end of the names of an object's chains; the same as long as it is not given back.
    pub(crate) fn take(&mut self, id: &str) -> String {
        let candidates = std::iter::once(usual(id)).chain((0..).map(|more| hashed(id, more)));
        let free = candidates.flatten_ok(|name| self.is_free(name, id));
        self.taken.insert(free.clone(), id.to_owned());
        free
    }

    /// The object has no chains any more.
    pub(crate) fn give_back(&mut self, name: &str) {
        self.taken.remove(name);
    }

    fn is_free(&self, name: &str, id: &str) -> bool {
        self.taken.get(name).is_none_or(|owner| owner == id)
    }
}

/// The first of some names that is free.
trait FirstFree {
    fn flatten_ok(self, is_free: impl Fn(&str) -> bool) -> String;
}

impl<I: Iterator<Item = Option<String>>> FirstFree for I {
    fn flatten_ok(self, is_free: impl Fn(&str) -> bool) -> String {
        self.flatten().find(|name| is_free(name)).expect("there are more names than objects")
    }
}

/// The beginning of a random id, or all of another that is short enough.
fn usual(id: &str) -> Option<String> {
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_telling = is_random_uuid(id) || is_plain && id.len() <= ROOM;
    is_telling.then(|| id.chars().take(ROOM).collect())
}

/// `~` and nine digits.
fn hashed(id: &str, more: u32) -> Option<String> {
    Some(format!("~{}", digits(&format!("{id} {more}"), ROOM - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_neutrons_where_that_tells_objects_apart() {
        let mut names = Names::default();
        assert_eq!(names.take("d9d9fd5a-5f23-4d40-9ed8-ac5a2dae64ee"), "d9d9fd5a-5");
        assert_eq!(names.take("d9d9fd5a-5f23-4d40-9ed8-ac5a2dae64ee"), "d9d9fd5a-5");
        assert_eq!(names.take("p-1"), "p-1");
        let others = ["d9d9fd5a-5f23-4d40-9ed8-ac5a2dae64ef", "a long name", "a long name more", "a b", ""];
        let mut seen = std::collections::BTreeSet::new();
        for id in others {
            let name = names.take(id);
            assert!(name.len() == ROOM && name.starts_with('~'), "{id}: {name}");
            assert!(seen.insert(name), "{id}");
        }
        names.give_back("d9d9fd5a-5");
        assert_eq!(names.take("d9d9fd5a-5f23-4d40-9ed8-ac5a2dae64ef"), "d9d9fd5a-5");
    }
}
