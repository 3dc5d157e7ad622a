//! Settings: `/etc/sgflow/sgflow.toml`, `SGFLOW_…` variables and options, merged into one [`Config`].
//!
//! Every key is known by one name in the file, as an option and as a variable; an option wins over a variable, a
//! variable over the file, the file over the default. A key that is not known is an error, not a comment: a
//! misspelt setting of a firewall must not pass for a set one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ovsdb::remote::RemoteError;
use ovsdb::{Remote, TlsConfig};
use pipeline::Hook;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::driver::Variant;
use crate::observe;
use crate::source::{Broker, Tls, TransportUrl};

mod observe_settings;
mod values;

pub use observe_settings::{DropsSettings, SecurityLogSettings};
pub use values::{
    DriverError, EthertypeError, EthertypeNumber, FirewallDriver, Role, RoleError, SourceError, SourceKind,
};

/// Where the settings are when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/sgflow/sgflow.toml";

/// Where documents are if nothing else is said.
pub const DEFAULT_POLICY_PATH: &str = "/etc/sgflow/policy.d";

/// Where the daemon's API is when nothing else is said.
pub const DEFAULT_API_SOCKET: &str = "/run/sgflow/sgflow.sock";

/// How long a take-over lasts when nothing else is said, in seconds: who has said nothing for so long begins anew.
const TAKEOVER_TIMEOUT: u32 = 300;

/// The settings of a run, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the daemon is.
    pub role: Role,
    /// What enforces the policy.
    pub firewall_driver: FirewallDriver,
    /// The bridge that the guests are plugged into.
    pub integration_bridge: String,
    /// The name of this host in the policy.
    pub host: String,
    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6.
    pub permitted_ethertypes: BTreeSet<u16>,
    /// Interfaces that lead to the network although their type does not say so.
    pub network_ports: BTreeSet<String>,
    /// Whether to make the bridge's fail_mode `secure` when it is not.
    pub set_fail_mode: bool,
    /// The bridge's OpenFlow socket, when it is not `<bridge>.mgmt` beside the database's.
    pub openflow: Option<String>,
    /// Whether to keep the members of remotes as the kernel's sets besides, for rules of the host's own.
    pub ipset_mirror: bool,
    /// Whether neighbouring addresses in these sets become prefixes that hold exactly the same.
    pub ipset_compress: bool,
    /// Which of the two kinds of iptables keeps the rules of `iptables_hybrid`.
    pub iptables_variant: Variant,
    /// The Open_vSwitch database.
    pub ovsdb: Ovsdb,
    /// Where the policy comes from.
    pub policy_source: SourceKind,
    /// How long connections that Neutron's own driver has admitted go on by its zones.
    pub takeover_timeout: Duration,
    /// A document or a directory of documents.
    pub policy_path: PathBuf,
    /// The shared policy store, if it is said where it is.
    pub store: Option<Store>,
    /// Neutron's message queue, where it is followed.
    pub neutron: Option<Broker>,
    /// What is looked at besides: drops, and the security-group log.
    pub observe: observe::Options,
    /// The Unix socket of the daemon's API.
    pub api_socket: PathBuf,
    /// Where the daemon is scraped, if it is.
    pub api_metrics: Option<SocketAddr>,
    /// Where the web page is, if there is one: a loopback address.
    pub api_web: Option<SocketAddr>,
}

impl Config {
    /// Where frames enter the firewall: beside Neutron's agent its tables come first.
    pub fn hook(&self) -> Hook {
        match self.policy_source {
            SourceKind::File | SourceKind::Store | SourceKind::NeutronRpc => Hook::Bridge,
            SourceKind::NeutronDriver => Hook::Transient,
        }
    }
}

/// How to reach the Open_vSwitch database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovsdb {
    /// Where the server is.
    pub remote: Remote,
    /// Certificates, for `ssl:`.
    pub tls: Option<TlsConfig>,
}

/// How to reach the policy store, and where to keep what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The members of the cluster, or its relays.
    pub remotes: Vec<Remote>,
    /// Certificates, for `ssl:`.
    pub tls: Option<TlsConfig>,
    /// Where to keep it; none: nowhere.
    pub cache: Option<PathBuf>,
}

