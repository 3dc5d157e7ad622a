//! Sets and maps of atoms, of which copies and differences are cheap.

use std::fmt;

use super::Atom;
use super::chunks::{Chunks, Differing};

/// A set of atoms, in order. A copy shares what it holds with the original, and so does a changed one all but what
/// is near the change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtomSet(Chunks<()>);

/// A map of atoms to atoms, ordered by key. Shares as [`AtomSet`] does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtomMap(Chunks<Atom>);

impl AtomSet {
    /// Without atoms.
    pub const fn new() -> Self {
        Self(Chunks::new())
    }

    /// Number of atoms.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// No atom.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The atoms, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Atom> {
        self.0.iter().map(|(atom, ())| atom)
    }

    /// Whether the atom is one of them.
    pub fn contains(&self, atom: &Atom) -> bool {
        self.0.get(atom).is_some()
    }

    /// False if it was there already.
    pub fn insert(&mut self, atom: Atom) -> bool {
        self.0.insert(atom, ()).is_none()
    }

    /// False if it was not there.
    pub fn remove(&mut self, atom: &Atom) -> bool {
        self.0.remove(atom).is_some()
    }

    /// What goes and what comes from here to `new`. The time is that of the change where `new` was made from this
    /// one, and that of the whole otherwise.
    pub fn difference(&self, new: &Self) -> (Self, Self) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for differing in self.0.differences(&new.0) {
            match differing {
                Differing::Gone((atom, ())) => gone.push(atom.clone()),
                Differing::Come((atom, ())) | Differing::Changed(_, (atom, ())) => come.push(atom.clone()),
            }
        }
        (gone.into_iter().collect(), come.into_iter().collect())
    }
}

impl AtomMap {
    /// Without pairs.
    pub const fn new() -> Self {
        Self(Chunks::new())
    }

    /// Number of pairs.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// No pair.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The value of a key.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        self.0.get(key)
    }

    /// Whether there is a pair of that key.
    pub fn contains_key(&self, key: &Atom) -> bool {
        self.get(key).is_some()
    }

    /// Gives back the value that the key had.
    pub fn insert(&mut self, key: Atom, value: Atom) -> Option<Atom> {
        self.0.insert(key, value)
    }

    /// Gives back the value that the key had.
    pub fn remove(&mut self, key: &Atom) -> Option<Atom> {
        self.0.remove(key)
    }

    /// The pairs that go and that come from here to `new`; where a value changes, the pair with the old one goes
    /// and the pair with the new one comes. The time is as for [`AtomSet::difference`].
    pub fn difference(&self, new: &Self) -> (Self, Self) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for differing in self.0.differences(&new.0) {
            let (old, new) = match differing {
                Differing::Gone(old) => (Some(old), None),
                Differing::Come(new) => (None, Some(new)),
                Differing::Changed(old, new) => (Some(old), Some(new)),
            };
            gone.extend(old.cloned());
            come.extend(new.cloned());
        }
        (gone.into_iter().collect(), come.into_iter().collect())
    }
}

impl Default for AtomSet {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for AtomMap {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Atom> for AtomSet {
    fn from_iter<I: IntoIterator<Item = Atom>>(atoms: I) -> Self {
        Self(atoms.into_iter().map(|atom| (atom, ())).collect())
    }
}

/// Of a key that comes twice, the last value holds.
impl FromIterator<(Atom, Atom)> for AtomMap {
    fn from_iter<I: IntoIterator<Item = (Atom, Atom)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<const N: usize> From<[Atom; N]> for AtomSet {
    fn from(atoms: [Atom; N]) -> Self {
        atoms.into_iter().collect()
    }
}

impl<const N: usize> From<[(Atom, Atom); N]> for AtomMap {
    fn from(pairs: [(Atom, Atom); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for AtomSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for AtomMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
