//! Settings on the command line and in the environment: every key of `sgflow.toml` by the same name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::config::{
    AgentSettings, ApiSettings, Config, DEFAULT_PATH, DropsSettings, EthertypeNumber, FirewallDriver,
    NeutronSettings, OvsdbSettings, PolicySettings, Role, SecurityLogSettings, Settings, SourceKind, Store,
    StoreSettings,
};
use agent::driver::{HybridSetup, MirrorOptions, Setup, Variant};
use agent::engine;
use agent::observe::Events;
use anyhow::Context as _;
use clap::Args;

/// Where the bridge is and how it is to be kept. An option wins over its variable, that over the file, that over the
/// default.
///
/// The short help of a command has those alone that most hosts need; what the command itself knows comes before them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings, as in sgflow.toml")]
pub(crate) struct SettingsOptions {
    /// The settings file; without this, /etc/sgflow/sgflow.toml if there is one
    #[arg(long, value_name = "FILE", env = "SGFLOW_CONFIG")]
    config: Option<PathBuf>,

    /// What the daemon is: host, which enforces the policy here, or publisher, which writes to the policy store what Neutron says [default: host]
    #[arg(long, value_name = "ROLE", env = "SGFLOW_ROLE", hide_short_help = true)]
    role: Option<Role>,

    /// What enforces the policy: openvswitch, iptables_hybrid, nftables or noop
    #[arg(long, visible_alias = "driver", value_name = "DRIVER", env = "SGFLOW_FIREWALL_DRIVER")]
    firewall_driver: Option<FirewallDriver>,

    /// The bridge that the guests are plugged into [default: br-int]
    #[arg(long, visible_alias = "bridge", value_name = "BRIDGE", env = "SGFLOW_INTEGRATION_BRIDGE")]
    integration_bridge: Option<String>,