/// The settings of one origin: what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[agent]`.
    pub agent: AgentSettings,
    /// `[ovsdb]`.
    pub ovsdb: OvsdbSettings,
    /// `[policy]`.
    pub policy: PolicySettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[neutron]`.
    pub neutron: NeutronSettings,
    /// `[drops]`.
    pub drops: DropsSettings,
    /// `[security_log]`.
    pub security_log: SecurityLogSettings,
    /// `[api]`.
    pub api: ApiSettings,
}

/// `[agent]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// See [`Config::role`].
    #[serde(deserialize_with = "from_text")]
    pub role: Option<Role>,
    /// See [`Config::firewall_driver`].
    #[serde(deserialize_with = "from_text")]
    pub firewall_driver: Option<FirewallDriver>,
    /// See [`Config::integration_bridge`].
    pub integration_bridge: Option<String>,
    /// See [`Config::host`].
    pub host: Option<String>,
    /// See [`Config::permitted_ethertypes`].
    #[serde(deserialize_with = "ethertypes")]
    pub permitted_ethertypes: Option<Vec<EthertypeNumber>>,
    /// See [`Config::network_ports`].
    pub network_ports: Option<Vec<String>>,
    /// See [`Config::set_fail_mode`].
    pub set_fail_mode: Option<bool>,
    /// See [`Config::openflow`].
    pub openflow: Option<String>,
    /// See [`Config::ipset_mirror`].
    pub ipset_mirror: Option<bool>,
    /// See [`Config::ipset_compress`].
    pub ipset_compress: Option<bool>,
    /// See [`Config::iptables_variant`].
    #[serde(deserialize_with = "from_text")]
    pub iptables_variant: Option<Variant>,
    /// See [`Config::takeover_timeout`], in seconds.
    pub takeover_timeout: Option<u32>,
}

/// `[ovsdb]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OvsdbSettings {
    /// `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT` (ovsdb(7), "Connection Methods").
    pub connection: Option<String>,
    /// For `ssl:`: who signed the server's certificate.
    pub ca_certificate: Option<PathBuf>,
    /// For `ssl:`: ours.
    pub certificate: Option<PathBuf>,
    /// For `ssl:`: the key of ours.
    pub private_key: Option<PathBuf>,
}

/// `[policy]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// See [`Config::policy_source`].
    #[serde(deserialize_with = "from_text")]
    pub source: Option<SourceKind>,
    /// See [`Config::policy_path`].
    pub path: Option<PathBuf>,
}

/// `[store]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// One or several of `unix:PATH`, `tcp:HOST:PORT` and `ssl:HOST:PORT`, separated by commas.
    pub connection: Option<String>,
    /// For `ssl:`: who signed the servers' certificates.
    pub ca_certificate: Option<PathBuf>,
    /// For `ssl:`: ours.
    pub certificate: Option<PathBuf>,
    /// For `ssl:`: the key of ours.
    pub private_key: Option<PathBuf>,
    /// See [`Store::cache`].
    pub cache: Option<PathBuf>,
}

/// `[neutron]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeutronSettings {
    /// As in `neutron.conf`.
    #[serde(deserialize_with = "from_text")]
    pub transport_url: Option<TransportUrl>,
    /// For TLS: who signed the broker's certificate.
    pub ca_certificate: Option<PathBuf>,
    /// For TLS: ours, where the broker asks for one.
    pub certificate: Option<PathBuf>,
    /// For TLS: the key of ours.
    pub private_key: Option<PathBuf>,
    /// See [`Broker::quorum_queues`].
    pub quorum_queues: Option<bool>,
}

