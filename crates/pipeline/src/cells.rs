//! Policy flows, counted: several rules may ask for one flow, several remotes may share an address.
//!
//! A cell is the flow at one key together with who asks for it. Asking twice changes nothing, and a flow goes when
//! the last one that asked takes it back. Open vSwitch keeps one flow a (match, priority), so what two rules ask of
//! the same packets must become one list of conjunction actions here.

use std::collections::{BTreeMap, BTreeSet};

use policy::Direction;
use rust_openflow::{Action, Field, Flow, FlowKey, Match};

use crate::address::Member;
use crate::cookie::cookie;
use crate::flow::{FlowBody, Journal, commit, commit_and_go_on, flow, flow_at, resubmit, track};
use crate::layout::{
    FlowKind, deliver, egress_commit, egress_packet, egress_policy, egress_service, fragments,
    ingress_commit, ingress_packet, ingress_policy, ingress_service, next, output,
};
use crate::numbers::{RemoteId, SetId};
use crate::service::{Plane, bound_matches, member_matches};

/// Clauses of a conjunction: what (1), and with whom (2).
const CLAUSE_SERVICE: u8 = 1;
const CLAUSE_MEMBER: u8 = 2;
const CLAUSES: u8 = 2;

/// The planes on which rules admit, in the order they are written.
pub(crate) const PLANES: [Plane; 2] = [Plane::Connection, Plane::Packet];

/// The table of the rules of a plane and direction.
pub(crate) fn policy_table(plane: Plane, direction: Direction) -> u8 {
    match (plane, direction) {
        (Plane::Connection, Direction::Egress) => egress_policy::TABLE,
        (Plane::Connection, Direction::Ingress) => ingress_policy::TABLE,
        (Plane::Packet, Direction::Egress) => egress_packet::TABLE,
        (Plane::Packet, Direction::Ingress) => ingress_packet::TABLE,
        (Plane::Service, Direction::Egress) => egress_service::TABLE,
        (Plane::Service, Direction::Ingress) => ingress_service::TABLE,
    }
}

/// The direction of a policy table on the connection plane.
pub(crate) fn connection_direction(table: u8) -> Option<Direction> {
    match table {
        egress_policy::TABLE => Some(Direction::Egress),
        ingress_policy::TABLE => Some(Direction::Ingress),
        _ => None,
    }
}

fn commit_table(direction: Direction) -> u8 {
    match direction {
        Direction::Egress => egress_commit::TABLE,
        Direction::Ingress => ingress_commit::TABLE,
    }
}

/// Where a packet goes on that a rule is about, or that it admits.
fn admitted(plane: Plane, direction: Direction) -> Action {
    resubmit(match (plane, direction) {
        (Plane::Connection, _) => commit_table(direction),
        (Plane::Packet, Direction::Egress) => deliver::TABLE,
        (Plane::Packet, Direction::Ingress) => output::TABLE,
        (Plane::Service, _) => policy_table(Plane::Connection, direction),
    })
}

/// A flow that a rule asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RuleCell {
    pub(crate) plane: Plane,
    pub(crate) direction: Direction,
    pub(crate) set: SetId,
    pub(crate) matches: Match,
    /// The conjunction whose service clause it is; `None` where the flow alone admits.
    pub(crate) remote: Option<RemoteId>,
}

#[derive(Debug)]
struct Rules {
    set: SetId,
    /// How many rules ask, by conjunction.
    asked: BTreeMap<Option<RemoteId>, u32>,
    admitted: Action,
}

/// All policy flows.
#[derive(Default, Debug)]
pub(crate) struct Cells {
    rules: BTreeMap<FlowKey, Rules>,
    members: BTreeMap<(Direction, Member), BTreeSet<RemoteId>>,
    dirty_rules: BTreeSet<FlowKey>,
    dirty_members: BTreeSet<(Direction, Member)>,
    shrinks: bool,
}

