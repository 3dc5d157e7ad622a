//! Long lists, page by page: the daemon's loop is kept for no more than one of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::sync::oneshot;

/// So many objects a page, where nothing is said.
pub const PAGE: usize = 256;
/// So many at most.
pub const LARGEST_PAGE: usize = 1024;

/// Which objects a client wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageQuery {
    /// One alone, by its id; a port also by the name of its interface, a group by its name.
    pub id: Option<String>,
    /// Those behind this one: `next` of the page before.
    pub after: Option<String>,
    /// How many at most; [`PAGE`] where nothing is said.
    pub limit: Option<usize>,
}

impl PageQuery {
    /// How many objects a page may have.
    pub fn room(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE)
    }
}

/// A page that somebody asks for: of [`super::PortPage`] or [`super::GroupPage`].
#[derive(Debug)]
pub struct Question<P> {
    /// Which objects.
    pub query: PageQuery,
    /// What the source of the policy refuses, by object as faults name it, and why.
    pub refused: BTreeMap<String, String>,
    /// Where the answer goes; whoever asked may be gone.
    pub answer: oneshot::Sender<P>,
}
