//! The kernel's tables, in the network namespace of the thread that asks.

use nfnetlink::{Malformed, Message, Request, Socket, Subsystem};

use crate::batch::Batch;
use crate::element::{Counter, Element};
use crate::error::Error;
use crate::name::{ChainId, SetId, TableId};
use crate::rule::Rule;
use crate::set::{Set, SetFlags};
use crate::table::{Chain, Table};
use crate::value::Value;
use crate::wire::{self, command};

/// How often something is asked for that changes while it is read.
const TRIES: usize = 16;

/// A connection to the kernel's tables.
#[derive(Debug)]
pub struct Nftables {
    pub(crate) socket: Socket,
}

impl Nftables {
    /// Opens a connection.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub fn open() -> Result<Self, Error> {
        Ok(Nftables { socket: Socket::open()? })
    }

    /// Has the kernel do a batch.
    ///
    /// # Errors
    /// An operation was refused ([`Error::Refused`]) or the batch as a whole; nothing was done.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        self.commit_at(batch, None)
    }

    /// Has the kernel do a batch if the generation is still this one, that is, if nobody has committed anything since
    /// [`Nftables::generation`] said so.
    ///
    /// # Errors
    /// It is not ([`Error::is_stale`]); or as with [`Nftables::commit`].
    pub fn commit_for(&mut self, batch: &Batch, generation: u32) -> Result<(), Error> {
        self.commit_at(batch, Some(generation))
    }

    fn commit_at(&mut self, batch: &Batch, generation: Option<u32>) -> Result<(), Error> {
        let refusals = self.socket.transact(Subsystem::Nftables, generation, batch.requests())?;
        match refusals.first() {
            None => Ok(()),
            Some(first) => Err(Error::Refused(batch.refused(first).map_err(nfnetlink::Error::from)?)),
        }
    }

    /// The number of the last change; every batch that is done has the next one.
    ///
    /// # Errors
    /// No right to ask, or an answer that cannot be read.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let mut generation = None;
        self.socket.ask(wire::get_generation(), |message| {
            generation = Some(wire::generation(message)?);
            Ok(())
        })?;
        Ok(generation.ok_or(nfnetlink::Error::Malformed(Malformed("no generation")))?)
    }

    /// All tables of our families.
    ///
    /// # Errors
    /// No right to ask, or an answer that cannot be read; so with all that follow.
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        self.dump(
            || wire::dump(command::GET_TABLE, None),
            |message, tables| {
                tables.extend(wire::table(message)?);
                Ok(())
            },
        )
    }

    /// The chains of a table; none if there is no such table.
    pub fn chains(&mut self, table: &TableId) -> Result<Vec<Chain>, Error> {
        self.dump(
            || wire::dump(command::GET_CHAIN, Some(table)),
            |message, chains| {
                // The kernel tells those of all tables of the family.
                chains.extend(wire::chain(message)?.filter(|chain| chain.id.table == *table));
                Ok(())
            },
        )
    }

    /// The sets and maps of a table, without their elements.
    ///
    /// # Errors
    /// There is no such table ([`Error::is_not_found`]).
    pub fn sets(&mut self, table: &TableId) -> Result<Vec<Set>, Error> {
        self.dump(
            || wire::dump(command::GET_SET, Some(table)),
            |message, sets| {
                sets.extend(wire::set(message)?);
                Ok(())
            },
        )
    }

    /// A set or map, without its elements.
    ///
    /// # Errors
    /// There is no such set ([`Error::is_not_found`]).
    pub fn set(&mut self, set: &SetId) -> Result<Set, Error> {
        let mut read = None;
        self.socket.ask(wire::get_set(set), |message| {
            read = wire::set(message)?;
            Ok(())
        })?;
        Ok(read.ok_or(nfnetlink::Error::Malformed(Malformed("no set")))?)
    }

    /// The elements of a set or map; [`crate::ranges`] makes ranges of them. Sets of single keys are read until they were read twice with
    /// the same outcome: while the kernel makes room in a hash table, which goes on after what was added is committed, it tells some of
    /// the elements twice and others not at all, and does not say so (net/netfilter/nft_set_hash.c: `nft_rhash_walk`; seen with Linux
    /// 6.18: up to a sixth of 100,000 elements that had just been added).
    ///
    /// # Errors
    /// There is no such set ([`Error::is_not_found`]), or it changes all the time.
    pub fn elements(&mut self, set: &SetId) -> Result<Vec<Element>, Error> {
        let is_hashed = !self.set(set)?.flags.has(SetFlags::INTERVAL);
        let mut before = None;
        for _ in 0..TRIES {
            let mut elements = self.dump(
                || wire::dump_elements(set),
                |message, elements| wire::elements(message, |element| elements.push(element)),
            )?;
            elements.sort_unstable();
            if !is_hashed || before.as_ref() == Some(&elements) {
                return Ok(elements);
            }
            before = Some(elements);
        }
        Err(nfnetlink::Error::Interrupted.into())
    }

    /// What the elements of a set have counted that rules put them into (`update @set { key counter }`). Those that are put in meanwhile may be
    /// missing, and others while the kernel makes room for these: who asks again and again keeps what it knows.
    ///
    /// # Errors
    /// There is no such set ([`Error::is_not_found`]).
    pub fn counters(&mut self, set: &SetId) -> Result<Vec<(Value, Counter)>, Error> {
        self.dump(
            || wire::dump_elements(set),
            |message, counters| wire::counters(message, |key, counter| counters.push((key, counter))),
        )
    }

    /// The rules of a chain, in order; none if there is no such chain.
    pub fn rules(&mut self, chain: &ChainId) -> Result<Vec<Rule>, Error> {
        self.dump(
            || wire::dump_rules(chain),
            |message, rules| {
                rules.extend(wire::rule(message)?);
                Ok(())
            },
        )
    }

    /// The rules of all chains of a table, chain by chain, in order; none if there is no such table.
    pub fn rules_of_table(&mut self, table: &TableId) -> Result<Vec<Rule>, Error> {
        self.dump(
            || wire::dump(command::GET_RULE, Some(table)),
            |message, rules| {
                rules.extend(wire::rule(message)?);
                Ok(())
            },
        )
    }

    /// Asks again as long as anything changes meanwhile. That a list was interrupted the kernel tells of tables, chains, sets and rules,
    /// but not of elements (net/netfilter/nf_tables_api.c: `nf_tables_dump_set`; seen with Linux 6.18), so that the generation is asked
    /// for before and behind.
    fn dump<T>(
        &mut self,
        request: impl Fn() -> Request,
        read: impl Fn(&Message<'_>, &mut Vec<T>) -> Result<(), Malformed>,
    ) -> Result<Vec<T>, Error> {
        let mut before = self.generation()?;
        for _ in 0..TRIES {
            let mut all = Vec::new();
            let asked = self.socket.ask(request(), |message| read(message, &mut all));
            let behind = self.generation()?;
            match asked {
                Ok(()) if before == behind => return Ok(all),
                Ok(()) | Err(nfnetlink::Error::Interrupted) => before = behind,
                Err(error) => return Err(error.into()),
            }
        }
        Err(nfnetlink::Error::Interrupted.into())
    }
}
