//! `sgflow agent`: the daemon.

use agent::config::FirewallDriver;
use agent::driver::{Noop, OpenvSwitch};
use agent::{daemon, source};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::exit::Exit;
use crate::options::{SettingsOptions, setup};

/// Keep the bridge as the policy says, until SIGTERM or SIGINT; its flows stay in force then
#[derive(Args, Debug)]
pub(crate) struct AgentCommand {
    #[command(flatten)]
    settings: SettingsOptions,
}

impl AgentCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = self.settings.config()?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        info!(
            driver = %config.firewall_driver,
            bridge = config.integration_bridge,
            policy = %config.policy_path.display(),
            ovsdb = %config.ovsdb.remote,
            "sgflow agent"
        );
        let updates = source::updates(source::watch(config.policy_path.clone()));
        match config.firewall_driver {
            FirewallDriver::OpenvSwitch => {
                daemon::run(&mut OpenvSwitch::new(setup(&config, false))?, updates, shutdown).await;
            }
            FirewallDriver::Noop => daemon::run(&mut Noop::default(), updates, shutdown).await,
        }
        info!("ending; the switch keeps its flows");
        Ok(Exit::Done)
    }
}
