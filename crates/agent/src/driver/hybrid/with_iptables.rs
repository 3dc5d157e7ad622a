//! Rules in iptables, members in ipsets, and what both cannot say in tables of nftables.
//!
//! First come sets that are new, and members go; then rules; then members come; then the elements by which ports are opened. So at no instant
//! something is admitted that neither the old policy nor the new one admits.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use hybrid::Changes;
use hybrid::drops::{sample_rule, with_samples};
use ipset::Ipset;
use tracing::{debug, warn};

use super::backend::Backend;
use super::iptables::{Iptables, Variant};
use super::tables::Tables;
use super::{Failure, HybridError};
use crate::api::{KernelSets, SetFill};
use crate::engine::Sent;
use crate::mirror::Plan;

/// A rule that any iptables takes.
const ANY_RULE: &str = "-j RETURN";

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct WithIptables {
    sets: Plan,
    ipset: Ipset,
    iptables: Iptables,
    tables: Tables,
    /// How many dropped packets of each reason are sampled a second.
    samples: u32,
    /// Rules that sample have been taken.
    are_samples_taken: bool,
    unsampled: Arc<OnceLock<String>>,
}

impl WithIptables {
    /// Nothing is known; so many dropped packets of each reason shall be sampled a second. Where iptables takes no rules that sample, `unsampled` is told why.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub(super) fn open(
        permitted_ethertypes: &BTreeSet<u16>,
        variant: Variant,
        samples: u32,
        unsampled: Arc<OnceLock<String>>,
    ) -> Result<Self, HybridError> {
        Ok(WithIptables {
            sets: Plan::new(),
            ipset: Ipset::open()?,
            iptables: Iptables::new(variant),
            tables: Tables::open(hybrid::iptables::RULESET, permitted_ethertypes)?,
            samples,
            are_samples_taken: false,
            unsampled,
        })
    }

    /// To look at what is in force; whether anything is sampled does not matter.
    ///
    /// # Errors
    /// As of [`WithIptables::open`].
    pub(super) fn looking(
        permitted_ethertypes: &BTreeSet<u16>,
        variant: Variant,
    ) -> Result<Self, HybridError> {
        let mut backend = WithIptables::open(permitted_ethertypes, variant, 0, Arc::default())?;
        backend.iptables.overlook_samples();
        Ok(backend)
    }

    /// Makes the chains as they shall be; without samples where it is they that iptables does not take.
    fn put_chains_in_force(&mut self) -> Result<[usize; 3], Failure> {
        let failure = match self.iptables.put_in_force() {
            Ok(counts) => {
                self.are_samples_taken = true;
                return Ok(counts);
            }
            Err(failure) if self.are_samples_taken || self.samples == 0 => return Err(failure),
            Err(failure) => failure,
        };
        // What fails whatever it is told, for a lock that somebody holds, is no matter of samples.
        if self.iptables.why_not(ANY_RULE).is_some() {
            return Err(failure);
        }
        let Some(reason) = self.iptables.why_not(&sample_rule("probe", self.samples)) else {
            return Err(failure);
        };
        warn!(reason, "what is dropped is not sampled: iptables takes no such rule");
        self.samples = 0;
        _ = self.unsampled.set(reason);
        self.iptables.want_no_samples();
        self.iptables.read_back()?;
        self.iptables.put_in_force()
    }
}

impl Backend for WithIptables {
    type Dialect = hybrid::iptables::Iptables;

    fn read_back(&mut self) -> Result<(), Failure> {
        self.iptables.read_back()?;
        self.tables.read_back()
    }

    fn zones(&self) -> &[(String, u16)] {
        self.tables.zones()
    }

    fn forget_drops(&mut self, zones: &BTreeSet<u16>) -> Result<(), Failure> {
        self.tables.forget_drops(zones)
    }

    fn want(&mut self, changes: Changes<Self::Dialect>) {
        self.sets.want(changes.sets);
        for (key, chain) in changes.chains {
            let chain = chain.map(|chain| with_samples(&key.name, chain, self.samples));
            self.iptables.want(key, chain);
        }
        for (element, is_wanted) in changes.elements {
            self.tables.want(&element, is_wanted);
        }
    }

    fn pending(&mut self) -> Result<Vec<String>, Failure> {
        let mut lines = self.sets.pending(&mut self.ipset)?;
        lines.extend(self.iptables.pending());
        lines.extend(self.tables.pending());
        Ok(lines)
    }

    fn put_in_force(&mut self) -> Result<Sent, Failure> {
        let mut sent = Sent::default();
        if self.iptables.is_to_be_changed() {
            self.sets.before_rules(&mut self.ipset)?;
            let [added, modified, deleted] = self.put_chains_in_force()?;
            // iptables over nf_tables has changed it.
            self.tables.note_generation()?;
            sent += Sent { added, modified, deleted, bundles: 1 };
        }
        self.sets.complete();
        let done = self.sets.run(&mut self.ipset);
        // What is filled anew is one change.
        sent += Sent { added: done.added, modified: done.rebuilt, deleted: done.deleted, bundles: 0 };
        if let Some((object, reason)) = done.failures.first() {
            return Err(Failure::other(object, reason));
        }
        if self.tables.is_to_be_changed() {
            let [added, modified, deleted] = self.tables.put_in_force()?;
            sent += Sent { added, modified, deleted, bundles: 1 };
        }
        Ok(sent)
    }

    fn note_own_change(&mut self) {
        // Otherwise everything is read again.
        if let Err(error) = self.tables.note_generation() {
            debug!(%error, "what has been changed until now is not known");
        }
    }

    /// The old iptables alone has no number that says so.
    fn look(&mut self, is_long_ago: bool) -> bool {
        if let Err(reason) = self.sets.look(&mut self.ipset, is_long_ago) {
            warn!(%reason, "the kernel's sets cannot be looked at");
        }
        is_long_ago || self.tables.is_changed_by_others()
    }

    fn faults(&self) -> Vec<(String, String)> {
        self.sets.faults().collect()
    }

    fn fill(&self, set: &str) -> Vec<SetFill> {
        self.sets.fill(set).into_iter().collect()
    }

    fn fills(&self, most: usize) -> (KernelSets, Vec<SetFill>) {
        (self.sets.fills().sum(), self.sets.fills().fullest(most))
    }

    fn counts(&self) -> (usize, usize) {
        (self.sets.counts().0, self.iptables.rule_count())
    }
}