    /// The name of this host in the policy [default: the host name]
    #[arg(long, value_name = "NAME", env = "SGFLOW_HOST", hide_short_help = true)]
    host: Option<String>,

    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6, e.g. 0x88cc
    #[arg(
        long,
        value_name = "NUMBER,…",
        env = "SGFLOW_PERMITTED_ETHERTYPES",
        value_delimiter = ',',
        hide_short_help = true
    )]
    permitted_ethertypes: Option<Vec<EthertypeNumber>>,

    /// Interfaces that lead to the network although their type does not say so
    #[arg(
        long,
        value_name = "NAME,…",
        env = "SGFLOW_NETWORK_PORTS",
        value_delimiter = ',',
        hide_short_help = true
    )]
    network_ports: Option<Vec<String>>,

    /// Make the bridge's fail_mode secure when it is not
    #[arg(
        long,
        value_name = "BOOL",
        env = "SGFLOW_SET_FAIL_MODE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true
    )]
    set_fail_mode: Option<bool>,

    /// The bridge's OpenFlow socket, unix:PATH or tcp:HOST:PORT [default: BRIDGE.mgmt beside the database's]
    #[arg(long, value_name = "TARGET", env = "SGFLOW_OPENFLOW", hide_short_help = true)]
    openflow: Option<String>,

    /// Keep the members of remotes as ipsets besides, by Neutron's names, for rules of the host's own
    #[arg(
        long,
        value_name = "BOOL",
        env = "SGFLOW_IPSET_MIRROR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true
    )]
    ipset_mirror: Option<bool>,

    /// In ipsets, put neighbouring addresses together into prefixes that hold exactly the same
    #[arg(
        long,
        value_name = "BOOL",
        env = "SGFLOW_IPSET_COMPRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true
    )]
    ipset_compress: Option<bool>,

    /// Which iptables keeps the rules of iptables_hybrid: nft, legacy, or the host's choice [default: host]
    #[arg(long, value_name = "KIND", env = "SGFLOW_IPTABLES_VARIANT", hide_short_help = true)]
    iptables_variant: Option<Variant>,

    /// The Open_vSwitch database, unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT
    /// [default: unix:/var/run/openvswitch/db.sock]
    #[arg(long, visible_alias = "ovsdb", value_name = "ADDRESS", env = "SGFLOW_OVSDB_CONNECTION")]
    ovsdb_connection: Option<String>,

    /// For ssl: who signed the server's certificate
    #[arg(long, value_name = "FILE", env = "SGFLOW_OVSDB_CA_CERTIFICATE", hide_short_help = true)]
    ovsdb_ca_certificate: Option<PathBuf>,

    /// For ssl: our certificate
    #[arg(long, value_name = "FILE", env = "SGFLOW_OVSDB_CERTIFICATE", hide_short_help = true)]
    ovsdb_certificate: Option<PathBuf>,

    /// For ssl: the key of our certificate
    #[arg(long, value_name = "FILE", env = "SGFLOW_OVSDB_PRIVATE_KEY", hide_short_help = true)]
    ovsdb_private_key: Option<PathBuf>,

    /// Where the policy comes from: file, neutron-driver (the driver of Neutron's agent on this host), neutron-rpc (neutron-server) or store
    #[arg(long, value_name = "SOURCE", env = "SGFLOW_POLICY_SOURCE", hide_short_help = true)]
    policy_source: Option<SourceKind>,

    /// A document, or a directory of *.yaml, *.yml and *.json [default: /etc/sgflow/policy.d]
    #[arg(long, visible_alias = "policy", value_name = "PATH", env = "SGFLOW_POLICY_PATH")]
    policy_path: Option<PathBuf>,

    #[command(flatten)]
    store: StoreOptions,

    /// Where to keep what was seen of the store, for a host that begins without it [default: nowhere]
    #[arg(long, value_name = "FILE", env = "SGFLOW_STORE_CACHE", hide_short_help = true)]
    store_cache: Option<PathBuf>,

    /// Beside Neutron's agent, how long connections that its own driver has admitted go on by that driver's tracking, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS", env = "SGFLOW_TAKEOVER_TIMEOUT", hide_short_help = true)]
    takeover_timeout: Option<u32>,

    /// Neutron's message queue, as transport_url in neutron.conf; everybody on this host may read a command line, so rather in the file or the variable
    // As text, and hidden, for clap would show it with its password.
    #[arg(
        long,
        value_name = "URL",
        env = "SGFLOW_NEUTRON_TRANSPORT_URL",
        hide_env_values = true,
        hide_short_help = true
    )]
    neutron_transport_url: Option<String>,

    /// For TLS: who signed the certificate of the message queue
    #[arg(long, value_name = "FILE", env = "SGFLOW_NEUTRON_CA_CERTIFICATE", hide_short_help = true)]
    neutron_ca_certificate: Option<PathBuf>,

    /// For TLS: our certificate, where the message queue asks for one
    #[arg(long, value_name = "FILE", env = "SGFLOW_NEUTRON_CERTIFICATE", hide_short_help = true)]
    neutron_certificate: Option<PathBuf>,

    /// For TLS: the key of our certificate
    #[arg(long, value_name = "FILE", env = "SGFLOW_NEUTRON_PRIVATE_KEY", hide_short_help = true)]
    neutron_private_key: Option<PathBuf>,

    /// Neutron has rabbit_transient_quorum_queue set
    #[arg(
        long,
        value_name = "BOOL",
        env = "SGFLOW_NEUTRON_QUORUM_QUEUES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true
    )]
    neutron_quorum_queues: Option<bool>,

    #[command(flatten)]
    observe: ObserveOptions,

    /// The Unix socket of the agent's API [default: /run/sgflow/sgflow.sock]
    #[arg(long, value_name = "PATH", env = "SGFLOW_API_SOCKET")]
    api_socket: Option<PathBuf>,

    /// The address at which Prometheus scrapes the agent, e.g. 127.0.0.1:9477 [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SGFLOW_API_METRICS", hide_short_help = true)]
    api_metrics: Option<SocketAddr>,

    /// The loopback address of the agent's web page, e.g. 127.0.0.1:9478 [default: none]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SGFLOW_API_WEB", hide_short_help = true)]
    api_web: Option<SocketAddr>,
}

/// What is looked at besides.
#[derive(Args, Clone, Debug, Default)]
struct ObserveOptions {
    /// How many dropped packets a second are sampled, for counts by port and sgflow drops; 0: none [default: 10]
    #[arg(long, value_name = "PACKETS", env = "SGFLOW_DROPS_SAMPLES", hide_short_help = true)]
    drops_samples: Option<u32>,

    /// Where the security-group log goes: a file of JSON lines, or journal [default: nowhere]
    #[arg(long, value_name = "FILE", env = "SGFLOW_SECURITY_LOG_PATH", hide_short_help = true)]
    security_log_path: Option<PathBuf>,

    /// What it tells of: accept, drop or all [default: all]
    #[arg(long, value_name = "EVENTS", env = "SGFLOW_SECURITY_LOG_EVENTS", hide_short_help = true)]
    security_log_events: Option<Events>,

