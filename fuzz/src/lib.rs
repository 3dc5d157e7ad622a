//! What the fuzz targets share: seeds, damage to them, and a bound on memory. The targets are the tests of this crate;
//! docs/fuzzing.md says what each asserts and how it is run for long.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bolero::TypeGenerator;
use peak_alloc::PeakAlloc;
use policy::{Policy, Remote};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Cases of a target in an ordinary run of the tests; `BOLERO_RANDOM_ITERATIONS` takes precedence.
pub const CASES: usize = 4000;

/// One change to a seed. Positions count from the start and wrap at the end.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Edit {
    /// Another byte.
    Set(u16, u8),
    /// One bit turned.
    Flip(u16, u8),
    /// A 16-bit number in network order, such as a length.
    Number(u16, u16),
    /// A byte that was not there.
    Insert(u16, u8),
    /// Some bytes go.
    Remove(u16, u8),
    /// Some bytes stand there twice.
    Repeat(u16, u8),
    /// Some bytes of one place also stand in another.
    Copy(u16, u16, u8),
    /// Nothing follows.
    Cut(u16),
}

/// A seed by number, wrapping, and what happens to it, in order.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Damage {
    seed: u16,
    edits: Vec<Edit>,
}

/// Most edits that are made: with more of them nothing of the seed is left.
const MOST_EDITS: usize = 4;

impl Damage {
    /// The damaged seed.
    ///
    /// # Panics
    /// There are no seeds.
    #[must_use]
    pub fn apply(&self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[usize::from(self.seed) % seeds.len()].clone();
        for edit in self.edits.iter().take(MOST_EDITS) {
            if !bytes.is_empty() {
                edit.apply(&mut bytes);
            }
        }
        bytes
    }
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let place = |at: u16| usize::from(at) % length;
        let piece = |at: u16, count: u8| place(at)..(place(at) + usize::from(count)).min(length);
        match *self {
            Edit::Set(at, byte) => bytes[place(at)] = byte,
            Edit::Flip(at, bit) => bytes[place(at)] ^= 1 << (bit % 8),
            Edit::Number(at, number) => {
                let to = bytes[place(at)..].iter_mut();
                to.zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            }
            Edit::Insert(at, byte) => bytes.insert(place(at), byte),
            Edit::Remove(at, count) => drop(bytes.drain(piece(at, count))),
            Edit::Repeat(at, count) => {
                let repeated = bytes[piece(at, count)].to_vec();
                bytes.splice(place(at)..place(at), repeated);
            }
            Edit::Copy(from, to, count) => {
                let copied = bytes[piece(from, count)].to_vec();
                bytes.splice(place(to)..place(to), copied);
            }
            Edit::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

/// The files of a target's corpus, in order of their names: where bolero looks for them too.
///
/// # Panics
/// The corpus is not there or empty.
#[must_use]
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__").join(target).join("corpus");
    let entries = std::fs::read_dir(&directory).expect("every target has a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", directory.display());
    paths.iter().map(|path| std::fs::read(path).expect("a readable seed")).collect()
}

/// Reading takes at most so much memory, bytes: [`FLOOR`] and [`PER_BYTE`] for each byte that is there. A length that is
/// believed, and not there, breaks this.
const FLOOR: usize = 1 << 20;
/// A value of JSON takes 72 bytes and a vector grows by doubling, so that `[0,0,…` takes nearly this.
const PER_BYTE: usize = 512;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What `read` returns, which takes no more memory at any time than `length` bytes of input may.
///
/// # Panics
/// It takes more.
pub fn bounded<T>(length: usize, read: impl FnOnce() -> T) -> T {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = read();
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    drop(guard);
    let bound = FLOOR + PER_BYTE * length;
    assert!(taken <= bound, "{length} bytes of input took {taken} bytes of memory, more than {bound}");
    result
}

/// Every reference leads somewhere, but for remote groups.
///
/// # Panics
/// One does not.
pub fn references_lead_somewhere(policy: &Policy) {
    for port in policy.ports.values() {
        assert!(port.security_groups.iter().all(|id| policy.groups.contains_key(id)), "{port:?}");
    }
    for rule in policy.groups.values().flat_map(|group| &group.rules) {
        if let Remote::AddressGroup(id) = &rule.remote {
            assert!(policy.address_groups.contains_key(id), "{rule:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_believed_is_noticed() {
        assert_eq!(bounded(3, || vec![0_u8; 1000].len()), 1000);
        let believed =
            std::panic::catch_unwind(|| bounded(3, || Vec::<u8>::with_capacity(1 << 24).capacity()));
        assert!(believed.is_err());
    }

    #[test]
    fn every_edit_makes_its_change() {
        let damage = |edit| Damage { seed: 1, edits: vec![edit] }.apply(&[vec![], b"abcd".to_vec()]);
        assert_eq!(damage(Edit::Set(5, b'x')), b"axcd");
        assert_eq!(damage(Edit::Flip(0, 9)), b"cbcd");
        assert_eq!(damage(Edit::Number(3, 0x4142)), b"abcA");
        assert_eq!(damage(Edit::Insert(1, b'x')), b"axbcd");
        assert_eq!(damage(Edit::Remove(2, 9)), b"ab");
        assert_eq!(damage(Edit::Repeat(1, 2)), b"abcbcd");
        assert_eq!(damage(Edit::Copy(0, 3, 2)), b"abcabd");
        assert_eq!(damage(Edit::Cut(2)), b"ab");
    }
}
