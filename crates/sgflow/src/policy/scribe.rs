//! Who writes a policy to the store.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use agent::config::Store;
use anyhow::Context as _;
use ovsdb::{Change, MonitorTable, TransactError, Uuid};
use policy::{Policy, Port};
use store::{Batch, HOST_ROLE, Held, Writer, prepare};

use super::following::Following;

/// Somebody else wrote meanwhile.
#[derive(Debug)]
pub(super) struct Conflict {
    expected: i64,
    found: i64,
    /// What was written before that was seen.
    pub(super) written: Written,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { expected, found, written } = self;
        write!(
            f,
            "somebody else wrote to the policy store meanwhile (its revision is {found}, not {expected}); "
        )?;
        match written.transactions {
            0 => f.write_str("nothing was written"),
            _ => write!(f, "{written} were written before that, the rest was not"),
        }
    }
}

impl std::error::Error for Conflict {}

/// How much was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows that were changed.
    pub(super) rows: usize,
    /// In how many transactions.
    pub(super) transactions: usize,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { rows, transactions } = self;
        let plural = |number: usize| if number == 1 { "" } else { "s" };
        let (of_rows, of_transactions) = (plural(*rows), plural(*transactions));
        write!(f, "{rows} row{of_rows} in {transactions} transaction{of_transactions}")
    }
}

/// A session with all that is in the store, and with what is to be there.
#[derive(Debug)]
pub(super) struct Scribe {
    following: Following,
    writer: Writer,
    role: Option<Uuid>,
    patience: Duration,
    /// How often the store had been written when the rows were seen that are compared.
    revision: i64,
}

impl Scribe {
    /// Reads the store.
    pub(super) async fn begin(store: &Store, patience: Duration) -> anyhow::Result<Self> {
        let mut monitors = Held::tables();
        monitors.push(MonitorTable::new("RBAC_Role", ["name"]));
        let following = Following::begin(store, monitors)?;
        let mut scribe = Scribe { following, writer: Writer::default(), role: None, patience, revision: 0 };
        scribe.wait().await?;
        Ok(scribe)
    }

    /// Makes what a store has before any policy, if nobody has.
    pub(super) async fn prepare(&mut self) -> anyhow::Result<()> {
        while let Some(transaction) = prepare(self.held().global().map(|(row, ..)| row), self.role) {
            match self.following.handle.transact(transaction).await {
                // Somebody else may prepare it at the same time: there is at most one row Global.
                Ok(_) | Err(TransactError::Commit(_)) => self.see_now()?,
                Err(TransactError::NotConnected | TransactError::Lost(_)) => self.wait().await?,
                Err(error) => return Err(plain(error)),
            }
            if self.held().global().is_none() || self.role.is_none() {
                self.wait().await?;
            }
        }
        self.revision = self.revision_now()?;
        Ok(())
    }

    /// The rows that are in the store.
    pub(super) fn held(&self) -> &Held {
        self.writer.held()
    }

    /// Sees what others have written: what is to be written is to be compared with that.
    pub(super) fn again(&mut self) -> anyhow::Result<()> {
        self.see_now()?;
        self.revision = self.revision_now()?;
        Ok(())
    }

    /// The store is to hold this policy. How much of it is different.
    pub(super) fn want(&mut self, policy: &Policy) -> Batch {
        let mut writer = Writer::holding(self.held().clone());
        writer.apply(&Policy::diff(&Policy::default(), policy), |port| hosts(self.held(), port));
        writer.compare_all();
        let all = writer.batch(usize::MAX).unwrap_or_default();
        writer.failed(all.clone());
        self.writer = writer;
        all
    }

    /// Writes it, in transactions of at most so many rows; `progress` is told of each.
    pub(super) async fn write(
        &mut self,
        limit: usize,
        mut progress: impl FnMut(Written),
    ) -> anyhow::Result<Written> {
        let mut written = Written::default();
        // Of which it is not known whether it was made.
        let mut doubtful: Option<Batch> = None;
        loop {
            // Another member of the cluster may be behind the one that took the last transaction.
            self.see_until(self.revision).await?;
            let found = self.revision_now()?;
            if let Some(batch) = doubtful.take() {
                if found == self.revision + 1 && self.writer.is_written(&batch) {
                    self.note(&batch, &mut written);
                    progress(written);
                }
                self.writer.failed(batch);
            }
            if found != self.revision {
                return Err(Conflict { expected: self.revision, found, written }.into());
            }
            let Some(batch) = self.writer.batch(limit) else { return Ok(written) };
            let transaction = batch.transaction(self.held(), None, false);
            let (transaction, _) = transaction.context("the store is not prepared any more")?;
            match self.following.handle.transact(transaction).await {
                Ok(_) => {
                    self.note(&batch, &mut written);
                    progress(written);
                }
                Err(TransactError::NotConnected) => {
                    self.writer.failed(batch);
                    self.wait().await?;
                }
                Err(TransactError::Lost(_) | TransactError::Malformed(_)) => {
                    doubtful = Some(batch);
                    self.wait().await?;
                }
                // The revision is another: somebody else's, or our own, when the server has tried again what it
                // had done before its leader went.
                Err(error) if is_conflict(&error) => {
                    doubtful = Some(batch);
                    self.see_until(self.revision + 1).await?;
                }
                Err(error) => return Err(plain(error)),
            }
        }
    }

    fn note(&mut self, batch: &Batch, written: &mut Written) {
        self.revision += 1;
        written.rows += batch.rows;
        written.transactions += 1;
    }

    fn revision_now(&self) -> anyhow::Result<i64> {
        let (_, revision, _) = self.held().global().context("the store is not prepared any more")?;
        Ok(revision)
    }

    async fn see_until(&mut self, revision: i64) -> anyhow::Result<()> {
        self.see_now()?;
        while self.revision_now()? < revision {
            self.wait().await?;
        }
        Ok(())
    }

    async fn wait(&mut self) -> anyhow::Result<()> {
        let changes = self.following.changes(self.patience).await?;
        self.see(&changes)
    }

    fn see_now(&mut self) -> anyhow::Result<()> {
        let changes = self.following.changes_now();
        self.see(&changes)
    }

    fn see(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for change in changes {
            if &*change.table == "RBAC_Role"
                && let Some(row) = change.new_row()
                && row.string("name")? == HOST_ROLE
            {
                self.role = Some(change.uuid);
            }
            self.writer.see(change)?;
        }
        Ok(())
    }
}

/// Where a port is bound: during a live migration its row has two hosts, and a document only one of them.
fn hosts(held: &Held, port: &Port) -> BTreeSet<String> {
    let Some(host) = &port.host else { return BTreeSet::new() };
    let hosts = held.hosts(&port.id);
    if hosts.contains(host) { hosts } else { BTreeSet::from([host.clone()]) }
}

fn is_conflict(error: &TransactError) -> bool {
    matches!(error, TransactError::Operation { operation: "wait", error, .. } if error.error == "timed out")
}

/// What the server does not let us do, in plain words.
pub(super) fn plain(error: TransactError) -> anyhow::Error {
    let is_permission =
        matches!(&error, TransactError::Operation { error, .. } if error.error == "permission error");
    let error = anyhow::Error::from(error);
    if is_permission {
        return error.context("the store does not let us write here: at this address hosts write what they say of themselves, and nothing else (RBAC)");
    }
    error.context("the store did not take it")
}
