//! `sgflow render`: the flows of a policy, or its tables of nftables, without a switch.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use agent::bindings::Bindings;
use agent::config::{EthertypeNumber, FirewallDriver};
use agent::render::{render, render_iptables, render_nftables};
use agent::source::{Documents, Feed};
use anyhow::Context as _;
use clap::Args;
use policy::Policy;

use crate::apply::print_refused;
use crate::exit::Exit;

/// Print the flows of a policy in ovs-ofctl's text, by table and falling priority, or its tables in nft's; needs no switch
#[derive(Args, Debug)]
pub(crate) struct RenderCommand {
    /// A document, or a directory of *.yaml, *.yml and *.json
    #[arg(long, value_name = "PATH")]
    policy: PathBuf,

    /// What is plugged in, as JSON or YAML: [{"port_id": "p-1", "interface": "tap1", "ofport": 1, "tag": 10}, …,
    /// {"interface": "eth1", "ofport": 100, "uplink": true}]
    #[arg(long, value_name = "FILE")]
    bindings: PathBuf,

    /// What would enforce the policy: openvswitch, iptables_hybrid, nftables or noop
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
        let mut has_refused = !update.diagnostics.is_empty();
        if update.delta.is_some() {
            let nothing = Policy::default();
            has_refused |= self.print(feed.policy().map_or(&nothing, AsRef::as_ref), &bindings)?;
        }
        Ok(if has_refused { Exit::Refused } else { Exit::Done })
    }

    /// Prints, and says whether rules are refused.
    fn print(&self, policy: &Policy, bindings: &Bindings) -> anyhow::Result<bool> {
        let ethertypes: BTreeSet<u16> =
            self.permitted_ethertypes.iter().map(|ethertype| ethertype.0).collect();
        let mut out = std::io::stdout().lock();
        let refused = match self.firewall_driver {
            FirewallDriver::OpenvSwitch => {
                let rendering = render(policy, bindings, &ethertypes)?;
                for flow in &rendering.flows {
                    writeln!(out, "{flow}")?;
                }
                rendering.refused.into_iter().map(|rule| (rule.rule, rule.group, rule.reason)).collect()
            }
            FirewallDriver::Nftables => {
                let (text, refused) = render_nftables(policy, bindings, &ethertypes)?;
                out.write_all(text.as_bytes())?;
                refused.into_iter().map(|rule| (rule.rule, rule.group, rule.reason)).collect()
            }
            FirewallDriver::IptablesHybrid => {
                let (text, refused) = render_iptables(policy, bindings, &ethertypes)?;
                out.write_all(text.as_bytes())?;
                refused.into_iter().map(|rule| (rule.rule, rule.group, rule.reason)).collect()
            }
            FirewallDriver::Noop => Vec::new(),
        };
        for (rule, group, reason) in &refused {
            eprintln!("refused: rule {rule} of security group {group}: {reason}");
        }
        Ok(!refused.is_empty())
    }
}
