//! The driver without its loop, for a command that moves ports: the kernel is made as the policy says once, for just the ports that it is told of;
//! or everything of ours is taken out.
//!
//! No lock is taken: who calls this sees to it that no agent of these drivers works on the host.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use hybrid::{Devices, Firewall};
use ipset::Ipset;
use policy::{PolicyDelta, PortId};
use tokio::sync::mpsc::unbounded_channel;

use super::backend::Backend;
use super::iptables::Iptables;
use super::tables::Tables;
use super::with_iptables::WithIptables;
use super::with_nftables::WithNftables;
use super::worker::{Order, State, Worker};
use super::{Failure, HybridError, HybridSetup, send_bridged_packets_to_netfilter};
use crate::engine::Report;
use crate::host::Plugging;
use crate::mirror::Plan;

/// Not done; what is in force is as it was, or partly new.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The driver cannot be had.
    #[error(transparent)]
    Setup(#[from] HybridError),
    /// The kernel or a tool refuses.
    #[error("{0}")]
    Kernel(String),
}

impl From<Failure> for OnceError {
    fn from(failure: Failure) -> Self {
        OnceError::Kernel(failure.to_string())
    }
}

/// Makes the kernel as `policy`, counted from nothing, says for these ports and no others: by the driver that is in force, else by
/// `iptables_hybrid`. What is in force for others goes.
///
/// # Errors
/// The kernel or a tool refuses something.
pub fn converge_once(
    setup: &HybridSetup,
    policy: PolicyDelta,
    plugs: &BTreeMap<PortId, Devices>,
) -> Result<(), OnceError> {
    send_bridged_packets_to_netfilter()?;
    match open(setup)?.hold_rules()? {
        true => {
            let backend = WithNftables::open(&setup.permitted_ethertypes, setup.iptables)?;
            converge(backend, setup, policy, plugs)
        }
        false => {
            let backend = WithIptables::open(&setup.permitted_ethertypes, setup.iptables, 0, Arc::default())?;
            converge(backend, setup, policy, plugs)
        }
    }
}

fn converge<B: Backend>(
    backend: B,
    setup: &HybridSetup,
    policy: PolicyDelta,
    plugs: &BTreeMap<PortId, Devices>,
) -> Result<(), OnceError> {
    let (sender, mut reports) = unbounded_channel();
    let state = Arc::new(Mutex::new(State::default()));
    let mut worker =
        Worker::new(backend, Firewall::new(setup.compress, None), None, Arc::clone(&state), sender)
            .map_err(HybridError::from)?;
    let (orders, ordered) = channel();
    let plugging = |devices: &Devices| Plugging { devices: Some(devices.clone()), elsewhere: None };
    let plugged = plugs.iter().map(|(port, devices)| Order::Plug(port.clone(), plugging(devices)));
    for order in std::iter::once(Order::Policy(policy)).chain(plugged).chain([Order::Write]) {
        orders.send(order).expect("the other end is held here");
    }
    // It works off what there is, and ends.
    drop(orders);
    worker.work(&ordered);
    while let Ok(report) = reports.try_recv() {
        if matches!(report, Report::Settled) {
            return Ok(());
        }
    }
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let reasons: Vec<String> = state.faults.iter().map(|fault| fault.reason.clone()).collect();
    Err(OnceError::Kernel(reasons.join("; ")))
}

/// Takes out all that a driver for hybrid bridges, or Neutron's agent by the same names, has put into the kernel: chains and what leads to them, sets
/// that no rule of others names (not with `keep_sets`), and last the table of the bridges. No port's own bridge may be left.
///
/// # Errors
/// The kernel or a tool refuses something; the table of the bridges is there then.
pub fn remove_all(setup: &HybridSetup, keep_sets: bool) -> Result<(), OnceError> {
    Iptables::remove(setup.iptables)?;
    if !keep_sets {
        let mut ipset = Ipset::open().map_err(HybridError::from)?;
        let mut sets = Plan::new();
        sets.complete();
        if let Some((object, reason)) = sets.run(&mut ipset).failures.first() {
            return Err(OnceError::Kernel(format!("{object}: {reason}")));
        }
    }
    open(setup)?.remove()?;
    Ok(())
}

/// What a driver for hybrid bridges has in force.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InForce {
    /// The table of the bridges is there.
    pub table: bool,
    /// The conntrack zones of ports, by what the names of their devices end in.
    pub zones: BTreeMap<String, u16>,
}

/// Looks what is in force on this host; no tool is run.
///
/// # Errors
/// The kernel does not answer.
pub fn in_force(setup: &HybridSetup) -> Result<InForce, OnceError> {
    let mut tables = open(setup)?;
    tables.read_back()?;
    Ok(InForce { table: tables.is_there()?, zones: tables.zones().iter().cloned().collect() })
}

/// Not to change anything: whose text it is does not matter.
fn open(setup: &HybridSetup) -> Result<Tables, HybridError> {
    Ok(Tables::open(hybrid::iptables::RULESET, &setup.permitted_ethertypes)?)
}
