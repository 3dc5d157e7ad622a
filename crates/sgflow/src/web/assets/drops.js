// What is dropped: a series of this window's own, the tables, the latest samples.

import { $, get, h, isNarrow, many, notice, number, s, show, when } from "./dom.js";

const KEPT_MS = 10 * 60 * 1000;
const SAMPLES = 30;
// Each reason has a colour and a dash, so that it is known by either.
const DASHES = ["", "7 4", "2 3", "10 3 2 3", "4 2", "1 5"];
const COLOURS = 6;

const series = [];
const styles = new Map();
let samples = [];
let latest = null;
let failure = null;

const style = (reason) => styles.get(reason) ?? styles.set(reason, styles.size).get(reason);
const classOf = (reason) => `series c${style(reason) % COLOURS}`;
const dashOf = (reason) => DASHES[style(reason) % DASHES.length];

/** Asks for what is new, in sight or not. */
export async function collect() {
  try {
    const answer = await get("data/drops", { after: samples[0]?.number ?? "" });
    const time = Date.now();
    const packets = Object.fromEntries(answer.reasons.map((drops) => [drops.reason, drops.packets]));
    // Who counts less than before has begun anew.
    if (answer.sampled < (latest?.sampled ?? 0)
      || Object.entries(series.at(-1)?.packets ?? {}).some(([reason, before]) => (packets[reason] ?? 0) < before)) {
      series.length = 0;
      samples = [];
    }
    series.push({ time, packets });
    while (time - series[0].time > KEPT_MS) series.shift();
    samples = [...answer.samples].reverse().concat(samples).slice(0, SAMPLES);
    latest = answer;
    failure = null;
  } catch (error) {
    failure = error.message;
  }
}

/** Packets a second between one look and the next. */
function rates() {
  const reasons = [...new Set(series.flatMap(({ packets }) => Object.keys(packets)))];
  const lines = reasons.map((reason) => ({
    reason,
    points: series.slice(1).map(({ time, packets }, index) => {
      const before = series[index];
      const grown = (packets[reason] ?? 0) - (before.packets[reason] ?? 0);
      return { time, rate: Math.max(0, grown) / ((time - before.time) / 1000) };
    }),
  }));
  return lines.filter(({ points }) => points.some(({ rate }) => rate > 0));
}

/** A round number that is not less. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function chart() {
  const [width, height] = [isNarrow() ? 340 : 1100, isNarrow() ? 200 : 240];
  const [left, right, top, bottom] = [44, 14, 10, 28];
  const lines = rates();
  const end = Date.now();
  const begin = Math.min(series[0]?.time ?? end, end - 60_000);
  const most = ceiling(Math.max(1, ...lines.flatMap(({ points }) => points.map(({ rate }) => rate))));
  const x = (time) => left + ((time - begin) / (end - begin)) * (width - left - right);
  const y = (rate) => height - bottom - (rate / most) * (height - top - bottom);
  const grid = [0, 0.5, 1].map((part) => [
    s("line", { x1: left, x2: width - right, y1: y(most * part), y2: y(most * part), class: "grid" }),
    s("text", { x: left - 8, y: y(most * part) + 4, class: "tick end" }, number(most * part)),
  ]);
  const seconds = (end - begin) / 1000;
  const every = [15, 30, 60, 120, 300].find((step) => seconds / step <= (isNarrow() ? 4 : 8)) ?? 600;
  const marks = Array.from({ length: Math.floor(seconds / every) + 1 }, (_, index) => index * every);
  const ago = (past) => (past === 0 ? "now" : past < 60 ? `−${past} s` : `−${past / 60} min`);
  const axis = marks.map((past) => s("text", { x: x(end - past * 1000), y: height - 8, class: past ? "tick" : "tick end" }, ago(past)));
  const drawn = lines.map(({ reason, points }) => s("path", {
    class: classOf(reason), "stroke-dasharray": dashOf(reason),
    d: points.map(({ time, rate }, index) => `${index ? "L" : "M"}${x(time).toFixed(1)} ${y(rate).toFixed(1)}`).join(""),
  }, s("title", {}, reason)));
  const says = lines.map(({ reason, points }) => `${reason} ${points.at(-1).rate.toFixed(1)}`).join(", ") || "none";
  return h("figure", { class: "card" },
    h("figcaption", {}, "Dropped packets a second"),
    s("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": `Dropped packets a second, now: ${says}` }, grid, axis, drawn));
}

const sign = (reason) => s("svg", { width: 28, height: 10, class: "sign", "aria-hidden": "true" },
  s("line", { x1: 1, x2: 27, y1: 5, y2: 5, class: classOf(reason), "stroke-dasharray": dashOf(reason) }));

const table = (heads, rows, words) => (rows.length
  ? h("div", { class: "scroll" }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: /^(Packets|Bytes|A second)$/.test(head) ? "figure" : null }, head)))), h("tbody", {}, rows)))
  : h("p", { class: "quiet" }, words));

const figure = (value) => h("td", { class: "figure" }, value);

/** `tcp 10.0.0.9:40000 -> 10.0.0.5:22` as a walk: at the port's own end it is the port that is meant. Of ICMP, an echo can be walked. */
function walkOf({ port, direction, packet }) {
  const [, proto, type, from, to] = packet.match(/^(\S+)(?: type (\d+) code \d+)? (\S+) -?> (\S+)$/) ?? [];
  if (!port || !to || (type && type !== "8" && type !== "128")) return null;
  const part = (end) => end.match(/^\[?(.+?)\]?(?::(\d+))?$/);
  const isIpv6 = (end) => !end.startsWith("[") && end.split(":").length > 2;
  const [, source] = isIpv6(from) ? [null, from] : part(from);
  const [, target, dport] = isIpv6(to) ? [null, to] : part(to);
  const ends = direction === "egress" ? { from: port, to: target } : { from: source, to: port };
  return `#walk?${new URLSearchParams({ ...ends, proto, ...(dport && { dport }) })}`;
}

