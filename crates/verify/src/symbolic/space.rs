//! Sets of packets, as binary decision diagrams over the bits of their fields.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use oxidd::bdd::{BDDFunction, BDDManagerRef};
use oxidd::{BooleanFunction, Manager, ManagerRef, VarNo};

/// Nodes that all sets together may have; each takes 16 bytes when it is used. Much of it free means that little is
/// collected.
const NODES: usize = 1 << 24;
/// Results of operations that are remembered: of few flows at least, and of however many at most.
const CACHE: (usize, usize) = (1 << 14, 1 << 21);
/// Results for each flow.
const CACHE_BY_FLOW: usize = 256;

/// The sets need more memory than this crate gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the sets of packets need more than {NODES} nodes")]
pub struct Exhausted;

/// A set of packets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Region(BDDFunction);

/// Variables that stand for the bits of a value, the highest bit first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Block {
    start: VarNo,
    bits: u32,
}

impl Block {
    /// The lowest `bits` bits of the value.
    pub(crate) const fn low(self, bits: u32) -> Block {
        Block { start: self.start + self.bits - bits, bits }
    }

    /// The highest `bits` bits of the value.
    pub(crate) const fn high(self, bits: u32) -> Block {
        Block { start: self.start, bits }
    }

    fn variables(self) -> Range<VarNo> {
        self.start..self.start + self.bits
    }
}

/// The variables, in their order in the diagrams: what decides first stands first, and what is compared together stands
/// together. Families share what they never have at once: an IPv4 address is the upper 32 bits of an address's block, an
/// ICMP type the lower 8 bits of the source port's.
macro_rules! blocks {
    ($($name:ident: $bits:literal, $doc:literal;)*) => {
        /// Where each field's variables are.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Blocks { $(#[doc = $doc] pub(crate) $name: Block,)* }

        impl Blocks {
            const fn new() -> (Blocks, VarNo) {
                let mut next = 0;
                $(let $name = Block { start: next, bits: $bits }; next += $bits;)*
                (Blocks { $($name),* }, next)
            }
        }
    };
}

blocks! {
    eth_type: 16, "Ethertype.";
    tci: 16, "The outermost tag's TCI.";
    frag: 2, "Fragment bits of ovs-fields(7).";
    proto: 8, "Protocol above IP.";
    first: 16, "Source port, or ICMP type.";
    second: 16, "Destination port, or ICMP code.";
    eth_src: 48, "Source MAC.";
    eth_dst: 48, "Destination MAC.";
    src: 128, "Source address, or that of the ARP sender.";
    dst: 128, "Destination address.";
    sha: 48, "ARP sender's MAC.";
    nd_target: 128, "Target of a neighbour advertisement.";
    mark: 32, "Mark of the connection.";
    tuple_proto: 8, "Protocol of a connection's first packet, where the packet itself does not show it.";
    tuple_first: 16, "Its source port, or ICMP type.";
    tuple_second: 16, "Its destination port, or ICMP code.";
    tuple_src: 128, "Its source address.";
    tuple_dst: 128, "Its destination address.";
}

/// Where each field's variables are.
pub(crate) const BLOCKS: Blocks = Blocks::new().0;

/// The space that all sets are sets of.
pub(crate) struct Space {
    manager: BDDManagerRef,
    /// What single matches hold: tables and policy name the same few again and again.
    terms: RefCell<HashMap<(Block, u128, u128), Region>>,
}

impl Space {
    /// A space for tables of so many flows.
    pub(crate) fn new(flows: usize) -> Self {
        let cache = flows.saturating_mul(CACHE_BY_FLOW).clamp(CACHE.0, CACHE.1).next_power_of_two();
        let manager = oxidd::bdd::new_manager(NODES, cache, 1);
        manager.with_manager_exclusive(|manager| _ = manager.add_vars(Blocks::new().1));
        Space { manager, terms: RefCell::default() }
    }

    pub(crate) fn all(&self) -> Region {
        Region(self.manager.with_manager_shared(BDDFunction::t))
    }

    pub(crate) fn none(&self) -> Region {
        Region(self.manager.with_manager_shared(BDDFunction::f))
    }

    /// The packets in which the bits of `mask` are those of `value`.
    pub(crate) fn matching(&self, block: Block, value: u128, mask: u128) -> Result<Region, Exhausted> {
        let key = (block, value, mask);
        if let Some(known) = self.terms.borrow().get(&key) {
            return Ok(known.clone());
        }
        let made = self.made(block, value, mask)?;
        self.terms.borrow_mut().insert(key, made.clone());
        Ok(made)
    }

    fn made(&self, block: Block, value: u128, mask: u128) -> Result<Region, Exhausted> {
        self.manager.with_manager_shared(|manager| {
            let mut region = BDDFunction::t(manager);
            // From the last variable up, each step adds one node on top.
            for (bit, variable) in block.variables().rev().enumerate() {
                if mask >> bit & 1 == 0 {
                    continue;
                }
                let literal = match value >> bit & 1 {
                    1 => BDDFunction::var(manager, variable),
                    _ => BDDFunction::not_var(manager, variable),
                };
                let literal = literal.map_err(|_| Exhausted)?;
                region = literal.and(&region).map_err(|_| Exhausted)?;
            }
            Ok(Region(region))
        })
    }

