//! Many hosts in one process, each with its own session to the policy store and with a driver that counts instead of a switch: for benchmarks, and
//! for tests of what a whole cloud does to the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ovsdb::session::Traffic;
use ovsdb::{Remote, TlsConfig};
use policy::{Policy, PolicyDelta};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::source::{Store, StoreSetup};

/// Says what is wrong with a change of a host's policy.
pub type Judge = fn(&Policy, &PolicyDelta) -> Vec<String>;

/// Hosts that follow one store. They end when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    hosts: Vec<Host>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Host {
    name: String,
    seen: Arc<Mutex<Seen>>,
    questions: mpsc::Sender<oneshot::Sender<Option<Traffic>>>,
    task: JoinHandle<()>,
}

/// What a host was told.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often the policy changed.
    pub changes: u64,
    /// Objects in these changes: groups, address groups, ports and members.
    pub objects: u64,
    /// When it changed last.
    pub last: Option<Instant>,
    /// The policy, where it is kept.
    pub policy: Policy,
    /// What it refuses.
    pub faults: Vec<String>,
    /// What the judge has found.
    pub wrong: Vec<String>,
}

impl Fleet {
    /// Starts a host for each name. With a `judge` each holds its policy, and has what it is told looked at; without one, only the session holds it.
    pub fn start(
        remotes: &[Remote],
        tls: Option<&TlsConfig>,
        names: &[String],
        judge: Option<Judge>,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let host = |name: &String| {
            let setup =
                StoreSetup { remotes: remotes.to_vec(), tls: tls.cloned(), host: name.clone(), cache: None };
            let seen = Arc::new(Mutex::new(Seen::default()));
            let (questions, asked) = mpsc::channel(1);
            let task = tokio::spawn(follow(setup, Arc::clone(&seen), Arc::clone(&changed), asked, judge));
            Host { name: name.clone(), seen, questions, task }
        };
        Fleet { hosts: names.iter().map(host).collect(), changed }
    }

    /// The names of the hosts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| host.name.as_str())
    }

    /// What each host has seen.
    pub fn seen(&self) -> Vec<Seen> {
        self.hosts.iter().map(|host| lock(&host.seen).clone()).collect()
    }

    /// How often the policy of each host has changed, and when last.
    pub fn changes(&self) -> Vec<(u64, Option<Instant>)> {
        let of = |host: &Host| {
            let seen = lock(&host.seen);
            (seen.changes, seen.last)
        };
        self.hosts.iter().map(of).collect()
    }

    /// Bytes that each host has exchanged with the store.
    pub async fn traffic(&self) -> Vec<Traffic> {
        let mut all = Vec::new();
        for host in &self.hosts {
            let (sender, answer) = oneshot::channel();
            // A host that has ended has nothing to say.
            _ = host.questions.send(sender).await;
            all.push(answer.await.ok().flatten().unwrap_or_default());
        }
        all
    }

    /// Waits until all hosts are as they should be, for so long at most; whether they came to be.
    pub async fn until(&self, patience: Duration, is_so: impl Fn(&Seen, usize) -> bool) -> bool {
        let all = async {
            loop {
                let news = self.changed.notified();
                if self.hosts.iter().enumerate().all(|(place, host)| is_so(&lock(&host.seen), place)) {
                    return;
                }
                // A word may be missed while all were looked at.
                _ = timeout(Duration::from_millis(20), news).await;
            }
        };
        timeout(patience, all).await.is_ok()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.hosts.iter().for_each(|host| host.task.abort());
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // What was seen is whole between any two changes.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(
    setup: StoreSetup,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    mut questions: mpsc::Receiver<oneshot::Sender<Option<Traffic>>>,
    judge: Option<Judge>,
) {
    let mut store = Store::begin(setup);
    loop {
        tokio::select! {
            happened = store.wait() => {
                store.take(happened);
            }
            question = questions.recv() => match question {
                // Who asked may be gone.
                Some(question) => _ = question.send(store.traffic().await),
                None => return,
            },
        }
        // Nothing is plugged in: a host's ports are those that are bound to it.
        while let Some(delta) = store.advance(|| Some([].into())) {
            let mut seen = lock(&seen);
            seen.take(delta, judge);
            seen.faults = store.faults().map(|fault| format!("{}: {}", fault.object, fault.reason)).collect();
            changed.notify_waiters();
        }
        store.in_force(&[]);
    }
}

impl Seen {
    fn take(&mut self, delta: PolicyDelta, judge: Option<Judge>) {
        self.changes += 1;
        self.objects += (delta.groups.len() + delta.address_groups.len() + delta.ports.len()) as u64;
        self.last = Some(Instant::now());
        if let Some(judge) = judge {
            self.wrong.extend(judge(&self.policy, &delta));
            self.policy.apply(delta);
        }
    }
}

/// Nothing is told twice.
pub fn told_twice(policy: &Policy, delta: &PolicyDelta) -> Vec<String> {
    let groups = delta.groups.iter().filter(|(id, group)| policy.groups.get(id) == group.as_ref());
    let ports = delta.ports.iter().filter(|(id, port)| policy.ports.get(id) == port.as_ref());
    let ids = groups.map(|(id, _)| id.to_string()).chain(ports.map(|(id, _)| id.to_string()));
    ids.map(|id| format!("{id} is told twice")).collect()
}
