//! The way out.

use nftables::Batch;

use super::{Bridge, Family, table};
use crate::driver::hybrid::Failure;

impl Bridge {
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
        if !batch.is_empty() {
            self.nft.commit(&batch)?;
        }
        Ok(())
    }

    fn there(&mut self) -> Result<Vec<Family>, Failure> {
        let tables = self.nft.tables()?;
        let is_there = |family: &Family| tables.iter().any(|held| held.id == table(*family));
        Ok([Family::Bridge, Family::Inet].into_iter().filter(is_there).collect())
    }
}
