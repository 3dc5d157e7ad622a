//! `sgflow log-level`: what the daemon logs, shown or changed.

use agent::api::{self, LogChange};
use anyhow::Context as _;
use clap::Args;

use crate::exit::Exit;
use crate::options::SettingsOptions;

/// What the agent on this host logs; with a filter, what it logs from now on until it ends
#[derive(Args, Debug)]
pub(crate) struct LogLevelCommand {
    /// error, warn, info, debug, trace, off, or a filter by module such as warn,agent::engine=debug; where it names modules alone, the
    /// rest is logged as when the agent began
    #[arg(conflicts_with = "reset")]
    filter: Option<String>,

    /// Log what was logged when the agent began
    #[arg(long)]
    reset: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl LogLevelCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let socket = self.settings.config()?.api_socket;
        let state = match (self.filter, self.reset) {
            (None, false) => api::log(&socket).await?,
            (filter, _) => api::set_log(&socket, &LogChange { filter }).await?,
        };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&state).context("a filter")?),
            false if state.filter == state.begun_with => println!("{}", state.filter),
            false => println!("{} (begun with {})", state.filter, state.begun_with),
        }
        Ok(Exit::Done)
    }
}
