//! Rules.

use crate::expr::Expr;
use crate::name::ChainId;
use crate::userdata;

/// A rule of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// In which chain.
    pub chain: ChainId,
    /// What it does, one after the other.
    pub expressions: Vec<Expr>,
    /// What its makers keep at it, at most 256 bytes: nft(8) a comment, [`Rule::with_comment`].
    pub user_data: Vec<u8>,
    /// The kernel's number of it, by which it is replaced and deleted; 0 before it is made.
    pub handle: u64,
}

impl Rule {
    /// A rule without comment.
    pub fn new(chain: ChainId, expressions: impl Into<Vec<Expr>>) -> Self {
        Rule { chain, expressions: expressions.into(), user_data: Vec::new(), handle: 0 }
    }

    /// The same rule with a comment, as nft(8) keeps it; what is longer than 127 bytes is cut off.
    #[must_use]
    pub fn with_comment(self, comment: &str) -> Self {
        Rule { user_data: userdata::of_comment(comment), ..self }
    }

    /// The comment that nft(8) would show.
    pub fn comment(&self) -> Option<&str> {
        userdata::comment(&self.user_data)
    }
}

/// Where a rule is put in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Before all others.
    First,
    /// Behind all others.
    Last,
    /// Before the one with this handle.
    Before(u64),
    /// Behind the one with this handle.
    Behind(u64),
}
