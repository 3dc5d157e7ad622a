//! Ports that exist in the switch alone: frames go in by the control socket and come out in a pcap file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Tried as _;
use crate::unixctl::SwitchCtl;
use crate::{Error, Mac, Ovs};

/// Frames handed over at once. A dummy device queues 100 and drops the rest without a word
/// (`lib/netdev-dummy.c`, 3.1: `NETDEV_DUMMY_MAX_QUEUE`).
const FRAMES_AT_ONCE: usize = 64;

/// Commands that the switch takes from a connection to its control socket in one round of its main loop
/// (`lib/unixctl.c`, 3.1: `run_connection`).
const COMMANDS_A_ROUND: usize = 10;

/// A command that leaves everything as it is.
const NOTHING: (&str, Vec<&str>) = ("version", Vec::new());

/// How long the switch may take for them.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// The header of a pcap file, and of each frame in it (pcap-savefile(5)).
const PCAP_FILE_HEADER: u64 = 24;
const PCAP_FRAME_HEADER: usize = 16;

/// A dummy port to be added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DummySpec {
    /// Name of port and interface, at most 15 bytes.
    pub name: String,
    /// The Neutron port, `external_ids:iface-id`; none for a port of the network.
    pub port_id: Option<String>,
    /// Its MAC, `external_ids:attached-mac`, as a hypervisor notes it.
    pub mac: Option<Mac>,
    /// The VLAN of an access port; none for a trunk.
    pub tag: Option<u16>,
    /// The OpenFlow port number to ask for.
    pub ofport: Option<u16>,
}

impl DummySpec {
    /// A trunk port without a Neutron port.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), port_id: None, mac: None, tag: None, ofport: None }
    }
}

/// A port of type `dummy`.
#[derive(Debug)]
pub struct DummyPort {
    name: String,
    pcap: PathBuf,
    ctl: Arc<SwitchCtl>,
    /// How far the pcap file has been read. The switch appends to it, also after it was started again.
    read: Mutex<u64>,
}

