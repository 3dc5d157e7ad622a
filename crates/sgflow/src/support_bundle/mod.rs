//! `sgflow support-bundle`: what somebody else needs to see what is wrong with this host, in one file.

mod archive;
mod command;
mod database;
mod host;
mod parts;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use agent::config::Config;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::exit::Exit;
use crate::options::SettingsOptions;
use archive::Bundle;

/// Collect what shows how sgflow is on this host into one .tar.gz, readable by its owner alone
///
/// In it are the settings, the agent's status, ports, groups and drops, the end of the security-group log, this system's versions, the
/// rows of the bridge in the database of Open vSwitch, its flows, and what the agent has logged; what there is besides with the drivers for
/// hybrid bridges. Passwords are not in it, nor private keys; addresses and names of ports and groups are, and who has talked to whom of
/// late. MANIFEST says what could not be had, and why.
///
/// Exit codes: 0 the file is written, whatever could not be had; 1 it is not.
#[derive(Args, Debug)]
pub(crate) struct SupportBundleCommand {
    /// The file, which must not be there yet [default: sgflow-support-HOST-SECONDS.tar.gz here]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print as JSON what is in it, and what is not
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl SupportBundleCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let (config, unread) = match self.settings.clone().config() {
            Ok(config) => (config, None),
            // Settings that cannot be read are what somebody will have to look at.
            Err(reason) => (self.settings.without_file()?, Some(format!("{reason:#}"))),
        };
        let path = self.output.unwrap_or_else(|| default_path(&config));
        let mut bundle = Bundle::default();
        parts::collect(&config, unread, &mut bundle).await;
        bundle.write(&path).with_context(|| path.display().to_string())?;
        match self.json {
            true => {
                let value = json!({"file": path, "parts": bundle.to_json()});
                println!("{}", serde_json::to_string_pretty(&value).context("a list")?);
            }
            false => println!("{}{}", bundle.manifest(), path.display()),
        }
        Ok(Exit::Done)
    }
}

fn default_path(config: &Config) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let host: String = config.host.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    PathBuf::from(format!("sgflow-support-{host}-{seconds}.tar.gz"))
}