    /// Ports that it is about; with neither ports, groups nor rules it is about every port
    #[arg(
        long,
        value_name = "ID,…",
        env = "SGFLOW_SECURITY_LOG_PORTS",
        value_delimiter = ',',
        hide_short_help = true
    )]
    security_log_ports: Option<Vec<String>>,

    /// Security groups whose ports it is about
    #[arg(
        long,
        value_name = "ID,…",
        env = "SGFLOW_SECURITY_LOG_GROUPS",
        value_delimiter = ',',
        hide_short_help = true
    )]
    security_log_groups: Option<Vec<String>>,

    /// Rules that it is about: what one of them admits
    #[arg(
        long,
        value_name = "ID,…",
        env = "SGFLOW_SECURITY_LOG_RULES",
        value_delimiter = ',',
        hide_short_help = true
    )]
    security_log_rules: Option<Vec<String>>,

    /// How many packets a second are sampled for it, dropped and admitted ones each [default: 25]
    #[arg(long, value_name = "PACKETS", env = "SGFLOW_SECURITY_LOG_RATE", hide_short_help = true)]
    security_log_rate: Option<u32>,
}

/// Where the policy store is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct StoreOptions {
    /// The shared policy store, unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT; several members of a cluster with commas between
    #[arg(long, visible_alias = "store", value_name = "ADDRESS,…", env = "SGFLOW_STORE_CONNECTION")]
    store_connection: Option<String>,

    /// For ssl: who signed the certificates of the store's servers
    #[arg(long, value_name = "FILE", env = "SGFLOW_STORE_CA_CERTIFICATE", hide_short_help = true)]
    store_ca_certificate: Option<PathBuf>,

    /// For ssl: our certificate; an agent's common name is the name of its host
    #[arg(long, value_name = "FILE", env = "SGFLOW_STORE_CERTIFICATE", hide_short_help = true)]
    store_certificate: Option<PathBuf>,

    /// For ssl: the key of our certificate
    #[arg(long, value_name = "FILE", env = "SGFLOW_STORE_PRIVATE_KEY", hide_short_help = true)]
    store_private_key: Option<PathBuf>,
}

impl StoreOptions {
    fn settings(self) -> StoreSettings {
        StoreSettings {
            connection: self.store_connection,
            ca_certificate: self.store_ca_certificate,
            certificate: self.store_certificate,
            private_key: self.store_private_key,
            cache: None,
        }
    }
}

/// Settings of a command that has to do with the policy store alone.
#[derive(Args, Debug, Default)]
pub(crate) struct StoreSettingsOptions {
    /// The settings file; without this, /etc/sgflow/sgflow.toml if there is one
    #[arg(long, value_name = "FILE", env = "SGFLOW_CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    store: StoreOptions,
}

impl StoreSettingsOptions {
    /// Where the store is.
    pub(crate) fn store(self) -> anyhow::Result<Store> {
        let given = Settings { store: self.store.settings(), ..Settings::default() };
        let store = given.or(file(self.config.as_deref())?).complete()?.store;
        store
            .context("it is not said where the policy store is: --store, or store.connection in the settings")
    }
}

/// The settings of the file, if there is one.
fn file(path: Option<&Path>) -> anyhow::Result<Settings> {
    Ok(match path {
        Some(path) => Settings::read(path)?,
        None if Path::new(DEFAULT_PATH).exists() => Settings::read(Path::new(DEFAULT_PATH))?,
        None => Settings::default(),
    })
}

impl SettingsOptions {
    /// The settings, complete.
    pub(crate) fn config(self) -> anyhow::Result<Config> {
        let file = file(self.config.as_deref())?;
        Ok(self.settings()?.or(file).complete()?)
    }

    /// The settings without those of the file, which cannot be read.
    pub(crate) fn without_file(self) -> anyhow::Result<Config> {
        Ok(self.settings()?.complete()?)
    }

    /// The policy that was asked for on the command line or by its variable, without the settings file.
    pub(crate) fn policy_given(&self) -> Option<&Path> {
        self.policy_path.as_deref()
    }

