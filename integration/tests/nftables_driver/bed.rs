//! A host of the hybrid bridge, and the driver that filters there with nftables alone.

use std::time::Duration;

use agent::driver::{Driver as _, Hybrid, HybridSetup, Variant};
use agent::engine::{Report, Sent};
use integration::BRIDGE;
use lab::{Datapath, FailMode, HybridHost, HybridSpec, Ovs, OvsOptions};
use ovsdb::Remote;
use policy::Policy;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a policy may take to be in force on a busy machine.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(120);

/// See the module's documentation.
pub(crate) struct Bed {
    // Fields are dropped in this order: the driver before what it watches and filters.
    driver: Option<Hybrid>,
    runtime: Runtime,
    host: HybridHost,
    ovs: Ovs,
    policy: Policy,
}

impl Bed {
    /// A host with these ports, and the driver at work there, without a policy.
    pub(crate) fn start(ports: &[&str]) -> Self {
        let specs: Vec<HybridSpec> = ports.iter().map(|port| HybridSpec::new(port, 10)).collect();
        let host = HybridHost::start(&specs).expect("a host");
        let ovs = Ovs::start(OvsOptions { datapath: Datapath::Dummy, named: None }).expect("a switch");
        ovs.add_bridge(BRIDGE, FailMode::Secure).expect("a bridge");
        // What comes out of these is for nobody.
        drop(ovs.add_dummy_ports(BRIDGE, specs.iter().map(HybridSpec::on_switch).collect()).expect("ports"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("tokio");
        let mut bed = Bed { driver: None, runtime, host, ovs, policy: Policy::default() };
        bed.restart();
        bed
    }

    /// The driver ends, and another one begins, which knows nothing.
    pub(crate) fn restart(&mut self) {
        self.driver = None;
        self.policy = Policy::default();
        let setup = HybridSetup {
            remote: Remote::Unix(self.ovs.rundir().join("db.sock")),
            tls: None,
            bridge: BRIDGE.to_owned(),
            permitted_ethertypes: [0x88cc].into(),
            compress: false,
            iptables: Variant::default(),
            observe: agent::observe::Options::default(),
        };
        let begun = self.host.netns().enter(|| {
            let _inside = self.runtime.enter();
            Hybrid::with_nftables(setup)
        });
        self.driver = Some(begun.expect("it can be entered").expect("a driver"));
    }

    /// Returns when a policy is in force, what was done for it.
    pub(crate) fn put_in_force(&mut self, policy: &Policy) -> Sent {
        let driver = self.driver.as_mut().expect("it is at work");
        let before = driver.status().sent;
        driver.policy(Policy::diff(&self.policy, policy));
        self.policy = policy.clone();
        let settled = async {
            loop {
                match driver.report().await {
                    Report::Settled => return,
                    report @ (Report::RuleRefused(_) | Report::NoZone(..)) => panic!("{report:?}"),
                    _ => {}
                }
            }
        };
        self.runtime.block_on(async { timeout(IN_FORCE_WITHIN, settled).await }).expect("in force in time");
        let after = driver.status().sent;
        Sent {
            added: after.added - before.added,
            modified: after.modified - before.modified,
            deleted: after.deleted - before.deleted,
            bundles: after.bundles - before.bundles,
        }
    }

    /// Lets the driver work until it has told something, and this holds.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&HybridHost) -> bool) {
        let driver = self.driver.as_mut().expect("it is at work");
        let host = &self.host;
        let within = async {
            while !holds(host) {
                let soon = Instant::now() + Duration::from_millis(200);
                tokio::select! {
                    _ = driver.report() => {}
                    () = sleep_until(soon) => {}
                }
            }
        };
        let result = self.runtime.block_on(async { timeout(IN_FORCE_WITHIN, within).await });
        result.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// The host.
    pub(crate) fn host(&self) -> &HybridHost {
        &self.host
    }
}
