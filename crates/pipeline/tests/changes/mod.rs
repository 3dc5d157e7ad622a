//! Changes of a policy and its host, and the other forms of a list of them.

mod forms;
mod objects;

pub(crate) use forms::{Form, Interruption, forms, interruptions, there_and_back};
pub(crate) use objects::{Change, State, change};
