//! Everything in tables of nftables, all of a change in one transaction.

use std::collections::BTreeSet;

use hybrid::Changes;
use ipset::Ipset;
use tracing::debug;

use super::backend::Backend;
use super::iptables::{Iptables, Variant};
use super::lacks;
use super::tables::Tables;
use super::{Failure, HybridError};
use crate::api::{KernelSets, SetFill};
use crate::engine::Sent;
use crate::mirror::Plan;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct WithNftables {
    tables: Tables,
    iptables: Variant,
    /// What `iptables_hybrid`, or Neutron's driver, has left here is gone.
    is_alone: bool,
}

impl WithNftables {
    /// Nothing is known.
    ///
    /// # Errors
    /// There is no netlink, no right to use it, or the kernel lacks something that rules are made of.
    pub(super) fn open(permitted_ethertypes: &BTreeSet<u16>, iptables: Variant) -> Result<Self, HybridError> {
        lacks::none()?;
        let tables = Tables::open(&hybrid::nft::ruleset(), permitted_ethertypes)?;
        Ok(WithNftables { tables, iptables, is_alone: false })
    }

    /// Takes away what another driver has left, now that its rules are not needed any more: they would go on refusing what they did.
    fn be_alone(&mut self) -> Result<(), Failure> {
        if let Err(reason) = Iptables::remove(self.iptables) {
            // Without iptables there are none.
            debug!(%reason, "chains of iptables are not looked for");
        }
        let mut sets = Plan::new();
        sets.complete();
        for (object, reason) in sets.run(&mut Ipset::open()?).failures {
            debug!(object, reason, "an ipset of before is not taken away");
        }
        self.is_alone = true;
        self.tables.note_generation()
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

    fn forget_drops(&mut self, zones: &BTreeSet<u16>) -> Result<(), Failure> {
        self.tables.forget_drops(zones)
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

    fn pending(&mut self) -> Result<Vec<String>, Failure> {
        Ok(self.tables.pending())
    }

    fn put_in_force(&mut self) -> Result<Sent, Failure> {
        let mut sent = Sent::default();
        if self.tables.is_to_be_changed() {
            let [added, modified, deleted] = self.tables.put_in_force()?;
            sent = Sent { added, modified, deleted, bundles: 1 };
        }
        if !self.is_alone {
            self.be_alone()?;
        }
        Ok(sent)
    }

    fn note_own_change(&mut self) {
        // Otherwise everything is read again.
        if let Err(error) = self.tables.note_generation() {
            debug!(%error, "what has been changed until now is not known");
        }
    }

    fn look(&mut self, _is_long_ago: bool) -> bool {
        self.tables.is_changed_by_others()
    }

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn fill(&self, set: &str) -> Vec<SetFill> {
        self.tables.fill(set)
    }

    fn fills(&self, _most: usize) -> (KernelSets, Vec<SetFill>) {
        let (sets, members) = self.tables.member_sets();
        (KernelSets { sets, members, ..KernelSets::default() }, Vec::new())
    }

    fn counts(&self) -> (usize, usize) {
        self.tables.counts()
    }
}
