//! The numbers that stand in flows, one type each.

use std::fmt;

use thiserror::Error;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$name> for u128 {
            fn from(number: $name) -> u128 {
                u128::from(number.0)
            }
        }
    };
}

number! {
    /// OpenFlow port number of a local interface; ovs-vswitchd gives 1 to 65279 (`OFPP_MAX` of OpenFlow 1.0, which it keeps to).
    OfPort(u16)
}
number! {
    /// VLAN of a network on this bridge, 1 to 4094; 0 is the untagged network.
    Vlan(u16)
}
number! {
    /// Conntrack zone of a port.
    Zone(u16)
}
number! {
    /// An exact set of security groups, as `reg7` holds it; never 0.
    SetId(u32)
}
number! {
    /// A remote security group or address group, as conjunction id; never 0.
    RemoteId(u32)
}
number! {
    /// `ct_mark` of connections that the policy in force admitted: unique to (set, direction, policy version); 0 is unproven.
    Generation(u32)
}

/// Generations that may be used: a counter and the high-water mark up to which it has been reserved in OVSDB.
///
/// Never read back from flows: conntrack may hold marks that no flow holds any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationPool {
    next: u32,
    limit: u32,
}

/// The reserved generations are used up: reserve more first.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error(
    "no generation is reserved any more below {limit}; raise the high-water mark in external_ids:sgflow-generation"
)]
pub struct GenerationsExhausted {
    /// The mark that was reached.
    pub limit: u32,
}

impl GenerationPool {
    /// Generations from `next` (at least 1) to `limit`, which is excluded.
    pub fn new(next: u32, limit: u32) -> Self {
        GenerationPool { next: next.max(1), limit }
    }

    /// The number that is given out next.
    pub fn next_number(&self) -> u32 {
        self.next
    }

    /// How many are left.
    pub fn remaining(&self) -> u32 {
        self.limit.saturating_sub(self.next)
    }

    /// The mark below which all are reserved.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// More have been reserved: everything below `limit`.
    pub fn raise(&mut self, limit: u32) {
        self.limit = self.limit.max(limit);
    }

    /// The next one.
    pub fn take(&mut self) -> Result<Generation, GenerationsExhausted> {
        if self.next >= self.limit {
            return Err(GenerationsExhausted { limit: self.limit });
        }
        let generation = Generation(self.next);
        self.next += 1;
        Ok(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_given_once_in_order_and_below_the_mark() {
        let mut pool = GenerationPool::new(0, 3);
        let taken = [pool.take(), pool.take()];
        assert_eq!(taken, [Ok(Generation(1)), Ok(Generation(2))], "0 is unproven");
        assert_eq!(pool.take(), Err(GenerationsExhausted { limit: 3 }));
        assert_eq!((pool.remaining(), pool.limit()), (0, 3));
        pool.raise(2);
        assert_eq!(pool.limit(), 3, "a mark is never lowered");
        pool.raise(5);
        assert_eq!((pool.remaining(), pool.limit()), (2, 5));
        assert_eq!(pool.take(), Ok(Generation(3)));
        assert_eq!(pool.remaining(), 1);
    }
}
