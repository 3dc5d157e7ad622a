//! What is to be done at once.

use nfnetlink::{Malformed, Messages, Refusal, Request};

use crate::element::Element;
use crate::error::Refused;
use crate::name::{ChainId, SetId, TableId};
use crate::rule::{Place, Rule};
use crate::set::Set;
use crate::table::{Chain, Table};
use crate::wire::{self, command};

/// Operations of which the kernel does all or none, in their order; no packet meets some of them done. Later operations may rely upon
/// earlier ones.
///
/// What is added and is there already as it shall be is as good as added; what is deleted must be there.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    requests: Vec<Request>,
    /// Of each request, the operation that it belongs to.
    origins: Vec<Origin>,
    operations: usize,
    sets: u32,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    operation: usize,
    /// How many of the operation's elements are in requests before this one.
    elements_before: usize,
}

impl Batch {
    /// Nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations
    }

    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Adds a table.
    pub fn add_table(&mut self, table: &Table) -> &mut Self {
        self.push(wire::new_table(table))
    }

    /// Deletes a table with all that is in it.
    pub fn delete_table(&mut self, table: &TableId) -> &mut Self {
        self.push(wire::delete_table(table))
    }

    /// Adds a chain, or gives a base chain that is there another policy.
    pub fn add_chain(&mut self, chain: &Chain) -> &mut Self {
        self.push(wire::new_chain(chain))
    }

    /// Deletes a chain that nothing jumps to, with its rules.
    pub fn delete_chain(&mut self, chain: &ChainId) -> &mut Self {
        self.push(wire::delete_chain(chain))
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &ChainId) -> &mut Self {
        self.push(wire::delete_rule(chain, None))
    }

    /// Adds a set or map.
    pub fn add_set(&mut self, set: &Set) -> &mut Self {
        self.sets += 1;
        self.push(wire::new_set(set, self.sets))
    }

    /// Deletes a set or map that no rule refers to, with its elements.
    pub fn delete_set(&mut self, set: &SetId) -> &mut Self {
        self.push(wire::delete_set(set))
    }

    /// Adds elements to a set or map, as many as there are: some thousand go into one message. A key of a map that is there and is mapped
    /// to something else is refused: delete it before. The set is not read.
    pub fn add_elements(&mut self, set: &SetId, elements: impl IntoIterator<Item = Element>) -> &mut Self {
        self.change_elements(command::NEW_ELEMENT, set, elements)
    }

    /// Takes elements, which must be there, out of a set or map; what they are mapped to need not be said.
    pub fn delete_elements(&mut self, set: &SetId, elements: impl IntoIterator<Item = Element>) -> &mut Self {
        self.change_elements(command::DELETE_ELEMENT, set, elements)
    }

    fn change_elements(
        &mut self,
        command: u8,
        set: &SetId,
        elements: impl IntoIterator<Item = Element>,
    ) -> &mut Self {
        let mut elements = elements.into_iter();
        let mut elements_before = 0;
        while let Some((request, count)) = wire::change_elements(command, set, &mut elements) {
            self.requests.push(request);
            self.origins.push(Origin { operation: self.operations, elements_before });
            elements_before += count;
        }
        self.operations += 1;
        self
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, rule: &Rule, place: Place) -> &mut Self {
        self.push(wire::new_rule(rule, place))
    }

    /// Puts a rule in the place of the one with this handle. It gets a handle of its own.
    pub fn replace_rule(&mut self, handle: u64, rule: &Rule) -> &mut Self {
        self.push(wire::replace_rule(handle, rule))
    }

    /// Deletes the rule with this handle.
    pub fn delete_rule(&mut self, chain: &ChainId, handle: u64) -> &mut Self {
        self.push(wire::delete_rule(chain, Some(handle)))
    }

    fn push(&mut self, request: Request) -> &mut Self {
        self.requests.push(request);
        self.origins.push(Origin { operation: self.operations, elements_before: 0 });
        self.operations += 1;
        self
    }

    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// What a refusal of a request says about the operation.
    pub(crate) fn refused(&self, refusal: &Refusal) -> Result<Refused, Malformed> {
        let lost = Malformed("a refusal of what was not asked for");
        let request = self.requests.get(refusal.index).ok_or(lost)?;
        let origin = self.origins.get(refusal.index).ok_or(lost)?;
        let bytes = request.clone().into_bytes();
        let message = Messages::new(&bytes).next().ok_or(lost)??;
        let part = match refusal.offset {
            Some(offset) => wire::part_at(&message, offset)?,
            None => None,
        };
        Ok(Refused {
            operation: origin.operation,
            action: wire::action(&message)?,
            part: part.map(|part| origin.elements_before + part),
            reason: refusal.to_string(),
            code: refusal.code,
        })
    }
}
