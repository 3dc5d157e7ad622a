//! `sgflow policy`: the shared policy store.

mod edit;
mod following;
mod get;
mod hosts;
mod init;
mod put;
mod scribe;
mod servers;
mod status;
mod wait;
mod watch;

use std::time::Duration;

use agent::config::Store;
use clap::{Args, Subcommand};

use crate::apply::seconds;
use crate::exit::Exit;
use crate::options::StoreSettingsOptions;
use following::Late;
use scribe::Conflict;

/// The shared policy store: make it, write it, read it, and see which hosts have it in force
///
/// Exit codes: 0 done; 1 nothing done; 2 something was refused, by this command or by a host; 3 the store or a host was
/// not there in time; 4 somebody else wrote meanwhile; 5 (status) no server of the store answers.
#[derive(Args, Debug)]
pub(crate) struct PolicyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Init(init::Init),
    Put(put::Put),
    Get(get::Get),
    Edit(edit::Edit),
    Watch(watch::Watch),
    Wait(wait::Wait),
    Status(status::Status),
}

/// Where the store is, and for how long it is waited for.
#[derive(Args, Debug)]
struct Place {
    #[command(flatten)]
    settings: StoreSettingsOptions,

    /// Seconds to wait for the store, and for hosts
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    timeout: f64,
}

impl Place {
    fn resolve(self) -> anyhow::Result<(Store, Duration)> {
        Ok((self.settings.store()?, Duration::from_secs_f64(self.timeout)))
    }
}

impl PolicyCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let outcome = match self.command {
            Command::Init(command) => command.run().await,
            Command::Put(command) => command.run().await,
            Command::Get(command) => command.run().await,
            Command::Edit(command) => command.run().await,
            Command::Watch(command) => command.run().await,
            Command::Wait(command) => command.run().await,
            Command::Status(command) => command.run().await,
        };
        outcome.or_else(|error| {
            let exit = if error.is::<Late>() {
                Exit::TimedOut
            } else if error.is::<Conflict>() {
                Exit::Differs
            } else {
                return Err(error);
            };
            eprintln!("sgflow: {error:#}");
            Ok(exit)
        })
    }
}
