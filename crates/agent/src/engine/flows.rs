//! Wanted flows against the switch's: renderer, tracker, and what the switch would not take.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline::{
    Batch, Config, FlowBody, FlowOp, GenerationPool, GenerationsExhausted, Hook, Known, LAYOUT, Observed,
    RefusedRule, Renderer, is_enforcing, is_ours,
};
use reconcile::{Change, Tracker};
use rust_openflow::{Flow, FlowKey};

use super::event::FlowChange;
use super::report::Sent;

/// What is left to do after a bundle before the policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Debt {
    /// The caches of the datapath may still say what the tables do not.
    pub(super) revalidate: bool,
    /// Sets went out of use: their flows are to be removed, after revalidation.
    pub(super) sweep: bool,
}

/// The flows of one bridge, wanted and actual.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) renderer: Renderer,
    tracker: Tracker<FlowKey, FlowBody>,
    /// Flows that the switch refused, as they were then: left out until they are to be something else.
    withheld: BTreeMap<FlowKey, FlowBody>,
    /// Flows that stay for the caches until the next sweep, as they are wanted afterwards.
    left_over: BTreeMap<FlowKey, Option<FlowBody>>,
    /// The switch was read back and not compared yet.
    audit: bool,
    /// Nothing has been committed yet.
    fresh: bool,
    /// What the switch was read to hold before anything was committed, and does not any more: the generations that the renderer knows
    /// are of connections that it may have admitted.
    vanished: BTreeMap<FlowKey, FlowBody>,
    /// How many flows are wanted in a table.
    by_table: BTreeMap<u8, u64>,
    pub(super) debt: Debt,
}

impl Flows {
    /// Of a switch that holds `flows`; nothing is wanted yet.
    pub(super) fn new(config: &Config, flows: &[Flow]) -> Self {
        Flows {
            renderer: Renderer::new(config, Known::read(flows)),
            tracker: Tracker::new(),
            withheld: BTreeMap::new(),
            left_over: BTreeMap::new(),
            audit: false,
            fresh: true,
            vanished: BTreeMap::new(),
            by_table: BTreeMap::new(),
            debt: Debt::default(),
        }
    }

    /// The switch holds `flows` and nothing else.
    pub(super) fn read_back(&mut self, flows: Vec<Flow>) {
        let ours = flows.into_iter().filter(is_enforcing).map(Flow::canonical).map(split);
        if self.fresh && self.tracker.iter_actual().next().is_some() {
            let ours: BTreeMap<FlowKey, FlowBody> = ours.collect();
            let gone = self.tracker.iter_actual().filter(|(key, body)| ours.get(*key) != Some(*body));
            self.vanished.extend(gone.map(|(key, body)| (key.clone(), body.clone())));
            self.tracker.replace_actual(ours);
        } else {
            self.tracker.replace_actual(ours);
        }
        for (key, body) in std::mem::take(&mut self.withheld) {
            self.wish(key, Some(body));
        }
        self.audit = true;
    }

    /// Takes over what the renderer has to say since the last time.
    ///
    /// After a read-back the switch may hold flows that admit more than is wanted (it was changed by another, or
    /// while we were away): connections that they admitted carry marks in force, so the sets concerned take new
    /// generations. For that another commit is needed: what the switch holds otherwise than wanted says that this has
    /// to be called again.
    pub(super) fn commit(
        &mut self,
        pool: &mut GenerationPool,
        refused: &mut Vec<RefusedRule>,
    ) -> Result<Option<Arc<[FlowChange]>>, GenerationsExhausted> {
        let batch = self.renderer.commit(pool)?;
        let is_first = std::mem::take(&mut self.fresh);
        if is_first {
            self.renderer.forget_known();
        }
        self.absorb(batch, refused);
        if !std::mem::take(&mut self.audit) {
            return Ok(None);
        }
        let drift = self.pending();
        for change in drift.iter() {
            // What was missing may have let pass as much as what was there: without our hook, the bridge's own flows.
            self.debt.revalidate = true;
            if let Some(old) = change.old_value() {
                self.renderer.shrunk_by(change.key(), old, change.new_value());
                if is_first {
                    self.hold_back(change.key(), old, change.new_value());
                }
            }
        }
        for (key, old) in std::mem::take(&mut self.vanished) {
            self.debt.revalidate = true;
            self.renderer.shrunk_by(&key, &old, self.tracker.desired(&key));
        }
        Ok(Some(drift))
    }

    /// What the policy before us had, and its caches may still reach, stays for the sweep.
    fn hold_back(&mut self, key: &FlowKey, old: &FlowBody, new: Option<&FlowBody>) {
        let Some(body) = self.renderer.left_over(key, old, new) else { return };
        self.left_over.insert(key.clone(), new.cloned());
        self.wish(key.clone(), Some(body));
        self.debt.sweep = true;
    }

