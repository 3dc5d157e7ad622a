//! The policy document: YAML or JSON, with the names of the OpenStack Networking API v2.0, so that API replies can
//! be used as they are.
//!
//! ```yaml
//! security_groups:
//! - {id: sg-1, name: web, stateful: true, security_group_rules: [
//!     {id: r1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80}]}
//! ports:
//! - {id: p-1, network_id: net-1, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.5}],
//!    security_groups: [sg-1]}
//! ```
//!
//! What stands in files becomes trees (`node`), trees become objects one by one (`objects`, `rule`), objects become a policy
//! (`assemble`), which is where duplicates and references are looked at and refused objects replaced.

mod assemble;
mod diagnostic;
mod fields;
#[cfg(test)]
mod laws;
mod lines;
mod names;
mod node;
mod objects;
mod protocol;
mod rule;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{Policy, PolicyDelta};

pub use diagnostic::{Diagnostic, ObjectId};
pub use names::{protocol_name, protocol_number};
pub use write::{write, write_address_group, write_group, write_port, write_rule};

use objects::{Drafts, FileObjects};

/// What a document says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// The policy to enforce.
    pub policy: Policy,
    /// Every problem, in order of file and line; empty if the document is sound.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that were refused, as far as their ids could be read; in `policy` they stand as they were before, or
    /// not at all.
    pub refused: BTreeSet<ObjectId>,
    /// Whether the document was refused whole, so that `policy` is the one before.
    pub document_refused: bool,
}

/// What a document of changes says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParsedChanges {
    /// The objects that the document has, as they are from now on; those that are as they were are left out. Nothing goes.
    pub delta: PolicyDelta,
    /// See [`Parsed::diagnostics`].
    pub diagnostics: Vec<Diagnostic>,
    /// See [`Parsed::refused`].
    pub refused: BTreeSet<ObjectId>,
    /// Whether the document was refused whole: nothing changes.
    pub document_refused: bool,
}

/// Reads a document that has only what changes: whatever it does not have stays as in `previous`, and may be referred to. A group comes with
/// all of its rules. Costs as much as the document is long, however large `previous` is. What is wrong is refused as by [`parse`].
pub fn parse_changes(file: (&str, &str), previous: &Policy) -> ParsedChanges {
    let (drafts, sound) = read(&[file]);
    assemble::assemble_changes(drafts, previous, sound)
}

/// Reads a document that stands in one file or several, given by name and text.
///
/// "A malformed object is refused whole with the object, the field and the reason; the rest of the document is
/// applied; what the object governed stays as it was, or closed if it is new" (semantics, "Change"). How it was, is
/// taken from `previous`, together with what it refers to. A rule is an object of its own: the rest of its group is
/// applied. An id that is given twice refuses both objects, since nobody can tell which is meant.
///
/// Bad syntax, a file that is no mapping and a key that a document does not have refuse the document whole: what
/// they hide may be anything, a port's only group included, so `policy` is then `previous` unchanged (or empty,
/// where there is none: everything closed).
pub fn parse(files: &[(&str, &str)], previous: Option<&Policy>) -> Parsed {
    let (drafts, sound) = read(files);
    let nothing = Policy::default();
    let mut parsed = assemble::assemble(drafts, previous.unwrap_or(&nothing), sound);
    let order = |file: &str| files.iter().position(|(name, _)| *name == file);
    parsed.diagnostics.sort_by_key(|diagnostic| (order(&diagnostic.file), diagnostic.line));
    parsed
}

/// The objects of all files one by one, and whether the document as a whole can be read.
fn read(files: &[(&str, &str)]) -> (Drafts, bool) {
    let mut drafts = Drafts::default();
    let mut sound = true;
    for (name, text) in files {
        let file: Arc<str> = Arc::from(*name);
        match node::read(name, text, || FileObjects::new(Arc::clone(&file))) {
            Ok(objects) => sound &= objects.add_to(&mut drafts),
            Err(node::SyntaxError { line, reason }) => {
                sound = false;
                let (object, field) = ("document".to_owned(), "syntax".to_owned());
                drafts.diagnostics.push(Diagnostic { file, line, object, field, reason });
            }
        }
    }
    (drafts, sound)
}
