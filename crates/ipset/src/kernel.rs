//! The kernel's sets, in the network namespace of the thread that asks.

use std::collections::BTreeMap;

use nfnetlink::{Malformed, Socket};

use crate::error::Error;
use crate::set::{Family, Header, Net, Set, SetName, Spec};
use crate::wire::{self, command};

/// How often a list is asked for that changes while it is read.
const TRIES: usize = 16;

/// A connection to the kernel's sets.
#[derive(Debug)]
pub struct Ipset {
    socket: Socket,
    revisions: BTreeMap<Family, u8>,
}

impl Ipset {
    /// Opens a connection.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub fn open() -> Result<Self, Error> {
        Ok(Ipset { socket: Socket::open()?, revisions: BTreeMap::new() })
    }

    /// Makes a set that is empty.
    ///
    /// # Errors
    /// There is one of that name, or the kernel has no `hash:net`.
    pub fn create(&mut self, spec: &Spec) -> Result<(), Error> {
        let revision = self.revision(spec.family)?;
        let created = self.socket.call(wire::create(spec, revision));
        created.map_err(|error| Error::of(error, "create", spec.name.as_str()))
    }

    /// Ends a set.
    ///
    /// # Errors
    /// There is none, or something refers to it.
    pub fn destroy(&mut self, set: &SetName) -> Result<(), Error> {
        let destroyed = self.socket.call(wire::about(command::DESTROY, set));
        destroyed.map_err(|error| Error::of(error, "destroy", set.as_str()))
    }

    /// Takes everything out of a set.
    ///
    /// # Errors
    /// There is none.
    pub fn flush(&mut self, set: &SetName) -> Result<(), Error> {
        let flushed = self.socket.call(wire::about(command::FLUSH, set));
        flushed.map_err(|error| Error::of(error, "flush", set.as_str()))
    }

    /// Gives a set another name.
    ///
    /// # Errors
    /// There is none, something refers to it, or the name is taken.
    pub fn rename(&mut self, set: &SetName, to: &SetName) -> Result<(), Error> {
        let renamed = self.socket.call(wire::about_both(command::RENAME, set, to));
        renamed.map_err(|error| Error::of(error, "rename", set.as_str()))
    }

    /// Has two sets of one type change their places: who refers to one of them refers to the other from then on, and no packet
    /// meets anything in between.
    ///
    /// # Errors
    /// One of them is not there, or they are of different types or families.
    pub fn swap(&mut self, one: &SetName, other: &SetName) -> Result<(), Error> {
        let swapped = self.socket.call(wire::about_both(command::SWAP, one, other));
        swapped.map_err(|error| Error::of(error, "swap", one.as_str()))
    }

    /// Adds elements; those that are there already stay. Some thousand go into one message.
    ///
    /// # Errors
    /// There is no such set, it is full, or an element is of another family. Elements before the one to blame are in the set, some of those
    /// behind it may be.
    pub fn add<'n>(&mut self, set: &SetName, nets: impl IntoIterator<Item = &'n Net>) -> Result<(), Error> {
        let added = self.socket.call_all(wire::change(command::ADD, set, nets));
        added.map_err(|error| Error::of(error, "add to", set.as_str()))
    }

    /// Takes elements out; those that are not there are as good as taken out.
    ///
    /// # Errors
    /// There is no such set, or an element is of another family.
    pub fn delete<'n>(
        &mut self,
        set: &SetName,
        nets: impl IntoIterator<Item = &'n Net>,
    ) -> Result<(), Error> {
        let deleted = self.socket.call_all(wire::change(command::DELETE, set, nets));
        deleted.map_err(|error| Error::of(error, "delete from", set.as_str()))
    }

    /// A set and all that is in it.
    ///
    /// # Errors
    /// There is none, or one of another type.
    pub fn list(&mut self, set: &SetName) -> Result<Set, Error> {
        self.whole(|ipset| ipset.list_once(set))
    }

    /// All sets, of whatever type, without their elements.
    pub fn headers(&mut self) -> Result<Vec<Header>, Error> {
        self.whole(Self::headers_once)
    }

    fn list_once(&mut self, set: &SetName) -> Result<Set, Error> {
        let (mut header, mut other_type) = (None, None);
        let mut entries = Vec::new();
        let listed = self.socket.ask(wire::list(Some(set), false), |message| {
            let listed = wire::listed(message)?;
            if let Some(begun) = listed.header {
                if begun.type_name != wire::TYPE {
                    other_type = Some(begun.type_name);
                    return Ok(());
                }
                entries.reserve(usize::try_from(begun.elements).unwrap_or_default());
                header = Some(begun);
            }
            // What of a set of another type its elements are, nobody here can tell.
            for element in listed.elements.into_iter().flatten().filter(|_| other_type.is_none()) {
                entries.push(wire::entry(element?)?);
            }
            Ok(())
        });
        listed.map_err(|error| Error::of(error, "list", set.as_str()))?;
        if let Some(type_name) = other_type {
            return Err(Error::OtherType { name: set.clone(), type_name });
        }
        let header = header.ok_or(nfnetlink::Error::Malformed(Malformed("a list without the set")))?;
        Ok(Set { header, entries })
    }

    fn headers_once(&mut self) -> Result<Vec<Header>, Error> {
        let mut headers = Vec::new();
        self.socket.ask(wire::list(None, true), |message| {
            headers.extend(wire::listed(message)?.header);
            Ok(())
        })?;
        Ok(headers)
    }

    /// Asks again as long as what is read changes meanwhile.
    fn whole<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 1..TRIES {
            match ask(self) {
                Err(Error::Netlink(nfnetlink::Error::Interrupted)) => {}
                answered => return answered,
            }
        }
        ask(self)
    }

    /// The newest revision of our type that the kernel has.
    fn revision(&mut self, family: Family) -> Result<u8, Error> {
        if let Some(revision) = self.revisions.get(&family) {
            return Ok(*revision);
        }
        let mut highest = 0;
        let asked = self.socket.ask(wire::revisions(family), |message| {
            highest = wire::highest_revision(message)?;
            Ok(())
        });
        asked.map_err(|error| Error::of(error, "use sets of type", wire::TYPE))?;
        self.revisions.insert(family, highest);
        Ok(highest)
    }
}
