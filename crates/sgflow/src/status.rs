//! `sgflow status`: how the daemon is.

use agent::api::{self, Condition};
use anyhow::Context as _;
use clap::Args;

use crate::exit::Exit;
use crate::options::SettingsOptions;

/// How the agent on this host is; exit 0 converged, 2 degraded, 3 converging, 5 disconnected, 1 no agent answers
#[derive(Args, Debug)]
pub(crate) struct StatusCommand {
    #[command(flatten)]
    settings: SettingsOptions,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let status = api::status(&self.settings.config()?.api_socket).await?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&status).context("a status")?),
            false => println!("{status}"),
        }
        Ok(match status.condition {
            Condition::Converged => Exit::Done,
            Condition::Degraded => Exit::Refused,
            Condition::Converging => Exit::TimedOut,
            Condition::Disconnected => Exit::Disconnected,
        })
    }
}
