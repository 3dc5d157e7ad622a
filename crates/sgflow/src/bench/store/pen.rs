//! Who writes: a session with all that is in the store, as `sgflow policy put` and a publisher have one.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{Change, MonitorTable, Remote, ServerPolicy, SessionConfig, SessionEvent, TransactError, Uuid};
use policy::{PolicyDelta, Port};
use store::{Held, Writer, schema};
use tokio::time::{Instant, sleep, timeout};

/// For how long one transaction may be tried.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// A session that writes.
pub(crate) struct Pen {
    handle: SessionHandle,
    events: SessionEvents,
    writer: Writer,
    /// Rows of table Host that were written since that was asked for.
    answers: BTreeSet<Uuid>,
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Before the last transaction was sent.
    pub(crate) sent: Instant,
    /// Its answer was here.
    pub(crate) committed: Instant,
    pub(crate) transactions: usize,
}

impl Pen {
    /// Connects to the leader of an empty store and makes what is in it before any policy.
    pub(crate) async fn begin(members: Vec<Remote>) -> Result<Self> {
        let first = members.first().context("no server")?.clone();
        let mut monitors = Held::tables();
        monitors.push(MonitorTable::new(schema::HOST, ["applied", "writes"]));
        let config = SessionConfig {
            remotes: members,
            server: ServerPolicy::Leader,
            schema: Some(schema::schema()),
            monitors,
            // A server that takes in a large transaction says nothing for as long as that takes it.
            probe_interval: Duration::from_secs(60),
            ..SessionConfig::new(first, schema::DATABASE)
        };
        let (handle, events) = session::spawn(config);
        let mut pen = Pen { handle, events, writer: Writer::default(), answers: BTreeSet::new() };
        let prepare = store::prepare(None, None).context("nothing to prepare")?;
        let mut tried = pen.handle.transact(prepare.clone()).await;
        let begun = Instant::now();
        while let Err(TransactError::NotConnected) = tried {
            if begun.elapsed() > PATIENCE {
                bail!("no connection to the store");
            }
            sleep(PAUSE).await;
            tried = pen.handle.transact(prepare.clone()).await;
        }
        tried.context("preparing the store")?;
        pen.see_now()?;
        Ok(pen)
    }

    /// Writes a change, in transactions of at most so many rows, and when there is no leader as soon as there is one.
    pub(crate) async fn write(&mut self, delta: &PolicyDelta, limit: usize) -> Result<Written> {
        let host = |port: &Port| port.host.iter().cloned().collect::<BTreeSet<_>>();
        self.writer.apply(delta, host);
        let begun = Instant::now();
        let mut written = Written { sent: begun, committed: begun, transactions: 0 };
        loop {
            self.see_now()?;
            let Some(batch) = self.writer.batch(limit) else { return Ok(written) };
            let transaction = batch.transaction(self.writer.held(), None, false);
            let (transaction, _) = transaction.context("the store is not prepared")?;
            written.sent = Instant::now();
            match timeout(PATIENCE, self.handle.transact(transaction)).await? {
                Ok(_) => {
                    written.committed = Instant::now();
                    written.transactions += 1;
                }
                // Not connected, or not known whether it was made: the rows will say what is left to do.
                Err(error) if begun.elapsed() > PATIENCE => return Err(error).context("writing"),
                Err(_) => {
                    self.writer.failed(batch);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Hosts are to be counted anew.
    pub(crate) fn forget_answers(&mut self) -> Result<()> {
        self.see_now()?;
        self.answers.clear();
        Ok(())
    }

    /// How many hosts have said since then that they have the policy in force.
    pub(crate) fn answers(&mut self) -> Result<usize> {
        self.see_now()?;
        Ok(self.answers.len())
    }

    fn see_now(&mut self) -> Result<()> {
        while let Some(event) = self.events.try_recv() {
            let SessionEvent::Update(changes) = event else { continue };
            changes.iter().try_for_each(|change| self.see(change))?;
        }
        Ok(())
    }

    fn see(&mut self, change: &Change) -> Result<()> {
        if let Some(row) = change.new_row().filter(|_| &*change.table == schema::HOST)
            && row.integer("applied")? > 0
        {
            self.answers.insert(change.uuid);
        }
        Ok(self.writer.see(change)?)
    }
}