    /// The packets in which a value is just this.
    pub(crate) fn is(&self, block: Block, value: impl Into<u128>) -> Result<Region, Exhausted> {
        self.matching(block, value.into(), u128::MAX)
    }

    /// Just this packet.
    pub(crate) fn only(&self, example: &Example) -> Result<Region, Exhausted> {
        self.manager.with_manager_shared(|manager| {
            let mut region = BDDFunction::t(manager);
            let bits: Vec<(VarNo, &bool)> = (0..).zip(&example.bits).collect();
            for (variable, bit) in bits.into_iter().rev() {
                let literal = match bit {
                    true => BDDFunction::var(manager, variable),
                    false => BDDFunction::not_var(manager, variable),
                };
                let literal = literal.map_err(|_| Exhausted)?;
                region = literal.and(&region).map_err(|_| Exhausted)?;
            }
            Ok(Region(region))
        })
    }

    /// What is in any of them. Neighbours are joined first, so that no diagram is walked once for each of many.
    pub(crate) fn any(&self, mut regions: Vec<Region>) -> Result<Region, Exhausted> {
        while regions.len() > 1 {
            let joined: Result<Vec<_>, _> = regions
                .chunks(2)
                .map(|pair| match pair {
                    [a, b] => a.or(b),
                    _ => Ok(pair[0].clone()),
                })
                .collect();
            regions = joined?;
        }
        Ok(regions.pop().unwrap_or_else(|| self.none()))
    }

    /// The packets whose value lies between two numbers, both included.
    pub(crate) fn between(&self, block: Block, min: u128, max: u128) -> Result<Region, Exhausted> {
        let mut parts = Vec::new();
        let mut start = min;
        // The longest aligned run from `start` on that does not go beyond `max`, again and again.
        while start <= max {
            let mut bits = 0;
            while bits < block.bits && start >> bits & 1 == 0 && start + (2 << bits) - 1 <= max {
                bits += 1;
            }
            parts.push(self.matching(block, start, u128::MAX << bits)?);
            start += 1 << bits;
        }
        self.any(parts)
    }
}

impl Region {
    pub(crate) fn and(&self, other: &Region) -> Result<Region, Exhausted> {
        self.0.and(&other.0).map(Region).map_err(|_| Exhausted)
    }

    pub(crate) fn or(&self, other: &Region) -> Result<Region, Exhausted> {
        self.0.or(&other.0).map(Region).map_err(|_| Exhausted)
    }

    pub(crate) fn not(&self) -> Result<Region, Exhausted> {
        self.0.not().map(Region).map_err(|_| Exhausted)
    }

    pub(crate) fn minus(&self, other: &Region) -> Result<Region, Exhausted> {
        // `a imp_strict b` is "b and not a".
        other.0.imp_strict(&self.0).map(Region).map_err(|_| Exhausted)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.0.satisfiable()
    }

    /// One packet of the set: the values of its fields, 0 where they do not matter. None for the empty set.
    pub(crate) fn example(&self) -> Option<Example> {
        let cube = self.0.pick_cube(|_, _, _| false)?;
        Some(Example { bits: cube.iter().map(|bit| *bit == oxidd::util::OptBool::True).collect() })
    }
}

/// One packet of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Example {
    bits: Vec<bool>,
}

impl Example {
    /// The value of a field.
    pub(crate) fn get(&self, block: Block) -> u128 {
        block.variables().fold(0, |value, variable| {
            let bit =
                usize::try_from(variable).ok().and_then(|at| self.bits.get(at)).copied().unwrap_or(false);
            value << 1 | u128::from(bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_lies_between() {
        let space = Space::new(0);
        for (min, max) in [(0, 0), (1, 1), (80, 443), (0, 65535), (1, 65534), (32768, 65535)] {
            let range = space.between(BLOCKS.second, min, max).unwrap();
            for port in [0, 1, 79, 80, 81, 300, 442, 443, 444, 32767, 32768, 65534, 65535] {
                let hit = !range.and(&space.is(BLOCKS.second, port).unwrap()).unwrap().is_empty();
                assert_eq!(hit, (min..=max).contains(&port), "{port} in {min}..={max}");
            }
        }
    }

    #[test]
    fn an_example_is_in_its_set() {
        let space = Space::new(0);
        let one = space.is(BLOCKS.eth_src, 0xfa16_3e00_0001_u128).unwrap();
        let region = one.and(&space.is(BLOCKS.frag.low(1), 1u8).unwrap()).unwrap();
        let example = region.example().unwrap();
        assert_eq!((example.get(BLOCKS.eth_src), example.get(BLOCKS.frag)), (0xfa16_3e00_0001, 1));
        assert_eq!(region.minus(&one).unwrap().example(), None);
        assert!(one.minus(&region).unwrap().example().is_some_and(|example| example.get(BLOCKS.frag) == 0));
        assert!(one.not().unwrap().and(&one).unwrap() == space.none());
        assert!(one.or(&one.not().unwrap()).unwrap() == space.all());
    }
}
