//! Members of remotes as the kernel's sets, for rules that match them: one message a member.
//!
//! [`hybrid::Sets`] says which sets there are to be and what is in them, [`Mirror`] keeps the kernel so. It lives on a thread of its own,
//! in the network namespace in which it was started: netlink answers at once, and a large set takes its time.

mod fills;
mod kernel;
mod plan;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hybrid::{Remote, Sets};
use ipset::Ipset;
use policy::{Ethertype, PolicyDelta, PortId};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::api::{GroupKind, GroupPage, KernelSets, SetFill};
use crate::engine::{Fault, SecurityEffect};
use crate::metrics::FULLEST;
use crate::source::unix;
pub use fills::Fills;
pub use kernel::Kernel;
pub use plan::{Drift, Plan};

/// How often the kernel's sets are looked at: nothing tells when somebody else changes one.
const AUDIT: Duration = Duration::from_secs(10);
/// So many looks see how many elements there are, then one what they are.
const LOOKS: u32 = 6;

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Policy(PolicyDelta),
    Local(PortId, bool),
    Complete,
    /// Somebody wants to see how full the sets of these groups are.
    Show(GroupPage, oneshot::Sender<GroupPage>),
}

/// How the sets are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorStatus {
    /// How many there are.
    pub sets: usize,
    /// How many prefixes they hold.
    pub elements: usize,
    /// How often somebody else had changed one.
    pub mended: usize,
    /// When that was put right last, in seconds of Unix.
    pub mended_at: Option<u64>,
    /// How full they are in sum.
    pub sum: KernelSets,
    /// The fullest, fullest first, no more than [`FULLEST`].
    pub fullest: Vec<SetFill>,
    /// What is not as it should be.
    pub faults: Vec<Fault>,
}

/// A mirror at work; it ends when dropped, and the sets stay as they are.
#[derive(Debug)]
pub struct Mirror {
    orders: Sender<Order>,
    status: Arc<Mutex<MirrorStatus>>,
}

impl Mirror {
    /// Begins. With `compress`, neighbouring addresses become prefixes that hold exactly the same.
    ///
    /// # Errors
    /// There is no netlink, no right to use it, or no thread to be had.
    pub fn start(compress: bool) -> Result<Self, MirrorError> {
        let (orders, ordered) = channel();
        let status = Arc::new(Mutex::new(MirrorStatus::default()));
        let mut worker = Worker {
            sets: Sets::new(compress),
            plan: Plan::new(),
            kernel: Ipset::open()?,
            status: Arc::clone(&status),
            has_policy: false,
            looks: 0,
        };
        // It ends with the sender.
        thread::Builder::new().name("ipset".to_owned()).spawn(move || worker.work(&ordered))?;
        Ok(Mirror { orders, status })
    }

    /// The policy changed.
    pub fn policy(&self, delta: PolicyDelta) {
        self.order(Order::Policy(delta));
    }

    /// A port came to this host, or went.
    pub fn local(&self, port: PortId, is_local: bool) {
        self.order(Order::Local(port, is_local));
    }

    /// All ports of this host have been told of, under a policy: what is left over of the time before can go. Until then a set that
    /// nothing names may be one that is named in a moment.
    pub fn complete(&self) {
        self.order(Order::Complete);
    }

    /// Answers with the page when it says how full the sets of its groups are.
    pub fn complete_page(&self, page: GroupPage, answer: oneshot::Sender<GroupPage>) {
        self.order(Order::Show(page, answer));
    }

    /// How the sets are.
    pub fn status(&self) -> MirrorStatus {
        self.locked().clone()
    }

    /// What is not as it should be.
    pub fn faults(&self) -> Vec<Fault> {
        self.locked().faults.clone()
    }

    /// The sets in sum.
    pub fn sets(&self) -> KernelSets {
        self.locked().sum.clone()
    }

