//! Everything in tables of nftables, all of a change in one transaction.

use std::collections::BTreeSet;

use hybrid::Changes;

use super::backend::Backend;
use super::lacks;
use super::tables::Tables;
use super::{Failure, HybridError};
use crate::engine::Sent;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct WithNftables {
    tables: Tables,
}

impl WithNftables {
    /// Nothing is known.
    ///
    /// # Errors
    /// There is no netlink, no right to use it, or the kernel lacks something that rules are made of.
    pub(super) fn open(permitted_ethertypes: &BTreeSet<u16>) -> Result<Self, HybridError> {
        lacks::none()?;
        Ok(WithNftables { tables: Tables::open(hybrid::nft::RULESET, permitted_ethertypes)? })
    }
}

impl Backend for WithNftables {
    type Dialect = hybrid::nft::Nft;

    fn read_back(&mut self) -> Result<(), Failure> {
        self.tables.read_back()
    }

    fn zones(&self) -> &[(String, u16)] {
        self.tables.zones()
    }

    fn want(&mut self, changes: Changes<Self::Dialect>) {
        for op in changes.sets {
            self.tables.want_members(op);
        }
        for (chain, rules) in changes.chains {
            self.tables.want_chain(&chain, rules);
        }
        for (element, is_wanted) in changes.elements {
            self.tables.want(&element, is_wanted);
        }
    }

    fn put_in_force(&mut self) -> Result<Sent, Failure> {
        if !self.tables.is_to_be_changed() {
            return Ok(Sent::default());
        }
        let [added, modified, deleted] = self.tables.put_in_force()?;
        Ok(Sent { added, modified, deleted, bundles: 1 })
    }

    fn look(&mut self, _is_long_ago: bool) -> bool {
        self.tables.is_changed_by_others()
    }

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn counts(&self) -> (usize, usize) {
        self.tables.counts()
    }
}
