//! The kernel's table, in the network namespace of the thread that asks.

use nfnetlink::{Malformed, Socket, Subsystem};
use thiserror::Error;

use crate::connection::Connection;
use crate::wire::{self, command};

/// Why something was not done.
#[derive(Debug, Error)]
#[error("conntrack: {0}")]
pub struct Error(#[from] nfnetlink::Error);

impl Error {
    /// News were lost because nobody took them in time: what is known of the table is to be read anew.
    pub fn is_news_lost(&self) -> bool {
        matches!(&self.0, nfnetlink::Error::Io(error) if error.raw_os_error() == Some(NO_BUFFERS))
    }
}

/// `ENOBUFS`, `ENOENT`.
const NO_BUFFERS: i32 = 105;
const NO_ENTRY: i32 = 2;

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE`, `_DESTROY`.
const NEWS: [u32; 3] = [1, 2, 3];

/// A connection to the kernel's table of tracked connections.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a connection.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub fn open() -> Result<Self, Error> {
        Ok(Conntrack { socket: Socket::open()? })
    }

    /// Gives `each` every connection, or every one of a zone: those for which any direction has it.
    ///
    /// # Errors
    /// The kernel tracks nothing, or says what cannot be read.
    pub fn dump(&mut self, zone: Option<u16>, mut each: impl FnMut(Connection)) -> Result<(), Error> {
        self.socket.ask(wire::dump(zone), |message| {
            let connection = wire::connection(message)?;
            if zone.is_none_or(|zone| connection.zone == zone) {
                each(connection);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Forgets connections. Those that are gone already, or whose addresses another has by now that the kernel tells from them, are
    /// passed over. Returns how many were there.
    ///
    /// # Errors
    /// No right to do it.
    pub fn delete<'c>(
        &mut self,
        connections: impl IntoIterator<Item = &'c Connection>,
    ) -> Result<usize, Error> {
        self.each_that_is_there(connections, |connection| wire::about(command::DELETE, connection))
    }

    /// Gives connections another mark. Returns how many were there.
    ///
    /// # Errors
    /// No right to do it.
    pub fn set_mark<'c>(
        &mut self,
        connections: impl IntoIterator<Item = &'c Connection>,
        mark: u32,
    ) -> Result<usize, Error> {
        self.each_that_is_there(connections, |connection| wire::mark(connection, mark))
    }

    fn each_that_is_there<'c>(
        &mut self,
        connections: impl IntoIterator<Item = &'c Connection>,
        request: impl Fn(&Connection) -> nfnetlink::Request,
    ) -> Result<usize, Error> {
        let mut done = 0;
        for connection in connections {
            match self.socket.call(request(connection)) {
                Ok(()) => done += 1,
                Err(error) if error.code() == Some(NO_ENTRY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

/// Something that happened to a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It came.
    New(Connection),
    /// Its state, mark or labels changed.
    Update(Connection),
    /// It is gone.
    Destroy(Connection),
}

/// News of the table, from when it was opened on.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
}

impl Events {
    /// Begins to listen.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open()?;
        for group in NEWS {
            socket.join(group)?;
        }
        Ok(Events { socket })
    }

    /// Waits for news, and returns all that came at once.
    ///
    /// # Errors
    /// News were lost ([`Error::is_news_lost`]), or cannot be read.
    pub fn wait(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        self.socket.news(|message| {
            match message.command(Subsystem::Conntrack) {
                // A new one is created (`NLM_F_CREATE`); otherwise it is a change.
                Some(command::NEW) if message.flags & nfnetlink::Request::CREATE != 0 => {
                    events.push(Event::New(wire::connection(message)?));
                }
                Some(command::NEW) => events.push(Event::Update(wire::connection(message)?)),
                Some(command::DELETE) => events.push(Event::Destroy(wire::connection(message)?)),
                Some(_) => {}
                None => return Err(Malformed("news of another subsystem")),
            }
            Ok(())
        })?;
        Ok(events)
    }
}