function sample(one) {
  const walk = walkOf(one);
  return h("li", {}, h("time", { class: "time", datetime: one.time }, one.time.slice(11, 19)),
    h("span", { class: "end" }, one.port ?? "no port", one.direction && h("small", {}, ` ${one.direction}`)),
    h("span", { class: "reason" }, sign(one.reason), one.reason), h("span", { class: "packet" }, one.packet),
    walk && h("a", { href: walk, "aria-label": `Walk ${one.packet}` }, "walk"));
}

function render() {
  if (failure && !latest) {
    show("drops-body", notice(failure));
    return;
  }
  if (!latest) return;
  const now = Object.fromEntries(rates().map(({ reason, points }) => [reason, points.at(-1).rate]));
  const byPackets = (left, right) => right.packets - left.packets;
  const reasons = latest.reasons.filter(({ packets }) => packets > 0).sort(byPackets).map(({ reason, packets, bytes }) =>
    h("tr", {}, h("th", { scope: "row", class: "reason" }, sign(reason), reason), figure(number(packets)), figure(number(bytes)), figure((now[reason] ?? 0).toFixed(1))));
  const ports = [...latest.ports].sort(byPackets).map(({ port, reason, packets, bytes }) =>
    h("tr", {}, h("th", { scope: "row" }, port), h("td", { class: "reason" }, sign(reason), reason), figure(number(packets)), figure(number(bytes))));
  show("drops-body",
    failure && notice(failure),
    chart(),
    h("div", { class: "columns" },
      h("div", {}, h("h2", {}, "By reason"), table(["Reason", "Packets", "Bytes", "A second"], reasons, "Nothing was dropped.")),
      h("div", {}, h("h2", {}, "By port and reason"), table(["Port", "Reason", "Packets", "Bytes"], ports, "No port is known to have dropped anything."))),
    h("p", { class: "quiet" }, `Counted since ${when(latest.since)}.`),
    h("h2", {}, "Latest samples"),
    latest.not_sampled && h("p", { class: "quiet" }, `There are none: ${latest.not_sampled}.`),
    !latest.not_sampled && [samples.length ? h("ol", { class: "samples card" }, samples.map(sample)) : h("p", { class: "quiet" }, "No packet was sampled yet."),
    h("p", { class: "quiet" }, `${many(latest.sampled, "packet")} sampled, ${number(latest.limited)} not, for there were too many. Times are UTC.`)]);
}

/** What somebody reads or has scrolled is not taken from under them. */
export function tick() {
  const isIn = (node) => node && $("drops-body").contains(node);
  if (isIn(document.activeElement) || (!getSelection().isCollapsed && isIn(getSelection().anchorNode))) return;
  render();
}

export const open = render;