    fn settings(self) -> anyhow::Result<Settings> {
        Ok(Settings {
            agent: AgentSettings {
                role: self.role,
                firewall_driver: self.firewall_driver,
                integration_bridge: self.integration_bridge,
                host: self.host,
                permitted_ethertypes: self.permitted_ethertypes,
                network_ports: self.network_ports,
                set_fail_mode: self.set_fail_mode,
                openflow: self.openflow,
                ipset_mirror: self.ipset_mirror,
                ipset_compress: self.ipset_compress,
                iptables_variant: self.iptables_variant,
                takeover_timeout: self.takeover_timeout,
            },
            ovsdb: OvsdbSettings {
                connection: self.ovsdb_connection,
                ca_certificate: self.ovsdb_ca_certificate,
                certificate: self.ovsdb_certificate,
                private_key: self.ovsdb_private_key,
            },
            policy: PolicySettings { source: self.policy_source, path: self.policy_path },
            store: StoreSettings { cache: self.store_cache, ..self.store.settings() },
            neutron: NeutronSettings {
                transport_url: self.neutron_transport_url.map(|url| url.parse()).transpose()?,
                ca_certificate: self.neutron_ca_certificate,
                certificate: self.neutron_certificate,
                private_key: self.neutron_private_key,
                quorum_queues: self.neutron_quorum_queues,
            },
            drops: DropsSettings { samples: self.observe.drops_samples },
            security_log: SecurityLogSettings {
                path: self.observe.security_log_path,
                events: self.observe.security_log_events,
                ports: self.observe.security_log_ports,
                groups: self.observe.security_log_groups,
                rules: self.observe.security_log_rules,
                rate: self.observe.security_log_rate,
            },
            api: ApiSettings { socket: self.api_socket, metrics: self.api_metrics, web: self.api_web },
        })
    }
}

/// What the Open vSwitch driver has to know of the settings.
pub(crate) fn setup(config: &Config, dry_run: bool) -> Setup {
    Setup {
        remote: config.ovsdb.remote.clone(),
        tls: config.ovsdb.tls.clone(),
        openflow: config.openflow.clone(),
        engine: engine::Options {
            bridge: config.integration_bridge.clone(),
            set_fail_mode: config.set_fail_mode,
            permitted_ethertypes: config.permitted_ethertypes.clone(),
            network_ports: config.network_ports.clone(),
            hook: config.hook(),
            takeover_timeout: config.takeover_timeout,
        },
        mirror: config.ipset_mirror.then_some(MirrorOptions { compress: config.ipset_compress }),
        observe: None,
        dry_run,
    }
}

/// What the drivers for hybrid bridges have to know of the settings.
pub(crate) fn hybrid_setup(config: &Config) -> HybridSetup {
    HybridSetup {
        remote: config.ovsdb.remote.clone(),
        tls: config.ovsdb.tls.clone(),
        bridge: config.integration_bridge.clone(),
        permitted_ethertypes: config.permitted_ethertypes.clone(),
        compress: config.ipset_compress,
        iptables: config.iptables_variant,
        observe: config.observe.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

    #[test]
    fn every_option_and_variable_is_documented() {
        let command = SettingsOptions::augment_args(Command::new("test"));
        for argument in command.get_arguments() {
            let option = format!("`--{}`", argument.get_long().expect("every setting has a long name"));
            let variable = argument.get_env().and_then(|name| name.to_str()).expect("and a variable");
            assert!(DOCUMENT.contains(&option), "{option} is not in docs/configuration.md");
            assert!(
                DOCUMENT.contains(&format!("`{variable}`")),
                "{variable} is not in docs/configuration.md"
            );
        }
    }

    #[test]
    fn the_packaged_file_says_nothing_and_what_it_has_commented_out_is_the_default() {
        let text = include_str!("../../../packaging/sgflow.toml");
        assert_eq!(Settings::parse(text).expect("the file is good"), Settings::default());
        let is_example = |line: &str| line.starts_with('#') && line.contains(" = ");
        let uncommented: Vec<&str> =
            text.lines().map(|line| if is_example(line) { &line[1..] } else { line }).collect();
        let mut config =
            Settings::parse(&uncommented.join("\n")).expect("its examples too").complete().expect("complete");
        let defaults = Settings::default().complete().expect("complete");
        // The store and the name of the host have no default to be shown.
        assert!(config.store.take().is_some());
        config.host.clone_from(&defaults.host);
        assert_eq!(config, defaults);
    }

    #[test]
    fn the_documented_file_is_read() {
        let (_, rest) = DOCUMENT.split_once("```toml\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("its end");
        let config = Settings::parse(example).expect("the example is good").complete().expect("and complete");
        assert_eq!(config.integration_bridge, "br-int");
        let keys = example.lines().filter(|line| line.contains(" = ")).count();
        let table =
            DOCUMENT.lines().filter(|line| line.starts_with("| `") && line.contains("SGFLOW_")).count();
        assert_eq!(keys, table, "as many keys in the example as in the table");
    }
}
