//! The way out.

use super::{FAMILIES, HOOKS, Iptables, PREFIX, TABLES, Variant};
use crate::driver::hybrid::Failure;

impl Iptables {
    /// Takes every chain of ours out of the kernel, and every rule that leads to one.
    ///
    /// # Errors
    /// A tool does not run or refuses.
    pub(in crate::driver::hybrid) fn remove(variant: Variant) -> Result<(), Failure> {
        let mut iptables = Iptables::new(variant);
        iptables.read_back()?;
        for place in FAMILIES.into_iter().flat_map(|family| TABLES.map(|table| (family, table))) {
            let Some(read) = iptables.read.get_mut(&place) else { continue };
            for hook in HOOKS.iter().filter(|hook| hook.table == place.1) {
                // As wanted as any other rule that leads to chains that are to go.
                if std::mem::replace(&mut read.is_hooked, true) {
                    read.strays.push(format!("{} -j {PREFIX}{}", hook.chain, hook.to));
                }
            }
        }
        iptables.put_in_force().map(drop)
    }
}
