//! The sgflow command: OpenStack security groups as Open vSwitch flows.
//!
//! A library beside the program, so that what describes its command line (man pages, completions: `examples/pages.rs`) is made from
//! the command line itself.
#![forbid(unsafe_code)]

// First: what it has for printing takes the place of the standard library's in all that follows.
#[macro_use]
mod text;

mod agent_command;
mod apply;
mod bench;
mod connections;
mod demo;
mod diff;
mod drops;
mod exit;
mod explain;
mod flows;
mod groups;
mod held;
mod log_level;
mod migrate;
mod options;
mod policy;
mod ports;
mod render;
mod status;
mod support_bundle;
mod top;
mod tracked;
mod verify;
mod web;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use agent::api::LogFilter;
use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use exit::Exit;

/// OpenStack security groups, enforced by Open vSwitch
#[derive(Parser, Debug)]
#[command(name = "sgflow", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What is logged to stderr: error, warn, info, debug, or a filter by module
    #[arg(long, global = true, value_name = "FILTER", env = "SGFLOW_LOG")]
    log: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Agent(agent_command::AgentCommand),
    Apply(apply::ApplyCommand),
    Render(render::RenderCommand),
    Verify(verify::VerifyCommand),
    Explain(explain::ExplainCommand),
    Connections(connections::ConnectionsCommand),
    Diff(diff::DiffCommand),
    Drops(drops::DropsCommand),
    Flows(flows::FlowsCommand),
    Status(status::StatusCommand),
    Top(top::TopCommand),
    Ports(ports::PortsCommand),
    Groups(groups::GroupsCommand),
    LogLevel(log_level::LogLevelCommand),
    SupportBundle(support_bundle::SupportBundleCommand),
    Migrate(migrate::MigrateCommand),
    Policy(policy::PolicyCommand),
    Demo(demo::DemoArgs),
    Bench(bench::BenchArgs),
}

/// The command line, described.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program: reads the command line, does what it says, and returns how that ended (`exit`).
pub fn main() -> ExitCode {
    text::look();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nobody is left to tell when even stderr is gone.
            _ = error.print();
            return exit.into();
        }
    };
    let exit = init_log(&cli).and_then(|log| run(cli.command, log)).unwrap_or_else(|error| {
        eprintln!("sgflow: {error:#}");
        Exit::Failed
    });
    exit.into()
}

/// One line an event on stderr: of the daemon's doings, of other commands only what is wrong. Gives the way to change that.
fn init_log(cli: &Cli) -> anyhow::Result<Arc<LogFilter>> {
    let default = match cli.command {
        // A broker that is away is told of by the source; lapin takes it for an error of the program.
        Command::Agent(_) => "info,lapin=off",
        Command::Apply(_)
        | Command::Render(_)
        | Command::Verify(_)
        | Command::Explain(_)
        | Command::Connections(_)
        | Command::Diff(_)
        | Command::Drops(_)
        | Command::Flows(_)
        | Command::Status(_)
        | Command::Top(_)
        | Command::Ports(_)
        | Command::Groups(_)
        | Command::LogLevel(_)
        | Command::SupportBundle(_)
        | Command::Migrate(_)
        | Command::Policy(_)
        | Command::Demo(_)
        | Command::Bench(_) => "warn",
    };
    let text = cli.log.as_deref().unwrap_or(default);
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse(text)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(Arc::new(LogFilter::new(text, move |text| {
        let filter = EnvFilter::builder().parse(text).map_err(|reason| reason.to_string())?;
        let handle = handle.clone();
        Ok(move || handle.reload(filter).map_err(|reason| reason.to_string()))
    })))
}

fn run(command: Command, log: Arc<LogFilter>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Agent(command) => runtime.block_on(command.run(log)),
        Command::Apply(command) => runtime.block_on(command.run()),
        Command::Render(command) => command.run(),
        Command::Verify(command) => runtime.block_on(command.run()),
        Command::Connections(command) => runtime.block_on(command.run()),
        Command::Diff(command) => runtime.block_on(command.run()),
        Command::Explain(command) => runtime.block_on(command.run()),
        Command::Drops(command) => runtime.block_on(command.run()),
        Command::Flows(command) => runtime.block_on(command.run()),
        Command::Status(command) => runtime.block_on(command.run()),
        Command::Top(command) => runtime.block_on(command.run()),
        Command::Ports(command) => runtime.block_on(command.run()),
        Command::Groups(command) => runtime.block_on(command.run()),
        Command::LogLevel(command) => runtime.block_on(command.run()),
        Command::SupportBundle(command) => runtime.block_on(command.run()),
        Command::Migrate(command) => runtime.block_on(command.run()),
        Command::Policy(command) => runtime.block_on(command.run()),
        Command::Bench(args) => bench::run(&args).map(|()| Exit::Done),
        Command::Demo(args) => demo::run(&args).map(|()| Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks in haste what a command can do is not shown forty settings before.
    #[test]
    fn short_help_has_what_a_command_knows_first_and_few_settings() {
        let mut cli = command();
        cli.build();
        let mut looked_at = Vec::new();
        let mut commands: Vec<&mut clap::Command> = cli.get_subcommands_mut().collect();
        while let Some(command) = commands.pop() {
            let help = command.render_help().to_string();
            if let Some((own, settings)) = help.split_once("Settings, as in sgflow.toml:\n") {
                let wanted = [
                    "config",
                    "firewall-driver",
                    "integration-bridge",
                    "ovsdb-connection",
                    "policy-path",
                    "store-connection",
                    "api-socket",
                ];
                assert_eq!(options(settings), wanted, "{help}");
                assert!(!options(own).iter().any(|option| wanted.contains(&option.as_str())), "{help}");
                let long = command.render_long_help().to_string();
                assert!(
                    long.contains("--security-log-rate") && long.contains("--store-private-key"),
                    "{long}"
                );
                looked_at.push(command.get_name().to_owned());
            }
            commands.extend(command.get_subcommands_mut());
        }
        assert_eq!(looked_at.len(), 15, "{looked_at:?}");
    }

    /// The names of the options that a help lists.
    fn options(help: &str) -> Vec<String> {
        let name = |line: &str| Some(line.strip_prefix("      --")?.split([' ', '[']).next()?.to_owned());
        help.lines().filter_map(name).collect()
    }
}