    fn absorb(&mut self, batch: Batch, refused: &mut Vec<RefusedRule>) {
        self.want(batch.ops);
        self.debt.revalidate |= batch.shrinks || batch.retires;
        self.debt.sweep |= batch.retires;
        refused.extend(batch.refused);
    }

    fn want(&mut self, ops: Vec<FlowOp>) {
        for op in ops {
            match op {
                FlowOp::Set(flow) => {
                    let (key, body) = split(flow.canonical());
                    self.left_over.remove(&key);
                    if self.withheld.get(&key) == Some(&body) {
                        continue;
                    }
                    self.withheld.remove(&key);
                    self.wish(key, Some(body));
                }
                FlowOp::Remove(key) => {
                    self.left_over.remove(&key);
                    self.withheld.remove(&key);
                    self.wish(key, None);
                }
            }
        }
    }

    /// The flows of sets that nobody uses any more are wanted no longer. Only after revalidation.
    pub(super) fn sweep(&mut self) {
        for (key, wanted) in std::mem::take(&mut self.left_over) {
            self.wish(key, wanted);
        }
        let ops = self.renderer.sweep();
        self.want(ops);
        self.debt.sweep = false;
    }

    fn wish(&mut self, key: FlowKey, body: Option<FlowBody>) {
        let (table, is_wanted) = (key.table, body.is_some());
        let was_wanted = self.tracker.wish(key, body);
        let count = self.by_table.entry(table).or_default();
        match (was_wanted, is_wanted) {
            (false, true) => *count += 1,
            (true, false) => *count -= 1,
            _ => {}
        }
    }

    /// How many flows are wanted, by the name of the table.
    pub(super) fn by_table(&self) -> BTreeMap<&'static str, u64> {
        let tables = LAYOUT.tables.iter();
        tables.filter_map(|table| Some((table.name, *self.by_table.get(&table.id)?))).collect()
    }

    /// How many flows the switch refuses.
    pub(super) fn withheld_count(&self) -> usize {
        self.withheld.len()
    }

    /// What is to be changed in the switch.
    pub(super) fn pending(&self) -> Arc<[FlowChange]> {
        self.tracker.pending().into()
    }

    /// Whether the switch holds what is wanted.
    pub(super) fn is_converged(&self) -> bool {
        self.tracker.is_converged()
    }

    /// The switch made these changes.
    pub(super) fn confirm(&mut self, changes: &[FlowChange]) {
        self.tracker.confirm(changes.iter().cloned());
    }

    /// The switch refuses this flow: it shall not be there, not even as it was before.
    pub(super) fn withhold(&mut self, key: &FlowKey, body: &FlowBody) {
        self.withheld.insert(key.clone(), body.clone());
        self.wish(key.clone(), None);
    }

    /// The flows that the switch refuses.
    pub(super) fn withheld(&self) -> impl Iterator<Item = Flow> {
        self.withheld.iter().map(|(key, body)| join(key, body))
    }

    /// Every wanted flow, in the order of tables and priorities.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&FlowKey, &FlowBody)> {
        self.tracker.iter_desired()
    }

    /// How many flows are wanted.
    pub(super) fn wanted_count(&self) -> usize {
        self.tracker.desired_count()
    }
}

/// Flows of others that frames may meet before or in ours.
pub(super) fn foreign(flows: &[Flow], hook: Hook) -> impl Iterator<Item = &Flow> {
    flows.iter().filter(move |flow| !is_ours(flow.cookie) && hook.stands_among_ours(flow))
}

/// Whether it matters to us that this flow came, changed or went: it is ours, or stands where ours do, perhaps in the
/// place of one. What only looks is no matter of the policy.
pub fn concerns_us(flow: &Flow, hook: Hook) -> bool {
    (is_ours(flow.cookie) || hook.stands_among_ours(flow)) && Observed::read(flow).is_none()
}

/// A flow as map entry.
fn split(flow: Flow) -> (FlowKey, FlowBody) {
    let Flow { table, priority, cookie, matches, actions, options: _ } = flow;
    (FlowKey { table, priority, matches }, FlowBody { cookie, actions: actions.into() })
}

/// The flow that a key and a body make.
pub fn join(key: &FlowKey, body: &FlowBody) -> Flow {
    Flow::new(key.table, key.priority, key.matches.clone(), body.actions.to_vec()).with_cookie(body.cookie)
}

/// How many changes of each kind.
pub(super) fn count(changes: &[FlowChange]) -> Sent {
    let mut sent = Sent { bundles: 1, ..Sent::default() };
    for change in changes {
        match change {
            Change::Add { .. } => sent.added += 1,
            Change::Modify { .. } => sent.modified += 1,
            Change::Delete { .. } => sent.deleted += 1,
        }
    }
    sent
}
