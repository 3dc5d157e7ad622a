//! TCP as VMs speak it: how much a connection carries, and how many can be made in turn.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use lab::Vm;

const MEGABYTE: usize = 1_000_000;
/// A connection that makes no progress for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open connection.
pub(super) struct Stream {
    client: TcpStream,
    server: TcpStream,
}

impl Stream {
    pub(super) fn open(client: &Vm, server: &Vm, address: SocketAddr) -> Result<Self> {
        let listener = server.netns().enter(|| TcpListener::bind(address))??;
        let client =
            client.netns().enter(|| TcpStream::connect_timeout(&address, PATIENCE))?.context("connecting")?;
        let (server, _) = listener.accept()?;
        client.set_write_timeout(Some(PATIENCE))?;
        server.set_read_timeout(Some(PATIENCE))?;
        Ok(Stream { client, server })
    }

    /// The client sends so much; gives the same number when the server has it all.
    pub(super) fn carry(&mut self, megabytes: usize) -> Result<usize> {
        let (mut client, chunk) = (&self.client, vec![0; MEGABYTE]);
        thread::scope(|scope| {
            let sends = scope.spawn(move || (0..megabytes).try_for_each(|_| client.write_all(&chunk)));
            let mut buffer = vec![0; MEGABYTE];
            for _ in 0..megabytes {
                self.server.read_exact(&mut buffer).context("receiving")?;
            }
            sends.join().map_err(|_| anyhow!("the sender panicked"))?.context("sending")
        })?;
        Ok(megabytes)
    }
}

/// Makes so many connections, one after the other, and gives their number. The server is the first to close, so that
/// no port of the client's waits for its time to be over.
pub(super) fn connect_in_turn(client: &Vm, server: &Vm, address: SocketAddr, count: usize) -> Result<usize> {
    let listener = server.netns().enter(|| TcpListener::bind(address))??;
    thread::scope(|scope| {
        let accepts = scope.spawn(|| (0..count).try_for_each(|_| listener.accept().map(drop)));
        client.netns().enter(|| -> Result<()> {
            for _ in 0..count {
                let mut connection = TcpStream::connect_timeout(&address, PATIENCE).context("connecting")?;
                connection.set_read_timeout(Some(PATIENCE))?;
                connection.read_to_end(&mut Vec::new()).context("waiting for the end")?;
            }
            Ok(())
        })??;
        accepts.join().map_err(|_| anyhow!("the server panicked"))?.context("accepting")
    })?;
    Ok(count)
}