impl Cells {
    /// One more rule asks for the cell.
    pub(crate) fn ask(&mut self, cell: RuleCell) {
        let key = rule_key(&cell);
        let rules = self.rules.entry(key.clone()).or_insert_with(|| Rules {
            set: cell.set,
            asked: BTreeMap::new(),
            admitted: admitted(cell.plane, cell.direction),
        });
        *rules.asked.entry(cell.remote).or_default() += 1;
        self.dirty_rules.insert(key);
    }

    /// One rule less asks for the cell. True when it was the last: less is admitted than before.
    pub(crate) fn take_back(&mut self, cell: &RuleCell) -> bool {
        let key = rule_key(cell);
        let rules = self.rules.get_mut(&key).expect("only what was asked is taken back");
        let count = rules.asked.get_mut(&cell.remote).expect("only what was asked is taken back");
        *count -= 1;
        let last = *count == 0;
        if last {
            rules.asked.remove(&cell.remote);
            if rules.asked.is_empty() {
                self.rules.remove(&key);
            }
            self.dirty_rules.insert(key);
            self.shrinks = true;
        }
        last
    }

    /// The remote holds the address, and rules of this direction and the address's family name it.
    pub(crate) fn hold(&mut self, direction: Direction, member: Member, remote: RemoteId) {
        if self.members.entry((direction, member)).or_default().insert(remote) {
            self.dirty_members.insert((direction, member));
        }
    }

    /// The remote holds the address no more, or no rule names it any more.
    pub(crate) fn let_go(&mut self, direction: Direction, member: Member, remote: RemoteId) {
        let Some(remotes) = self.members.get_mut(&(direction, member)) else { return };
        if remotes.remove(&remote) {
            self.dirty_members.insert((direction, member));
            self.shrinks = true;
        }
        if remotes.is_empty() {
            self.members.remove(&(direction, member));
        }
    }

    /// Whether something was taken back or let go since the last time, be it that its flow stays for the sake of another rule
    /// or remote.
    pub(crate) fn take_shrinks(&mut self) -> bool {
        std::mem::take(&mut self.shrinks)
    }

    /// Writes what changed since the last time.
    pub(crate) fn flush(&mut self, journal: &mut Journal) {
        for key in std::mem::take(&mut self.dirty_rules) {
            match self.rules.get(&key) {
                Some(rules) => journal.set(flow_at(key, rules.body())),
                None => journal.remove(key),
            }
        }
        for (direction, member) in std::mem::take(&mut self.dirty_members) {
            let remotes = self.members.get(&(direction, member));
            for (key, flow) in member_flows(direction, &member, remotes) {
                match flow {
                    Some(flow) => journal.set(flow),
                    None => journal.remove(key),
                }
            }
        }
    }
}

impl Rules {
    fn body(&self) -> FlowBody {
        let cookie = cookie(FlowKind::Rule, u64::from(self.set.0));
        let clauses: Vec<Action> =
            self.asked.keys().flatten().map(|id| clause(*id, CLAUSE_SERVICE)).collect();
        // Hard flows and clauses stand at different priorities, so a cell is wholly one or the other.
        let actions = if clauses.is_empty() { vec![self.admitted.clone()] } else { clauses };
        FlowBody { cookie, actions: actions.into() }
    }
}

fn rule_key(cell: &RuleCell) -> FlowKey {
    let priority = if cell.remote.is_some() { egress_policy::CONJUNCTION } else { egress_policy::RULE };
    let table = policy_table(cell.plane, cell.direction);
    FlowKey { table, priority, matches: cell.matches.clone() }
}

fn clause(remote: RemoteId, clause: u8) -> Action {
    Action::Conjunction { id: remote.0, clause, n_clauses: CLAUSES }
}

