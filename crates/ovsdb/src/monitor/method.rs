//! The three generations of the monitor request, newest first.

/// A monitor request, with the notification that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MonitorMethod {
    /// `monitor_cond_since` with `update3`: conditions, differences, resumption (ovsdb-server(7) 4.1.15;
    /// Open vSwitch 2.12).
    CondSince,
    /// `monitor_cond` with `update2`: conditions and differences (ovsdb-server(7) 4.1.12; Open vSwitch 2.6).
    Cond,
    /// `monitor` with `update` (RFC 7047 §4.1.5). Without conditions: they are judged here.
    Plain,
}

impl MonitorMethod {
    /// Name of the request.
    pub const fn request(self) -> &'static str {
        match self {
            Self::CondSince => "monitor_cond_since",
            Self::Cond => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    /// Name of the notification.
    pub const fn notification(self) -> &'static str {
        match self {
            Self::CondSince => "update3",
            Self::Cond => "update2",
            Self::Plain => "update",
        }
    }

    /// What to try where the server does not know this one.
    pub const fn older(self) -> Option<Self> {
        match self {
            Self::CondSince => Some(Self::Cond),
            Self::Cond => Some(Self::Plain),
            Self::Plain => None,
        }
    }
}