impl DummyPort {
    pub(crate) fn plug(ovs: &Ovs, bridge: &str, specs: Vec<DummySpec>) -> Result<Vec<Self>, Error> {
        let ports: Vec<(DummySpec, PathBuf, u64)> = specs
            .into_iter()
            .map(|spec| {
                let pcap = ovs.rundir().join(format!("{}.pcap", spec.name));
                // A port of the same name may have been here before.
                let written = fs::metadata(&pcap).map_or(PCAP_FILE_HEADER, |metadata| metadata.len());
                (spec, pcap, written)
            })
            .collect();
        let mut arguments = Vec::new();
        for (spec, pcap, _) in &ports {
            let name = spec.name.as_str();
            arguments.extend(["--", "add-port", bridge, name].map(str::to_owned));
            arguments.extend(spec.tag.map(|tag| format!("tag={tag}")));
            arguments.extend(["--", "set", "Interface", name, "type=dummy"].map(str::to_owned));
            arguments.push(format!("options:tx_pcap={}", pcap.display()));
            arguments.extend(spec.port_id.as_ref().map(|id| format!("external_ids:iface-id={id}")));
            arguments.extend(spec.mac.map(|mac| format!("external_ids:attached-mac=\"{mac}\"")));
            arguments.extend(spec.ofport.map(|ofport| format!("ofport_request={ofport}")));
        }
        ovs.vsctl(&arguments)?;
        let port = |(spec, pcap, read): (DummySpec, PathBuf, u64)| Self {
            name: spec.name,
            pcap,
            ctl: Arc::clone(ovs.ctl()),
            read: Mutex::new(read),
        };
        Ok(ports.into_iter().map(port).collect())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets a frame come in, and returns when the switch is done with it: what it sends in turn can be taken then.
    ///
    /// # Errors
    /// The switch refuses it (shorter than an Ethernet header) or does not run.
    pub fn receive(&self, frame: &[u8]) -> Result<(), Error> {
        self.receive_all(&[frame])
    }

    /// Lets frames come in, in order, and returns when the switch is done with all of them.
    ///
    /// # Errors
    /// As [`DummyPort::receive`].
    pub fn receive_all<F: AsRef<[u8]>>(&self, frames: &[F]) -> Result<(), Error> {
        let mut taken = self.frames_taken()?;
        for chunk in frames.chunks(FRAMES_AT_ONCE) {
            let texts: Vec<String> = chunk.iter().map(|frame| hex(frame.as_ref())).collect();
            let mut arguments = vec![self.name.as_str()];
            arguments.extend(texts.iter().map(String::as_str));
            self.ctl.call("netdev-dummy/receive", &arguments)?;
            let wanted = taken + chunk.len() as u64;
            let deadline = Instant::now() + TAKEN_WITHIN;
            // The thread that answers here is the one that polls dummy devices and carries each frame through to its
            // last action: when a frame is counted, it has been dealt with.
            while taken < wanted {
                if Instant::now() > deadline {
                    let what = format!("{}: {} of {wanted} frames taken", self.name, taken);
                    return Err(Error::Timeout { what, after: TAKEN_WITHIN });
                }
                taken = self.frames_taken()?;
                if taken < wanted {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        }
        Ok(())
    }

    /// Lets frames come in at many ports, lane by lane: those of one lane one after the other, each when the switch is done
    /// with the one before; those of different lanes in any order. Returns when it is done with all. A port belongs to
    /// one lane.
    ///
    /// The switch is asked nothing in between. In each round of its main loop it takes one frame from each dummy device
    /// (`lib/netdev-dummy.c`, 3.1: `netdev_dummy_rxq_recv`) and carries it through to its last action; then it takes at
    /// most `COMMANDS_A_ROUND` commands. So a frame has been dealt with before the command is looked at that comes so
    /// many after the frame's own. Hence a lane keeps its place in each row, also where others have no frame any more.
    ///
    /// # Errors
    /// As [`DummyPort::receive`].
    pub fn receive_in_lanes<'a, F: AsRef<[u8]>>(
        ovs: &Ovs,
        lanes: &[Vec<(&'a Self, F)>],
    ) -> Result<(), Error> {
        let longest = lanes.iter().map(Vec::len).max().unwrap_or(0);
        let mut texts: Vec<Vec<Option<(&str, String)>>> = Vec::with_capacity(longest + 1);
        for position in 0..longest {
            let frame = |lane: &Vec<(&'a Self, F)>| {
                lane.get(position).map(|(port, frame)| (port.name(), hex(frame.as_ref())))
            };
            texts.push(lanes.iter().map(frame).collect());
        }
        texts.push(Vec::new());
        let mut calls = Vec::new();
        for row in &texts {
            calls.extend(row.iter().map(|frame| match frame {
                Some((name, text)) => ("netdev-dummy/receive", vec![*name, text.as_str()]),
                None => NOTHING,
            }));
            calls.extend((row.len()..COMMANDS_A_ROUND).map(|_| NOTHING));
        }
        ovs.connect_ctl()?.call_all(&calls).map(drop)
    }

    /// The frames that the switch has sent to this port since the last call, oldest first.
    ///
    /// # Errors
    /// The pcap file cannot be read.
    pub fn take_sent(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let what = || format!("read {}", self.pcap.display());
        let mut file = File::open(&self.pcap).tried(what)?;
        file.seek(SeekFrom::Start(*read)).tried(what)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).tried(what)?;
        let (frames, used) = pcap_frames(&bytes);
        *read += used as u64;
        Ok(frames)
    }

    /// How many frames the switch has taken from this port.
    fn frames_taken(&self) -> Result<u64, Error> {
        let text = self.ctl.call("dpctl/show", &["-s"])?;
        received_by(&text, &self.name).ok_or_else(|| Error::Invalid {
            what: "dummy port",
            value: self.name.clone(),
            reason: "not in the datapath".to_owned(),
        })
    }
}

/// The frames of a pcap file's body in the machine's own byte order, and how many bytes they take; a frame that is still
/// being written is left for the next time.
fn pcap_frames(mut body: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let whole = body.len();
    let mut frames = Vec::new();
    while let Some((header, rest)) = body.split_at_checked(PCAP_FRAME_HEADER) {
        let captured = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let Some((frame, rest)) = usize::try_from(captured).ok().and_then(|n| rest.split_at_checked(n))
        else {
            break;
        };
        frames.push(frame.to_vec());
        body = rest;
    }
    (frames, whole - body.len())
}

/// The number of frames received from port `name` in what `dpctl/show -s` prints:
/// `  port 3: d1 (dummy)` and below it `    RX packets:1 errors:…`.
fn received_by(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().skip_while(|line| {
        line.trim_start().strip_prefix("port ").and_then(|l| l.split_once(": ")).is_none_or(|(_, rest)| {
            rest.strip_suffix(')').and_then(|r| r.split_once(" (")).is_none_or(|(port, _)| port != name)
        })
    });
    lines.next()?;
    let counters = lines.next()?.trim_start().strip_prefix("RX packets:")?;
    counters.split_ascii_whitespace().next()?.parse().ok()
}

/// Bytes as the control socket takes them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_those_of_the_port_asked_for() {
        let text = "dummy@ovs-dummy:\n  lookups: hit:0 missed:1 lost:0\n  port 2: d10 (dummy)\n    RX packets:7 errors:?\n\
                    \x20 port 3: d1 (dummy: a=b)\n    RX packets:12 errors:?\n    TX packets:0\n";
        assert_eq!(received_by(text, "d1"), Some(12));
        assert_eq!(received_by(text, "d10"), Some(7));
        assert_eq!(received_by(text, "d"), None);
    }

    #[test]
    fn a_frame_half_written_stays_for_the_next_time() {
        let frame = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).unwrap().to_ne_bytes();
            [&[0; 8], &length[..], &length[..], bytes].concat()
        };
        let two = [frame(&[1, 2, 3]), frame(&[4])].concat();
        assert_eq!(pcap_frames(&two), (vec![vec![1, 2, 3], vec![4]], two.len()));
        assert_eq!(pcap_frames(&two[..two.len() - 1]), (vec![vec![1, 2, 3]], 19));
        assert_eq!(pcap_frames(&[]), (vec![], 0));
    }
}