/// `[api]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    /// See [`Config::api_socket`].
    pub socket: Option<PathBuf>,
    /// See [`Config::api_metrics`].
    pub metrics: Option<SocketAddr>,
    /// See [`Config::api_web`].
    pub web: Option<SocketAddr>,
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Of the file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// A key is unknown or its value no good; the reason names the line and the key.
    #[error("{path}: {reason}")]
    Invalid {
        /// Of the file.
        path: PathBuf,
        /// Line, key and what is wrong.
        reason: String,
    },
    /// A database's address.
    #[error("{section} connection: {reason}")]
    Connection {
        /// Whose.
        section: &'static str,
        /// What is wrong with it.
        reason: RemoteError,
    },
    /// The policy is to come from the store or to be written to it, and nobody says where that is.
    #[error("store connection is not set: policy source store and role publisher take it")]
    NoStore,
    /// `ssl:` without what it takes.
    #[error(
        "{section} connection {connection}: {missing} is not set; ssl takes ca_certificate, certificate and private_key"
    )]
    IncompleteTls {
        /// Whose connection.
        section: &'static str,
        /// The connection.
        connection: String,
        /// The first key that is missing.
        missing: &'static str,
    },
    /// What is to be looked at makes no sense.
    #[error("{key}: {reason}")]
    Observe {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The policy is to come from Neutron, and one of the keys is not there that this takes.
    #[error("neutron: {0} is not set; {1}")]
    IncompleteNeutron(&'static str, &'static str),
    /// The web page is for this host alone.
    #[error(
        "api web {0} is no loopback address: whoever reaches the page may read it; take 127.0.0.1 or [::1], and reach it by ssh -L"
    )]
    OpenWeb(SocketAddr),
}

impl Settings {
    /// The settings of a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
        Self::parse(&text).map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
    }

    /// The settings of a text in TOML. The error says line, key and reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", error.message())
        })
    }

    /// What `self` does not say is taken from `other`.
    pub fn or(self, other: Settings) -> Settings {
        let (a, b) = (self.agent, other.agent);
        let (o, p) = (self.ovsdb, other.ovsdb);
        let (s, t) = (self.store, other.store);
        let (n, m) = (self.neutron, other.neutron);
        Settings {
            agent: AgentSettings {
                role: a.role.or(b.role),
                firewall_driver: a.firewall_driver.or(b.firewall_driver),
                integration_bridge: a.integration_bridge.or(b.integration_bridge),
                host: a.host.or(b.host),
                permitted_ethertypes: a.permitted_ethertypes.or(b.permitted_ethertypes),
                network_ports: a.network_ports.or(b.network_ports),
                set_fail_mode: a.set_fail_mode.or(b.set_fail_mode),
                openflow: a.openflow.or(b.openflow),
                ipset_mirror: a.ipset_mirror.or(b.ipset_mirror),
                ipset_compress: a.ipset_compress.or(b.ipset_compress),
                iptables_variant: a.iptables_variant.or(b.iptables_variant),
                takeover_timeout: a.takeover_timeout.or(b.takeover_timeout),
            },
            ovsdb: OvsdbSettings {
                connection: o.connection.or(p.connection),
                ca_certificate: o.ca_certificate.or(p.ca_certificate),
                certificate: o.certificate.or(p.certificate),
                private_key: o.private_key.or(p.private_key),
            },
            policy: PolicySettings {
                source: self.policy.source.or(other.policy.source),
                path: self.policy.path.or(other.policy.path),
            },
            store: StoreSettings {
                connection: s.connection.or(t.connection),
                ca_certificate: s.ca_certificate.or(t.ca_certificate),
                certificate: s.certificate.or(t.certificate),
                private_key: s.private_key.or(t.private_key),
                cache: s.cache.or(t.cache),
            },
            neutron: NeutronSettings {
                transport_url: n.transport_url.or(m.transport_url),
                ca_certificate: n.ca_certificate.or(m.ca_certificate),
                certificate: n.certificate.or(m.certificate),
                private_key: n.private_key.or(m.private_key),
                quorum_queues: n.quorum_queues.or(m.quorum_queues),
            },
            drops: self.drops.or(other.drops),
            security_log: self.security_log.or(other.security_log),
            api: ApiSettings {
                socket: self.api.socket.or(other.api.socket),
                metrics: self.api.metrics.or(other.api.metrics),
                web: self.api.web.or(other.api.web),
            },
        }
    }

    /// The complete settings: what nobody said is the default.
    pub fn complete(self) -> Result<Config, ConfigError> {
        let Settings { agent, ovsdb, policy, store, neutron, drops, security_log, api } = self;
        let ovsdb = ovsdb.complete()?;
        let store = store.complete()?;
        let policy_source = policy.source.unwrap_or(SourceKind::File);
        let role = agent.role.unwrap_or_default();
        if store.is_none() && (role == Role::Publisher || policy_source == SourceKind::Store) {
            return Err(ConfigError::NoStore);
        }
        if let Some(address) = api.web.filter(|address| !address.ip().is_loopback()) {
            return Err(ConfigError::OpenWeb(address));
        }
        let asks_neutron = role == Role::Publisher || policy_source == SourceKind::NeutronRpc;
        // Commands that ask the daemon do not need what it has from its environment.
        let has_url = neutron.transport_url.is_some();
        let neutron = (asks_neutron && has_url).then(|| neutron.complete()).transpose()?;
        let permitted_ethertypes: BTreeSet<u16> =
            agent.permitted_ethertypes.unwrap_or_default().iter().map(|number| number.0).collect();
        let observe =
            observe_settings::complete(drops, security_log, permitted_ethertypes.clone(), policy_source)?;
        Ok(Config {
            role,
            firewall_driver: agent.firewall_driver.unwrap_or(FirewallDriver::OpenvSwitch),
            integration_bridge: agent.integration_bridge.unwrap_or_else(|| "br-int".to_owned()),
            host: agent.host.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned()),
            permitted_ethertypes,
            observe,
            network_ports: agent.network_ports.unwrap_or_default().into_iter().collect(),
            set_fail_mode: agent.set_fail_mode.unwrap_or(false),
            openflow: agent.openflow,
            ipset_mirror: agent.ipset_mirror.unwrap_or(false),
            ipset_compress: agent.ipset_compress.unwrap_or(false),
            iptables_variant: agent.iptables_variant.unwrap_or_default(),
            takeover_timeout: Duration::from_secs(agent.takeover_timeout.unwrap_or(TAKEOVER_TIMEOUT).into()),
            ovsdb,
            policy_source,
            neutron,
            policy_path: policy.path.unwrap_or_else(|| PathBuf::from(DEFAULT_POLICY_PATH)),
            store,
            api_socket: api.socket.unwrap_or_else(|| PathBuf::from(DEFAULT_API_SOCKET)),
            api_metrics: api.metrics,
            api_web: api.web,
        })
    }
}

