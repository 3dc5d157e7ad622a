//! `sgflow status`: how the daemon is.

use agent::api::{self, Condition};
use anyhow::Context as _;
use clap::Args;

use crate::exit::Exit;
use crate::options::SettingsOptions;
use crate::text::wrap;

/// How the agent on this host is; exit 0 converged, 2 degraded, 3 converging, 5 disconnected, 1 no agent answers
#[derive(Args, Debug)]
pub(crate) struct StatusCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl StatusCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let status = api::status(&self.settings.config()?.api_socket).await?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&status).context("a status")?),
            false => println!("{}", folded(&status.to_string())),
        }
        Ok(match status.condition {
            Condition::Converged => Exit::Done,
            Condition::Degraded => Exit::Refused,
            Condition::Converging => Exit::TimedOut,
            Condition::Disconnected => Exit::Disconnected,
        })
    }
}

/// What is said of objects stands in this column.
const SAID: usize = 11;

fn folded(text: &str) -> String {
    let line = |line: &str| wrap(line, if line.starts_with(' ') { SAID } else { 2 });
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::COLUMNS;

    #[test]
    fn a_status_fits_80_columns() {
        let text = "disconnected: waiting for fail_mode secure on bridge br-int: it is standalone, so the bridge forwards everything when it has no flows (1 ports, 0 sets of groups, 0 flows; 0 flow-mods sent)\n  closed   interface tap1: another interface has the same external_ids:iface-id p-1; both are closed until one of them goes\n  source   file";
        let folded = folded(text);
        expect_test::expect![[r"
            disconnected: waiting for fail_mode secure on bridge br-int: it is standalone,
              so the bridge forwards everything when it has no flows (1 ports, 0 sets of
              groups, 0 flows; 0 flow-mods sent)
              closed   interface tap1: another interface has the same external_ids:iface-id
                       p-1; both are closed until one of them goes
              source   file"]]
        .assert_eq(&folded);
        assert!(folded.lines().all(|line| line.chars().count() <= COLUMNS));
    }
}
