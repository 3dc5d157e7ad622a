//! Figures as pictures: processor time on a logarithmic scale, a bar a program, a group of bars a scenario.

use std::fmt::Write as _;

use super::Figures;
use super::peers::{PeerCost, PeerFigures};
use super::report::median;
use super::subject::Cost;

/// A scenario, and what a peer took from nothing and for one member more, in seconds.
type Before = (&'static str, f64, f64);

/// A peer, with what it was measured with before, for a run without it, in processor time on two shared cores with Open vSwitch
/// 3.1.0 (docs/benchmarks).
struct Peer {
    name: &'static str,
    version_before: &'static str,
    colour: &'static str,
    before: &'static [Before],
}

/// The agent and its `ovs-ofctl`s.
const NEUTRON: Peer = Peer {
    name: "Neutron",
    version_before: "29",
    colour: "#b23a48",
    before: &[
        ("default-10-500", 0.80, 1.0),
        ("default-100-500", 5.2, 13.9),
        ("default-500-500", 33.6, 99.5),
        ("default-100-2000", 14.2, 23.2),
        ("rich-100-500", 16.5, 43.0),
    ],
};

/// ovn-controller and ovs-vswitchd from nothing, ovn-controller alone for a member.
const OVN: Peer = Peer {
    name: "OVN",
    version_before: "23.03",
    colour: "#e0a030",
    before: &[
        ("default-10-500", 0.39, 0.021),
        ("default-100-500", 0.35, 0.038),
        ("default-500-500", 4.29, 0.116),
        ("default-100-2000", 0.74, 0.089),
    ],
};

/// Lowest and highest power of ten of a second.
const DECADES: (i32, i32) = (-4, 3);
const LEFT: f64 = 150.0;
const WIDTH: f64 = 540.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;
const TOP: f64 = 64.0;

/// A program's bars.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) seconds: Vec<Option<f64>>,
}

/// The plots, by file name.
pub(super) fn all(figures: &[Figures]) -> [(&'static str, String); 2] {
    let step = |name: &str| -> Vec<Option<f64>> {
        let of = |figures: &Figures| {
            let step = figures.steps.iter().find(|step| step.name == name)?;
            let cpu = |cost: &Cost| cost.agent_cpu + cost.switch_cpu;
            Some(median(step.costs.iter().map(cpu)))
        };
        figures.iter().map(of).collect()
    };
    let floor = figures
        .iter()
        .map(|figures| Some(median(figures.floor.iter().map(|floor| floor.ofctl_cpu + floor.switch_cpu))))
        .collect();
    let sgflow = |seconds| Series { name: "sgflow and ovs-vswitchd".to_owned(), colour: "#1f6f8b", seconds };
    let names: Vec<&str> = figures.iter().map(|figures| figures.scenario.as_str()).collect();
    let floor_name = "the floor: ovs-ofctl and ovs-vswitchd".to_owned();
    let from_nothing = [
        sgflow(step("from nothing")),
        Series { name: floor_name, colour: "#8a8a8a", seconds: floor },
        peer(figures, &NEUTRON, "from nothing", |before| before.1),
        peer(figures, &OVN, "from nothing", |before| before.1),
    ];
    let one_member = [
        sgflow(step("+1 member")),
        peer(figures, &NEUTRON, "+1 member", |before| before.2),
        peer(figures, &OVN, "+1 member", |before| before.2),
    ];
    [
        ("from-nothing.svg", draw("From nothing: processor time, seconds", &names, &from_nothing)),
        ("one-member.svg", draw("One member more: processor time, seconds", &names, &one_member)),
    ]
}

/// The bars of a peer, on the host: of this run, or if that has none, those from before.
fn peer(figures: &[Figures], peer: &Peer, step: &str, before: fn(&Before) -> f64) -> Series {
    let measured: Vec<Option<&PeerFigures>> =
        figures.iter().map(|figures| figures.peers.iter().find(|of| of.name == peer.name)).collect();
    let Some(version) = measured.iter().flatten().next().map(|of| &of.version) else {
        let of = |figures: &Figures| peer.before.iter().find(|row| row.0 == figures.scenario).map(before);
        let name = format!("{} {} (measured before)", peer.name, peer.version_before);
        return Series { name, colour: peer.colour, seconds: figures.iter().map(of).collect() };
    };
    let cpu = |cost: &PeerCost| cost.agent_cpu + cost.switch_cpu;
    let of = |figures: &Option<&PeerFigures>| {
        let step = figures.as_ref()?.steps.iter().find(|of| of.name == step)?;
        Some(median(step.costs.iter().map(cpu)))
    };
    let name = format!("{} {version} and ovs-vswitchd", peer.name);
    Series { name, colour: peer.colour, seconds: measured.iter().map(of).collect() }
}

/// A group of bars for each name, a bar of it for each series.
pub(super) fn draw(title: &str, names: &[&str], series: &[Series]) -> String {
    let group = bars(series.len()) * BAR + GAP;
    let height = TOP + bars(names.len()) * group + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"18\" font-size=\"14\">{title}</text>\n",
        LEFT + WIDTH + 70.0
    );
    let mut line = |text: String| writeln!(svg, "{text}").expect("a String takes any text");
    for (number, series) in series.iter().enumerate() {
        let x = 10.0 + bars(number) * 178.0;
        line(format!("<rect x=\"{x:.0}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{}\"/>", series.colour));
        line(format!("<text x=\"{:.0}\" y=\"39\" font-size=\"9\">{}</text>", x + 14.0, series.name));
    }
    for decade in DECADES.0..=DECADES.1 {
        let x = place(10f64.powi(decade));
        line(format!("<path d=\"M{x:.1} {:.0}V{:.0}\" stroke=\"#ddd\"/>", TOP - 8.0, height - 24.0));
        line(format!(
            "<text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            height - 10.0,
            10f64.powi(decade)
        ));
    }
    for (row, name) in names.iter().enumerate() {
        let top = TOP + bars(row) * group;
        line(format!("<text x=\"10\" y=\"{:.1}\">{name}</text>", top + BAR));
        for (number, series) in series.iter().enumerate() {
            let Some(seconds) = series.seconds[row] else { continue };
            let (y, width) = (top + bars(number) * BAR, place(seconds) - LEFT);
            line(format!(
                "<rect x=\"{LEFT:.0}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{}\"/>",
                BAR - 2.0,
                series.colour
            ));
            line(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\">{seconds:.4}</text>",
                LEFT + width + 4.0,
                y + BAR - 3.0
            ));
        }
    }
    svg + "</svg>\n"
}

/// Where a time stands.
fn place(seconds: f64) -> f64 {
    let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
    LEFT + WIDTH * ((seconds.log10() - low) / (high - low)).clamp(0.0, 1.0)
}

#[allow(clippy::cast_precision_loss, reason = "a handful")]
fn bars(count: usize) -> f64 {
    count as f64
}
