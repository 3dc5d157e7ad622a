//! The drivers for hybrid bridges, as pages are played on them.

use agent::driver::{Driver as _, Hybrid, Variant};
use policy::Policy;
use tokio::runtime::Runtime;

use crate::hybrid_firewall::{DriverError, HybridDriver, HybridSetup};
use crate::in_force::put_in_force;

/// `iptables_hybrid` with iptables over nf_tables.
#[derive(Debug)]
pub struct IptablesNft(Running);

/// `iptables_hybrid` with the old iptables.
#[derive(Debug)]
pub struct IptablesLegacy(Running);

/// `nftables`.
#[derive(Debug)]
pub struct NftablesAlone(Running);

#[derive(Debug)]
struct Running {
    driver: Hybrid,
    runtime: Runtime,
    policy: Policy,
}

impl HybridDriver for IptablesNft {
    fn start(setup: HybridSetup<'_>) -> Result<Self, DriverError> {
        Running::start(setup, Some(Variant::Nft)).map(Self)
    }

    fn put_in_force(&mut self, policy: &Policy) -> Result<(), DriverError> {
        self.0.put_in_force(policy)
    }

    fn changed(&self) -> usize {
        self.0.driver.status().sent.flow_mods()
    }
}

impl HybridDriver for IptablesLegacy {
    fn start(setup: HybridSetup<'_>) -> Result<Self, DriverError> {
        Running::start(setup, Some(Variant::Legacy)).map(Self)
    }

    fn put_in_force(&mut self, policy: &Policy) -> Result<(), DriverError> {
        self.0.put_in_force(policy)
    }

    fn changed(&self) -> usize {
        self.0.driver.status().sent.flow_mods()
    }
}

impl HybridDriver for NftablesAlone {
    fn start(setup: HybridSetup<'_>) -> Result<Self, DriverError> {
        Running::start(setup, None).map(Self)
    }

    fn put_in_force(&mut self, policy: &Policy) -> Result<(), DriverError> {
        self.0.put_in_force(policy)
    }

    fn changed(&self) -> usize {
        self.0.driver.status().sent.flow_mods()
    }
}

impl Running {
    /// With rules in iptables of a kind, or in none.
    fn start(setup: HybridSetup<'_>, iptables: Option<Variant>) -> Result<Self, DriverError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let netns = setup.netns;
        let setup = agent::driver::HybridSetup {
            remote: setup.remote,
            tls: None,
            bridge: setup.bridge,
            permitted_ethertypes: setup.permitted_ethertypes,
            compress: false,
            iptables: iptables.unwrap_or_default(),
            observe: agent::observe::Options::default(),
        };
        let driver = netns.enter(|| {
            let _inside = runtime.enter();
            if iptables.is_some() { Hybrid::new(setup) } else { Hybrid::with_nftables(setup) }
        })??;
        Ok(Running { driver, runtime, policy: Policy::default() })
    }

    fn put_in_force(&mut self, policy: &Policy) -> Result<(), DriverError> {
        let delta = Policy::diff(&self.policy, policy);
        self.policy = policy.clone();
        Ok(put_in_force(&self.runtime, &mut self.driver, delta)?)
    }
}
