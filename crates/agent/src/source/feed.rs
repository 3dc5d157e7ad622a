//! From documents to changes of the policy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use policy::document::{Diagnostic, ObjectId, Parsed, parse};
use policy::{Policy, PolicyDelta};
use tokio::sync::mpsc;

use super::{Documents, DocumentsError, Reading};

/// The policy as read so far. Without a policy there is no change: an unreadable first document leaves the datapath
/// as it is.
#[derive(Debug, Default)]
pub struct Feed {
    policy: Option<Arc<Policy>>,
}

/// What a new version of the documents comes to.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// How the policy changes; `None` when the documents were refused whole.
    pub delta: Option<PolicyDelta>,
    /// Everything that is wrong, by file and line.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that stay as they were, or closed when they are new.
    pub refused: BTreeSet<ObjectId>,
    /// How many objects the policy has now: security groups, address groups, ports.
    pub counts: [usize; 3],
    /// When the newest document was written.
    pub written: Option<SystemTime>,
}

impl Feed {
    /// As if this policy had been read last.
    pub fn over(policy: Policy) -> Self {
        Feed { policy: Some(Arc::new(policy)) }
    }

    /// Parses a new version. What it refuses stays as in the version before.
    pub fn take(&mut self, documents: &Documents) -> Update {
        let previous = self.policy.as_deref();
        let Parsed { policy, diagnostics, refused, document_refused } =
            parse(&documents.as_pairs(), previous);
        let counts = [policy.groups.len(), policy.address_groups.len(), policy.ports.len()];
        let delta =
            (!document_refused).then(|| Policy::diff(previous.unwrap_or(&Policy::default()), &policy));
        if delta.is_some() {
            self.policy = Some(Arc::new(policy));
        }
        Update { delta, diagnostics, refused, counts, written: documents.written }
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }
}

/// Parses whatever is read, away from the tasks that must not wait, in the order it was read.
pub fn updates(mut readings: mpsc::Receiver<Reading>) -> mpsc::Receiver<Result<Update, DocumentsError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut feed = Feed::default();
        while let Some(reading) = readings.recv().await {
            let update = match reading {
                Ok(documents) => {
                    let parsed = tokio::task::spawn_blocking(move || {
                        let update = feed.take(&documents);
                        (feed, update)
                    });
                    let Ok((returned, update)) = parsed.await else { return };
                    feed = returned;
                    Ok(update)
                }
                Err(error) => Err(error),
            };
            if sender.send(update).await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Documents {
        Documents { files: vec![("p.yaml".into(), text.into())], written: None }
    }

    #[test]
    fn a_bad_edit_changes_nothing_and_a_refused_object_stays_as_it_was() {
        let mut feed = Feed::default();
        assert!(feed.take(&documents("ports: [")).delta.is_none(), "no policy yet");
        assert!(feed.policy().is_none());
        let first = feed
            .take(&documents("address_groups: [{id: a, addresses: [10.0.0.0/8]}, {id: b, addresses: []}]"));
        assert_eq!(first.delta.map(|delta| delta.address_groups.len()), Some(2));
        assert_eq!(first.counts, [0, 2, 0]);
        let bad = feed.take(&documents("address_groups: {"));
        assert!(bad.delta.is_none() && !bad.diagnostics.is_empty());
        let refused = feed.take(&documents("address_groups: [{id: a, addresses: [nonsense]}]"));
        assert_eq!(refused.refused.iter().map(ToString::to_string).collect::<Vec<_>>(), ["address group a"]);
        let changed = refused.delta.unwrap().address_groups;
        assert_eq!(changed, [("b".into(), None)], "b is gone, a as it was");
    }
}
