//! The kernel's sets, as far as the mirror uses them.

use ipset::{Error, Header, Ipset, Net, Set, SetName, Spec};

/// What [`Ipset`] does; tests have another that forgets and refuses on purpose.
pub trait Kernel {
    /// See [`Ipset::create`].
    fn create(&mut self, spec: &Spec) -> Result<(), Error>;
    /// See [`Ipset::destroy`].
    fn destroy(&mut self, set: &SetName) -> Result<(), Error>;
    /// See [`Ipset::flush`].
    fn flush(&mut self, set: &SetName) -> Result<(), Error>;
    /// See [`Ipset::swap`].
    fn swap(&mut self, one: &SetName, other: &SetName) -> Result<(), Error>;
    /// See [`Ipset::add`].
    fn add(&mut self, set: &SetName, nets: &[Net]) -> Result<(), Error>;
    /// See [`Ipset::delete`].
    fn delete(&mut self, set: &SetName, nets: &[Net]) -> Result<(), Error>;
    /// See [`Ipset::list`].
    fn list(&mut self, set: &SetName) -> Result<Set, Error>;
    /// See [`Ipset::headers`].
    fn headers(&mut self) -> Result<Vec<Header>, Error>;
}

impl Kernel for Ipset {
    fn create(&mut self, spec: &Spec) -> Result<(), Error> {
        Ipset::create(self, spec)
    }

    fn destroy(&mut self, set: &SetName) -> Result<(), Error> {
        Ipset::destroy(self, set)
    }

    fn flush(&mut self, set: &SetName) -> Result<(), Error> {
        Ipset::flush(self, set)
    }

    fn swap(&mut self, one: &SetName, other: &SetName) -> Result<(), Error> {
        Ipset::swap(self, one, other)
    }

    fn add(&mut self, set: &SetName, nets: &[Net]) -> Result<(), Error> {
        Ipset::add(self, set, nets)
    }

    fn delete(&mut self, set: &SetName, nets: &[Net]) -> Result<(), Error> {
        Ipset::delete(self, set, nets)
    }

    fn list(&mut self, set: &SetName) -> Result<Set, Error> {
        Ipset::list(self, set)
    }

    fn headers(&mut self) -> Result<Vec<Header>, Error> {
        Ipset::headers(self)
    }
}