impl OvsdbSettings {
    fn complete(self) -> Result<Ovsdb, ConfigError> {
        let connection = self.connection.unwrap_or_else(|| "unix:/var/run/openvswitch/db.sock".to_owned());
        let section = "ovsdb";
        let remote: Remote =
            connection.parse().map_err(|reason| ConfigError::Connection { section, reason })?;
        let files = [self.ca_certificate, self.certificate, self.private_key];
        let tls = complete_tls(section, &connection, std::slice::from_ref(&remote), files)?;
        Ok(Ovsdb { remote, tls })
    }
}

impl StoreSettings {
    fn complete(self) -> Result<Option<Store>, ConfigError> {
        let Some(connection) = self.connection else { return Ok(None) };
        let section = "store";
        let remotes = connection.split(',').map(|remote| remote.trim().parse());
        let remotes: Vec<Remote> = remotes
            .collect::<Result<_, _>>()
            .map_err(|reason| ConfigError::Connection { section, reason })?;
        let files = [self.ca_certificate, self.certificate, self.private_key];
        let tls = complete_tls(section, &connection, &remotes, files)?;
        Ok(Some(Store { remotes, tls, cache: self.cache }))
    }
}

/// Who signed the servers' certificates, our certificate, and its key: if one of `remotes` takes them.
fn complete_tls(
    section: &'static str,
    connection: &str,
    remotes: &[Remote],
    files: [Option<PathBuf>; 3],
) -> Result<Option<TlsConfig>, ConfigError> {
    if !remotes.iter().any(|remote| matches!(remote, Remote::Ssl(_))) {
        return Ok(None);
    }
    let missing =
        |missing| ConfigError::IncompleteTls { section, connection: connection.to_owned(), missing };
    let [ca, cert, key] = files;
    Ok(Some(TlsConfig {
        ca: ca.ok_or_else(|| missing("ca_certificate"))?,
        cert: cert.ok_or_else(|| missing("certificate"))?,
        key: key.ok_or_else(|| missing("private_key"))?,
        server_name: None,
    }))
}

impl Config {
    /// How to reach Neutron's message queue, for who follows it.
    ///
    /// # Errors
    /// It is not said.
    pub fn broker(&self) -> Result<&Broker, ConfigError> {
        let why = "source neutron-rpc and role publisher take it";
        self.neutron.as_ref().ok_or(ConfigError::IncompleteNeutron("transport_url", why))
    }
}

