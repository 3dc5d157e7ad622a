//! The way out.

use nftables::Batch;

use super::{FAMILIES, Family, Tables, table};
use crate::driver::hybrid::{Failure, samples};

/// The chain of `nftables` that all packets come to (crates/hybrid/src/nft/rules.nft).
const FORWARD: &str = "forward";

impl Tables {
    /// Whether one of our tables is there, whatever it holds.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::driver::hybrid) fn is_there(&mut self) -> Result<bool, Failure> {
        Ok(!self.there()?.is_empty())
    }

    /// Takes our tables out of the kernel.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(in crate::driver::hybrid) fn remove(mut self) -> Result<(), Failure> {
        let mut batch = Batch::new();
        for family in self.there()? {
            batch.delete_table(&table(family));
        }
        let looks = samples::table();
        if self.nft.tables()?.iter().any(|held| held.id == looks) {
            batch.delete_table(&looks);
        }
        if !batch.is_empty() {
            self.nft.commit(&batch)?;
        }
        Ok(())
    }

    /// Whether it is they that say what passes, and not iptables.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::driver::hybrid) fn hold_rules(&mut self) -> Result<bool, Failure> {
        let chains = self.nft.chains(&table(Family::Inet))?;
        Ok(chains.iter().any(|chain| chain.id.name.as_str() == FORWARD))
    }

    fn there(&mut self) -> Result<Vec<Family>, Failure> {
        let tables = self.nft.tables()?;
        let is_there = |family: &Family| tables.iter().any(|held| held.id == table(*family));
        Ok(FAMILIES.into_iter().filter(is_there).collect())
    }
}
