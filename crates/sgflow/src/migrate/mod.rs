//! `sgflow migrate`: ports off their hybrid bridges, and back.
//!
//! There is no record of a move but what it moves: which of a port's two interfaces the database has, which devices there are, and which rules. So
//! to run it again is to go on, whatever broke off where.

mod connections;
mod database;
mod links;
mod lock;
mod moving;
mod survey;
mod switch;
mod told;

use std::time::Duration;

use agent::source::{Documents, Feed};
use clap::{Args, Subcommand};
use policy::PortId;

use crate::apply::{exit_of, print_refused, seconds};
use crate::exit::Exit;
use crate::options::SettingsOptions;
use moving::Migration;
use switch::Late;
use told::Told;

/// Move ports from one way of filtering to another
#[derive(Args, Debug)]
pub(crate) struct MigrateCommand {
    #[command(subcommand)]
    way: Way,
}

#[derive(Subcommand, Debug)]
enum Way {
    HybridToOvs(HybridToOvs),
}

/// Plug guests into the integration bridge itself, and take their hybrid bridges and rules away
///
/// Before: start sgflow agent with firewall_driver openvswitch. It filters at the interfaces of the hybrid bridges; what
/// iptables_hybrid has in force stays, and filters too. Then each port is moved in one transaction, verified, and what is
/// left of its bridge is removed. A guest hears nothing for some tenths of a second. Connections stay, but for those that
/// the switch has not seen since the agent was started: these are listed before anything is done. What broke off is gone on
/// with when this is run again.
///
/// Exit codes: 0 done, or with --check: all can be; 1 nothing was done; 2 done but for ports that were refused; 3 a port
/// was not open in time, and was put back; 4 done, but the switch is not the policy.
#[derive(Args, Debug)]
struct HybridToOvs {
    /// Only this port; may be given more than once
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<String>,

    /// Say what would be done, what stands in the way, and what is left over of earlier moves; change nothing
    #[arg(long)]
    check: bool,

    /// Put ports back behind hybrid bridges (without --port: those that this command has moved), filtered by iptables_hybrid and, while the agent enforces there, by the switch
    #[arg(long)]
    back: bool,

    /// Without an agent: enforce at the switch step by step, as `sgflow apply` does
    #[arg(long)]
    apply: bool,

    /// Move ports although some of their connections stand still then
    #[arg(long)]
    yes: bool,

    /// Seconds to wait for the switch, at each step
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    timeout: f64,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl MigrateCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let Way::HybridToOvs(command) = self.way;
        match command.run().await {
            Ok(exit) => Ok(exit),
            Err(error) => {
                eprintln!("{error:#}");
                Ok(if error.is::<Late>() { Exit::TimedOut } else { exit_of(error.downcast_ref()) })
            }
        }
    }
}

impl HybridToOvs {
    async fn run(self) -> anyhow::Result<Exit> {
        let HybridToOvs { settings, ports, check, back, apply, yes, timeout, json } = self;
        let config = settings.config()?;
        let mut feed = Feed::default();
        let update = feed.take(&Documents::read(&config.policy_path)?);
        print_refused(&update);
        let (Some(policy), Some(_)) = (feed.policy(), &update.delta) else {
            eprintln!("the document was refused whole: there is no policy to move ports by");
            return Ok(Exit::Refused);
        };
        let migration = Migration {
            config: &config,
            policy,
            ports: ports.iter().map(|port| PortId::from(port.as_str())).collect(),
            back,
            yes,
            timeout: Duration::from_secs_f64(timeout),
            told: Told { as_json: json },
        };
        match check {
            true => migration.check(apply).await,
            false => migration.run(apply).await,
        }
    }
}