impl NeutronSettings {
    /// How to reach the message queue.
    ///
    /// # Errors
    /// A key is missing that the others ask for.
    pub fn complete(self) -> Result<Broker, ConfigError> {
        let missing = ConfigError::IncompleteNeutron;
        let url = self
            .transport_url
            .ok_or(missing("transport_url", "source neutron-rpc and role publisher take it"))?;
        let identity = match (self.certificate, self.private_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (None, Some(_)) => return Err(missing("certificate", "private_key is its key")),
            (Some(_), None) => return Err(missing("private_key", "it belongs to certificate")),
        };
        let tls = match self.ca_certificate {
            Some(ca) => Some(Tls { ca, identity }),
            None if url.tls || identity.is_some() => {
                return Err(missing("ca_certificate", "TLS takes it"));
            }
            None => None,
        };
        Ok(Broker { url, tls, quorum_queues: self.quorum_queues.unwrap_or(false) })
    }
}

/// A value that is written as text and read by [`FromStr`].
fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Ethertypes as numbers (TOML knows `0x88cc`) or as text.
fn ethertypes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<EthertypeNumber>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    let list = Vec::<Written>::deserialize(deserializer)?;
    let parsed = list.into_iter().map(|written| match written {
        Written::Number(number) => number.to_string().parse(),
        Written::Text(text) => text.parse(),
    });
    parsed.collect::<Result<_, EthertypeError>>().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn refused(text: &str, wanted: &Expect) {
        wanted.assert_eq(&Settings::parse(text).unwrap_err());
    }

    #[test]
    fn the_documented_file_is_read() {
        let settings = Settings::parse(
            "[agent]\nfirewall_driver = \"noop\"\nintegration_bridge = \"br-x\"\nhost = \"compute-1\"\n\
             permitted_ethertypes = [0x88cc, \"0x8915\"]\nnetwork_ports = [\"eth1\"]\n\
             [ovsdb]\nconnection = \"tcp:127.0.0.1:6640\"\n[policy]\nsource = \"file\"\npath = \"/tmp/p\"\n",
        );
        let config = settings.unwrap().complete().unwrap();
        assert_eq!(config.firewall_driver, FirewallDriver::Noop);
        assert_eq!(config.integration_bridge, "br-x");
        assert_eq!(config.permitted_ethertypes, [0x88cc, 0x8915].into());
        assert_eq!(config.network_ports, ["eth1".to_owned()].into());
        assert_eq!(config.ovsdb.remote.to_string(), "tcp:127.0.0.1:6640");
        assert_eq!(config.policy_path, Path::new("/tmp/p"));
    }

    #[test]
    fn an_unknown_key_or_a_bad_value_names_line_and_key() {
        refused(
            "[agent]\nbridge = \"br-int\"\n",
            &expect![
                "line 2: unknown field `bridge`, expected one of `role`, `firewall_driver`, `integration_bridge`, `host`, `permitted_ethertypes`, `network_ports`, `set_fail_mode`, `openflow`, `ipset_mirror`, `ipset_compress`, `iptables_variant`, `takeover_timeout`"
            ],
        );
        refused(
            "[agnet]\n",
            &expect![
                "line 1: unknown field `agnet`, expected one of `agent`, `ovsdb`, `policy`, `store`, `neutron`, `drops`, `security_log`, `api`"
            ],
        );
        refused(
            "[agent]\nfirewall_driver = \"iptables\"",
            &expect![[
                r#"line 2: firewall_driver "iptables" is unknown; known are openvswitch, iptables_hybrid, nftables and noop"#
            ]],
        );
        refused(
            "[agent]\npermitted_ethertypes = [5]",
            &expect![[r#"line 2: "5" is no ethertype: a number from 0x0600 to 0xffff, e.g. 0x88cc"#]],
        );
        refused(
            "[agent]\npermitted_ethertypes = [0x0800]",
            &expect!["line 2: 0x0800 cannot be permitted: IPv4 goes by the rules of the security groups"],
        );
    }

    #[test]
    fn the_first_that_says_something_wins() {
        let option = Settings {
            agent: AgentSettings { host: Some("option".into()), ..AgentSettings::default() },
            ..Settings::default()
        };
        let file = Settings::parse("[agent]\nhost = \"file\"\nintegration_bridge = \"br-file\"").unwrap();
        let config = option.or(file).complete().unwrap();
        assert_eq!((config.host.as_str(), config.integration_bridge.as_str()), ("option", "br-file"));
        assert_eq!(config.ovsdb.remote.to_string(), "unix:/var/run/openvswitch/db.sock");
    }

    #[test]
    fn a_store_has_several_servers_and_must_be_somewhere() {
        let settings = |text: &str| Settings::parse(text).unwrap().complete();
        let store = settings("[store]\nconnection = \"tcp:a:6640, unix:/b\"").unwrap().store.unwrap();
        assert_eq!(
            store.remotes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["tcp:a:6640", "unix:/b"]
        );
        let refused = |text: &str| settings(text).unwrap_err().to_string();
        assert_eq!(
            refused("[policy]\nsource = \"store\""),
            "store connection is not set: policy source store and role publisher take it"
        );
        assert_eq!(
            refused("[store]\nconnection = \"ssl:a:6640\""),
            "store connection ssl:a:6640: ca_certificate is not set; ssl takes ca_certificate, certificate and private_key"
        );
        assert!(refused("[store]\nconnection = \"a:6640\"").starts_with("store connection: "));
    }

    #[test]
    fn the_page_is_at_a_loopback_address_or_nowhere() {
        let web = |text: &str| {
            Settings::parse(&format!("[api]\nweb = \"{text}\""))
                .unwrap()
                .complete()
                .map(|config| config.api_web)
        };
        for address in ["127.0.0.1:9478", "127.0.0.53:1", "[::1]:0"] {
            assert_eq!(web(address).unwrap(), Some(address.parse().unwrap()));
        }
        // An IPv4 address in an IPv6 one is another way to be reached from elsewhere.
        for address in ["0.0.0.0:9478", "192.0.2.1:9478", "[::]:9478", "[::ffff:192.0.2.1]:9478"] {
            let error = web(address).unwrap_err().to_string();
            assert!(error.starts_with(&format!("api web {address} is no loopback address: ")), "{error}");
        }
        assert_eq!(Settings::default().complete().unwrap().api_web, None);
    }

    #[test]
    fn ssl_takes_its_files() {
        let settings =
            Settings::parse("[ovsdb]\nconnection = \"ssl:db:6640\"\nca_certificate = \"/ca\"").unwrap();
        let error = settings.complete().unwrap_err().to_string();
        assert_eq!(
            error,
            "ovsdb connection ssl:db:6640: certificate is not set; ssl takes ca_certificate, certificate and private_key"
        );
    }

    #[test]
    fn neutron_rpc_takes_a_url_and_tls_an_authority() {
        let config = |text: &str| {
            Settings::parse(&format!("[policy]\nsource = \"neutron-rpc\"\n[neutron]\n{text}"))
                .unwrap()
                .complete()
        };
        let error = |text: &str| config(text).unwrap_err().to_string();
        assert_eq!(
            config("").unwrap().broker().unwrap_err().to_string(),
            "neutron: transport_url is not set; source neutron-rpc and role publisher take it"
        );
        let url = "transport_url = \"rabbit://u:secret@h/v\"\n";
        let plain = config(url).unwrap();
        assert_eq!(plain.hook(), Hook::Bridge);
        assert!(!format!("{plain:?}").contains("secret"));
        assert_eq!(plain.neutron.unwrap().tls, None);
        let asked = "transport_url = \"rabbit://u:secret@h/v?ssl=1\"\n";
        assert_eq!(error(asked), "neutron: ca_certificate is not set; TLS takes it");
        assert_eq!(
            error(&format!("{url}certificate = \"/c\"")),
            "neutron: private_key is not set; it belongs to certificate"
        );
        let tls = config(&format!("{url}ca_certificate = \"/ca\"")).unwrap().neutron.unwrap().tls.unwrap();
        assert_eq!((tls.ca.as_path(), tls.identity), (Path::new("/ca"), None));
        let unread = Settings::parse("[neutron]\ntransport_url = \"amqp://u:secret@h\"").unwrap_err();
        assert_eq!(unread, "line 2: transport_url does not begin with rabbit://");
        assert!(Settings::parse("[neutron]\n").unwrap().complete().unwrap().neutron.is_none());
    }
}