fn member_flows(
    direction: Direction,
    member: &Member,
    remotes: Option<&BTreeSet<RemoteId>>,
) -> Vec<(FlowKey, Option<Flow>)> {
    let actions: Vec<Action> = remotes.into_iter().flatten().map(|id| clause(*id, CLAUSE_MEMBER)).collect();
    let mut flows = Vec::new();
    for plane in PLANES {
        let table = policy_table(plane, direction);
        for matches in member_matches(plane, direction, member) {
            let priority = egress_policy::CONJUNCTION;
            let flow = flow((FlowKind::Member, 0), table, priority, matches, actions.clone());
            flows.push((flow.key(), (!actions.is_empty()).then_some(flow)));
        }
    }
    for flow in bound_flows(direction, member) {
        flows.push((flow.key(), (!actions.is_empty()).then_some(flow)));
    }
    flows
}

/// A member bound to its MAC admits frames, not connections: what it opens is committed without a generation, so
/// that each later packet is judged with its own MAC. What another rule admits too is judged each time as well,
/// which costs a lookup and changes no verdict.
fn bound_flows(direction: Direction, member: &Member) -> Vec<Flow> {
    let Some(bound) = bound_matches(direction, member) else { return Vec::new() };
    let table = policy_table(Plane::Connection, direction);
    let commit_table = commit_table(direction);
    let add =
        |table, priority, matches, actions| flow((FlowKind::Member, 0), table, priority, matches, actions);
    let go_on = || vec![resubmit(next::TABLE)];
    let not_stamped = || vec![commit(0), track(fragments::TABLE)];
    let not_stamped_and_go_on = || vec![commit_and_go_on(0, next::TABLE)];
    // What no commit waits for needs none; a datagram's parts go the same way, for each waits for the others.
    let later = bound.later.map(|matches| add(commit_table, egress_commit::BOUND, matches, go_on()));
    let parts = bound
        .parts
        .map(|matches| add(commit_table, egress_commit::BOUND_PART, matches, not_stamped_and_go_on()));
    let later_fragments =
        bound.later_fragments.map(|matches| add(table, egress_policy::BOUND_PART, matches, not_stamped()));
    let committed =
        bound.committed_fragments.map(|matches| add(fragments::TABLE, fragments::BOUND, matches, go_on()));
    let new = [
        add(table, egress_policy::BOUND_FRAGMENT, bound.new_fragment, not_stamped()),
        add(commit_table, egress_commit::BOUND, bound.new, not_stamped_and_go_on()),
    ];
    new.into_iter().chain(later).chain(parts).chain(later_fragments).chain(committed).collect()
}

/// What a complete conjunction does: the same for every remote, so that it does not matter which one Open vSwitch
/// picks when two are complete; it matches nothing but `conj_id`, so that the pick never fails.
pub(crate) fn conjunction_flows(remote: RemoteId, direction: Direction) -> Vec<Flow> {
    let about = (FlowKind::Remote, u64::from(remote.0));
    let complete = |plane| {
        let matches = Match::new().with(Field::ConjId, remote);
        let table = policy_table(plane, direction);
        flow(about, table, egress_policy::CONJUNCTION, matches, vec![admitted(plane, direction)])
    };
    PLANES.map(complete).to_vec()
}

/// The remotes that a clause flow lists.
pub(crate) fn clause_remotes(body: &FlowBody) -> BTreeSet<RemoteId> {
    let ids = body.actions.iter().filter_map(|action| match action {
        Action::Conjunction { id, .. } => Some(RemoteId(*id)),
        _ => None,
    });
    ids.collect()
}

const _: () = {
    assert!(egress_policy::BOUND_FRAGMENT == ingress_policy::BOUND_FRAGMENT);
    assert!(egress_policy::BOUND_PART == ingress_policy::BOUND_PART);
    assert!(egress_commit::BOUND == ingress_commit::BOUND);
    assert!(egress_commit::BOUND_PART == ingress_commit::BOUND_PART);
    assert!(egress_policy::CONJUNCTION == egress_packet::CONJUNCTION);
    assert!(egress_policy::RULE == egress_packet::RULE);
};