    /// The fullest of them, fullest first; so many at most.
    pub fn fullest(&self, most: usize) -> Vec<SetFill> {
        self.locked().fullest.iter().take(most).cloned().collect()
    }

    /// How often somebody else had changed one, and when that was put right last.
    pub fn mended(&self) -> (u64, Option<u64>) {
        let status = self.locked();
        (status.mended as u64, status.mended_at)
    }

    fn locked(&self) -> MutexGuard<'_, MirrorStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            error!("the mirror of sets has ended; the sets stay as they are");
        }
    }
}

/// A mirror that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The kernel's sets cannot be reached.
    #[error(transparent)]
    Ipset(#[from] ipset::Error),
    /// No thread.
    #[error("the mirror of sets: {0}")]
    Thread(#[from] std::io::Error),
}

struct Worker {
    sets: Sets,
    plan: Plan,
    kernel: Ipset,
    status: Arc<Mutex<MirrorStatus>>,
    has_policy: bool,
    looks: u32,
}

impl Worker {
    fn work(&mut self, orders: &Receiver<Order>) {
        let mut look_at = Instant::now() + AUDIT;
        loop {
            // However much is to be changed, or shown.
            if Instant::now() >= look_at {
                self.look();
                self.put_in_force();
                look_at = Instant::now() + AUDIT;
            }
            match orders.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(order) => {
                    self.take(order);
                    // All that is there by now is one change.
                    while let Ok(order) = orders.try_recv() {
                        self.take(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.put_in_force();
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Policy(delta) => {
                self.sets.apply_policy(&delta);
                self.has_policy = true;
            }
            Order::Local(port, is_local) => self.sets.bind(&port, is_local),
            Order::Complete => self.plan.complete(),
            Order::Show(page, answer) => self.show(page, answer),
        }
    }

    fn show(&self, mut page: GroupPage, answer: oneshot::Sender<GroupPage>) {
        for group in &mut page.groups {
            let remote = match group.kind {
                GroupKind::SecurityGroup => Remote::Group(group.id.as_str().into()),
                GroupKind::AddressGroup => Remote::AddressGroup(group.id.as_str().into()),
            };
            let sets = [Ethertype::Ipv4, Ethertype::Ipv6].map(|family| self.sets.set_of(&remote, family));
            group.kernel_sets = sets.into_iter().flatten().filter_map(|set| self.plan.fill(set)).collect();
        }
        // Who asked may be gone.
        _ = answer.send(page);
    }

    fn look(&mut self) {
        self.looks += 1;
        let looked = self.plan.look(&mut self.kernel, self.looks.is_multiple_of(LOOKS));
        if let Err(reason) = looked {
            warn!(%reason, "the kernel's sets cannot be looked at");
        }
    }

    fn put_in_force(&mut self) {
        // Before there is a policy the sets of the time before stay as they are.
        if !self.has_policy {
            return;
        }
        self.plan.want(self.sets.take());
        let done = self.plan.run(&mut self.kernel);
        for Drift { set, missing, unwanted } in &done.drift {
            warn!(%set, missing, unwanted, "somebody else changed a set; it is put right");
        }
        for (object, reason) in &done.failures {
            error!(object, reason, "a set is not as it should be; trying again");
        }
        if done.added + done.deleted > 0 {
            debug!(added = done.added, deleted = done.deleted, "sets changed");
        }
        if done.rebuilt > 0 {
            info!(sets = done.rebuilt, "sets were filled anew and took the place of the old ones");
        }
        let faults =
            self.plan.faults().map(|(object, reason)| Fault { object, reason, effect: SecurityEffect::Kept });
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.faults = faults.collect();
        (status.sets, status.elements) = self.plan.counts();
        (status.sum, status.fullest) = (self.plan.fills().sum(), self.plan.fills().fullest(FULLEST));
        if !done.drift.is_empty() {
            status.mended += done.drift.len();
            status.mended_at = unix(SystemTime::now());
        }
    }
}
