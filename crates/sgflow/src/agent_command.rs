//! `sgflow agent`: the daemon.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::api::{LogFilter, Request, Server};
use agent::config::{self, Config, FirewallDriver, Role, SourceKind};
use agent::daemon::{self, Source};
use agent::driver::{Hybrid, Noop, OpenvSwitch, Setup};
use agent::http::Listener;
use agent::metrics;
use agent::publisher;
use agent::source::{self, Store, StoreSetup};
use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::exit::Exit;
use crate::options::{SettingsOptions, hybrid_setup, setup};
use crate::web;

/// Keep the bridge as the policy says, until SIGTERM or SIGINT; its flows stay in force then
#[derive(Args, Debug)]
pub(crate) struct AgentCommand {
    #[command(flatten)]
    settings: SettingsOptions,
}

impl AgentCommand {
    /// What is logged goes by `log`.
    pub(crate) async fn run(self, log: Arc<LogFilter>) -> anyhow::Result<Exit> {
        let config = self.settings.config()?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        if config.role == Role::Publisher {
            publish(&config, log, shutdown).await?;
            info!("ending; the store keeps what it has");
            return Ok(Exit::Done);
        }
        info!(
            driver = %config.firewall_driver,
            bridge = config.integration_bridge,
            policy = %shown(&config),
            ovsdb = %config.ovsdb.remote,
            "sgflow agent"
        );
        let source = match config.policy_source {
            SourceKind::File => Source::Documents(source::updates(source::watch(config.policy_path.clone()))),
            SourceKind::NeutronDriver => Source::NeutronDriver(new_name()?),
            SourceKind::Store => Source::Store(Box::new(Store::begin(store_setup(&config)?))),
            SourceKind::NeutronRpc => {
                let broker = config.broker()?.clone();
                Source::NeutronRpc(source::follow(broker, rpc_options(&config)?))
            }
        };
        let (sender, requests) = mpsc::channel(REQUESTS);
        if let Some(address) = config.api_web {
            web::start(address, config.clone(), sender.clone())?;
        }
        serve(&config, sender, log).await;
        match config.firewall_driver {
            FirewallDriver::OpenvSwitch => {
                let observe = Some(config.observe.clone());
                let mut driver = OpenvSwitch::new(Setup { observe, ..setup(&config, false) })?;
                daemon::run(&mut driver, source, requests, shutdown).await;
            }
            FirewallDriver::IptablesHybrid => {
                let mut driver = Hybrid::new(hybrid_setup(&config))?;
                daemon::run(&mut driver, source, requests, shutdown).await;
            }
            FirewallDriver::Nftables => {
                let mut driver = Hybrid::with_nftables(hybrid_setup(&config))?;
                daemon::run(&mut driver, source, requests, shutdown).await;
            }
            FirewallDriver::Noop => daemon::run(&mut Noop::default(), source, requests, shutdown).await,
        }
        info!("ending; the switch keeps its flows");
        Ok(Exit::Done)
    }
}

/// Writes to the policy store what Neutron says.
async fn publish(
    config: &Config,
    log: Arc<LogFilter>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // Settings of this role without them are not complete.
    let store = config.store.as_ref().context("where the policy store is")?;
    let broker = config.broker()?.clone();
    let remotes = store.remotes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    info!(store = remotes, neutron = %broker.url, "sgflow publisher");
    let name = format!("{} {}", config.host, new_name()?);
    let host = config.host.clone();
    let seed = new_name()?.replace('-', "");
    let mut runs = 0..;
    let follow = move || {
        let run: u64 = runs.next().unwrap_or_default();
        source::follow(
            broker.clone(),
            source::RpcOptions {
                agent_type: "sgflow publisher".to_owned(),
                binary: "sgflow-publisher".to_owned(),
                host: host.clone(),
                seed: format!("{seed}{run:x}"),
                // The store has the policy that was written before.
                expected_nonempty: true,
            },
        )
    };
    let (sender, requests) = mpsc::channel(REQUESTS);
    serve(config, sender, log).await;
    publisher::run(store, name, follow, requests, shutdown).await;
    Ok(())
}

/// Where the policy comes from, for people.
fn shown(config: &Config) -> String {
    match config.policy_source {
        SourceKind::File => config.policy_path.display().to_string(),
        SourceKind::NeutronDriver => "neutron-driver".to_owned(),
        SourceKind::Store => "store".to_owned(),
        SourceKind::NeutronRpc => {
            config.neutron.as_ref().map_or_else(String::new, |broker| broker.url.to_string())
        }
    }
}

fn store_setup(config: &Config) -> anyhow::Result<StoreSetup> {
    // Settings of this source without it are not complete.
    let config::Store { remotes, tls, cache } = config.store.clone().context("where the policy store is")?;
    Ok(StoreSetup { remotes, tls, host: config.host.clone(), cache })
}

/// Who the agent is to neutron-server.
fn rpc_options(config: &Config) -> anyhow::Result<source::RpcOptions> {
    Ok(source::RpcOptions {
        agent_type: "sgflow agent".to_owned(),
        binary: "sgflow-agent".to_owned(),
        host: config.host.clone(),
        seed: new_name()?.replace('-', ""),
        // The switch has been told a policy by the run before.
        expected_nonempty: true,
    })
}

/// What no other run of the daemon is called (proc(5), `/proc/sys/kernel/random/uuid`: another at each reading).
fn new_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    Ok(std::fs::read_to_string(path).context(path)?.trim().to_owned())
}

/// Requests that wait for the daemon's loop; the server waits beyond that.
const REQUESTS: usize = 8;

/// How long is waited before the API is tried to be opened again.
const RETRY: Duration = Duration::from_secs(1);

/// Opens the API, and the address for metrics. Without them the policy is enforced all the same.
async fn serve(config: &Config, sender: mpsc::Sender<Request>, log: Arc<LogFilter>) {
    if let Some(address) = config.api_metrics {
        serve_metrics(address, sender.clone());
    }
    serve_api(&config.api_socket, sender, log).await;
}

/// Somebody may still hold the socket of an agent that was killed.
async fn serve_api(socket: &Path, sender: mpsc::Sender<Request>, log: Arc<LogFilter>) {
    match Server::bind(socket).await {
        Ok(server) => _ = tokio::spawn(server.serve(sender, log)),
        Err(reason) => {
            error!(%reason, "no command can ask this agent; the policy is enforced all the same, and it is tried again");
            let socket = socket.to_owned();
            tokio::spawn(async move {
                let server = loop {
                    tokio::time::sleep(RETRY).await;
                    if let Ok(server) = Server::bind(&socket).await {
                        break server;
                    }
                };
                info!("commands can ask this agent now");
                server.serve(sender, log).await;
            });
        }
    }
}

/// Prometheus' end.
fn serve_metrics(address: SocketAddr, sender: mpsc::Sender<Request>) {
    tokio::spawn(async move {
        let listener = Listener::listen("api.metrics", address, "this agent cannot be scraped").await;
        info!(address = %listener.address(), "this agent can be scraped");
        metrics::serve(listener, sender).await;
    });
}
