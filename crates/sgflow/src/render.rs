//! `sgflow render`: the flows of a policy, without a switch.

use std::io::Write as _;
use std::path::PathBuf;

use agent::bindings::Bindings;
use agent::config::{EthertypeNumber, FirewallDriver};
use agent::render::render;
use agent::source::{Documents, Feed};
use anyhow::Context as _;
use clap::Args;
use policy::Policy;

use crate::apply::print_refused;
use crate::exit::Exit;

/// Print the flows of a policy in ovs-ofctl's text, by table and falling priority; needs no switch
#[derive(Args, Debug)]
pub(crate) struct RenderCommand {
    /// A document, or a directory of *.yaml, *.yml and *.json
    #[arg(long, value_name = "PATH")]
    policy: PathBuf,

    /// What is plugged in, as JSON or YAML: [{"port_id": "p-1", "interface": "tap1", "ofport": 1, "tag": 10}, …,
    /// {"interface": "eth1", "ofport": 100, "uplink": true}]
    #[arg(long, value_name = "FILE")]
    bindings: PathBuf,

    /// What would enforce the policy: openvswitch or noop
    #[arg(long, visible_alias = "driver", value_name = "DRIVER", default_value_t = FirewallDriver::OpenvSwitch)]
    firewall_driver: FirewallDriver,

    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6, e.g. 0x88cc
    #[arg(long, value_name = "NUMBER,…", value_delimiter = ',')]
    permitted_ethertypes: Vec<EthertypeNumber>,
}

impl RenderCommand {
    pub(crate) fn run(&self) -> anyhow::Result<Exit> {
        let shown = self.bindings.display().to_string();
        let text = std::fs::read_to_string(&self.bindings).with_context(|| shown.clone())?;
        let bindings = Bindings::parse(&text).with_context(|| shown)?;
        let mut feed = Feed::default();
        let update = feed.take(&Documents::read(&self.policy)?);
        print_refused(&update);
        if self.firewall_driver == FirewallDriver::OpenvSwitch && update.delta.is_some() {
            let ethertypes = self.permitted_ethertypes.iter().map(|ethertype| ethertype.0).collect();
            let nothing = Policy::default();
            let rendering = render(feed.policy().map_or(&nothing, AsRef::as_ref), &bindings, &ethertypes)?;
            let mut out = std::io::stdout().lock();
            for flow in &rendering.flows {
                writeln!(out, "{flow}")?;
            }
            for rule in &rendering.refused {
                eprintln!("refused: rule {} of security group {}: {}", rule.rule, rule.group, rule.reason);
            }
            if !rendering.refused.is_empty() {
                return Ok(Exit::Refused);
            }
        }
        Ok(if update.diagnostics.is_empty() { Exit::Done } else { Exit::Refused })
    }
}
