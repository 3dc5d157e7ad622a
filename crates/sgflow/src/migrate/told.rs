//! What the command says: a line a step, for people or for programs.

use policy::PortId;
use serde_json::json;

/// Where it says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) as_json: bool,
}

impl Told {
    /// Of a port.
    pub(super) fn port(self, port: &PortId, step: &str, text: &str) {
        match self.as_json {
            true => println!("{}", json!({"port": port.as_str(), "step": step, "text": text})),
            false => println!("port {port}: {step}: {text}"),
        }
    }

    /// Of the host.
    pub(super) fn host(self, step: &str, text: &str) {
        match self.as_json {
            true => println!("{}", json!({"step": step, "text": text})),
            false => println!("{step}: {text}"),
        }
    }
}
