// Groups as nodes and what their rules admit as arrows, drawn in layers: who sends stands before who receives.

import { $, debounce, get, h, isNarrow, many, notice, s, say, show } from "./dom.js";
import { rows, settle, spread } from "./layout.js";

const CHIPS = 12;
// Of the box, in style.css.
const PADDING = 8;
// How wide a character of a label is at most, about.
const CHARACTER = 6.2;
let answer = null;
let drawnNarrow = null;

// Where things stand: along the way from senders to receivers, and across it within a layer. A few layers stand side by side where there is
// room, many below each other. Distances are in pixels, the least and the most.

const BESIDE = { node: [158, 46], along: [270, 430], across: 26, perLayer: Infinity, isAlongX: true };
const BELOW = { node: [150, 46], along: [112, 112], across: 20, perLayer: 6 };
const NARROW = { node: [106, 46], along: [118, 118], across: 8, perLayer: 3 };
const LAYERS_BESIDE = 4;

/** Points of an arrow, in pixels, and the way it leaves and enters. */
function course(link, size, xy, reversed) {
  const { from, to, bends, step } = link;
  const half = size.depth / 2;
  if (from === to) return null;
  const shift = reversed ? (step < 0 ? 9 : -9) : 0;
  const start = xy(from, step || 1, half, shift + link.fromShift);
  const end = xy(to, step ? -step : 1, half + 7, shift + link.toShift);
  return [start, ...bends.map((bend) => xy(bend, 0, 0, 0)), end];
}

function curve(points, isAlongX, isSameLayer) {
  const bent = ([x1, y1], [x2, y2]) => {
    if (isSameLayer) return isAlongX ? `C${x1 + 56} ${y1} ${x2 + 56} ${y2} ${x2} ${y2}` : `C${x1} ${y1 + 44} ${x2} ${y2 + 44} ${x2} ${y2}`;
    return isAlongX
      ? `C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`
      : `C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2}`;
  };
  return `M${points[0].join(" ")}` + points.slice(1).map((point, index) => bent(points[index], point)).join("");
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** What words take up that stand around a point. */
function around({ x, y }, words) {
  const [width, height] = [words.length * CHARACTER + 8, 18];
  return { x, y, left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 };
}

/** A place along the arrow where its words cover no others', at the end that is less crowded. */
function placeLabel(path, words, taken, crowding) {
  const length = path.getTotalLength();
  const box = (part) => around(path.getPointAtLength(length * part), words);
  const overlap = (one, other) => Math.max(0, Math.min(one.right, other.right) - Math.max(one.left, other.left))
    * Math.max(0, Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top));
  const covered = (one) => taken.reduce((sum, other) => sum + overlap(one, other), 0);
  const middle = 0.5 - (Math.abs(crowding) > 2 ? 0.22 * Math.sign(crowding) : 0);
  const boxes = [0, 0.06, -0.06, 0.12, -0.12, 0.18, -0.18, 0.24, -0.24, 0.3, -0.3].map((off) => box(Math.min(0.85, Math.max(0.15, middle + off))));
  const best = boxes.reduce((found, one) => (covered(one) < covered(found) ? one : found));
  taken.push(best);
  return best;
}

function draw(container, { nodes, arrows, chosen }) {
  const inRows = (base) => rows(nodes.map(({ key }) => key), arrows, chosen && `group ${chosen}`, base);
  let base = isNarrow() ? NARROW : BESIDE;
  let placed = inRows(base);
  if (base === BESIDE && placed.table.length > LAYERS_BESIDE) placed = inRows((base = BELOW));
  const { isAlongX, node: [nodeWidth, nodeHeight] } = base;
  const size = { ...base, extent: isAlongX ? nodeHeight : nodeWidth, depth: isAlongX ? nodeWidth : nodeHeight };
  const room = (container.clientWidth || 336) - 2 * PADDING;
  settle(placed, size);
  const { table, links } = placed;
  spread(links, size);

  const gaps = Math.max(1, table.length - 1);
  const pitch = Math.max(base.along[0], Math.min(base.along[1], (room - nodeWidth - 20) / gaps));
  const across = table.flat().map((place) => place.across);
  const [low, high] = [Math.min(...across), Math.max(...across)];
  const margin = size.extent / 2 + 42;
  const middle = isAlongX ? 0 : Math.max(room, high - low + size.extent + 8) / 2;
  const xy = (place, side, half, shift) => {
    const along = place.index * pitch + size.depth / 2 + (isAlongX ? 6 : 42) + side * half;
    const beside = (isAlongX ? place.across - low + margin : place.across - (low + high) / 2 + middle) + shift;
    return isAlongX ? [along, beside] : [beside, along];
  };
  const alongSize = (table.length - 1) * pitch + size.depth + (isAlongX ? 12 : 60);
  const acrossSize = isAlongX ? high - low + 2 * margin : middle * 2;
  const [width, height] = isAlongX ? [alongSize, acrossSize] : [acrossSize, alongSize];

  const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Groups and what their rules admit" },
    s("defs", {}, s("marker", { id: "head", viewBox: "0 0 10 10", refX: 2, refY: 5, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
      s("path", { d: "M0 0L10 5L0 10z", class: "head" }))));
  container.replaceChildren(svg);

  const names = new Map(nodes.map((node) => [node.key, node.name]));
  const ways = new Set(arrows.map(({ from, to }) => `${from}\n${to}`));
  const taken = table.flat().filter(({ isBend }) => !isBend).map((place) => {
    const [x, y] = xy(place, 0, 0, 0);
    return { left: x - nodeWidth / 2, right: x + nodeWidth / 2, top: y - nodeHeight / 2, bottom: y + nodeHeight / 2 };
  });
  const most = Math.floor((isAlongX ? pitch - size.depth - 24 : 130) / CHARACTER);
  const degree = (place) => links.filter(({ from, to }) => from === place || to === place).length;
  const lines = s("g", {});
  const labels = s("g", {});
  svg.append(lines);
  // Words of loops have one place, and so come first.
  const isLoop = ({ from, to }) => from === to;
  for (const link of [...links.filter(isLoop), ...links.filter((link) => !isLoop(link))]) {
    const { arrow } = link;
    const words = arrow.services.join(", ");
    const says = `${names.get(arrow.from)} may send to ${names.get(arrow.to)}: ${words}, by ${arrow.direction} rules`;
    const points = course(link, size, xy, ways.has(`${arrow.to}\n${arrow.from}`) && link.step);
    const [x, y] = xy(link.from, 0, 0, 0);
    // What a group's own rules say of itself: ingress above, egress below.
    const up = arrow.direction === "ingress" ? -1 : 1;
    const edge = y + (up * nodeHeight) / 2;
    const loop = `M${x - 26} ${edge}C${x - 36} ${edge + 26 * up} ${x + 36} ${edge + 26 * up} ${x + 28} ${edge + 7 * up}`;
    const path = s("path", { d: points ? curve(points, isAlongX, !link.step) : loop, class: `arrow ${arrow.direction}`, "marker-end": "url(#head)" }, s("title", {}, says));
    path.dataset.ends = JSON.stringify([arrow.from, arrow.to]);
    lines.append(path);
    const text = short(words.replace(/ \(IPv[46]\)/g, ""), most);
    const at = points ? placeLabel(path, text, taken, degree(link.to) - degree(link.from)) : around({ x, y: edge + 29 * up }, text);
    if (!points) taken.push(at);
    const width = text.length * CHARACTER + 6;
    const label = s("g", { class: "label" }, s("rect", { x: at.x - width / 2, y: at.y - 8, width, height: 16 }), s("text", { x: at.x, y: at.y + 4 }, text), s("title", {}, says));
    label.dataset.ends = path.dataset.ends;
    labels.append(label);
  }
  for (const place of table.flat().filter(({ isBend }) => !isBend)) {
    const node = nodes.find(({ key }) => key === place.key);
    svg.append(drawNode(svg, node, xy(place, 0, 0, 0), base.node, node.key === `group ${chosen}`));
  }
  svg.append(labels);
  container.scrollLeft = isAlongX ? 0 : (width - container.clientWidth) / 2;
}

function drawNode(svg, node, [x, y], [width, height], isChosen) {
  const isGroup = node.kind === "group";
  const box = [
    s("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: isGroup ? 8 : 23 }),
    s("text", { x, y: y - 3, class: "name" }, short(node.name, Math.floor((width - 14) / 7.4))),
    s("text", { x, y: y + 14, class: "about" }, node.about),
    s("title", {}, `${node.name}${node.id && node.id !== node.name ? ` (${node.id})` : ""}: ${node.about}`),
  ];
  const attributes = { class: `node ${node.kind}${isChosen ? " chosen" : ""}` };
  const element = isGroup
    ? s("a", { ...attributes, href: `#graph?${new URLSearchParams({ group: node.id })}`, "aria-label": `${node.name}, ${node.about}: show what is around it` }, box)
    : s("g", attributes, box);
  for (const event of ["mouseenter", "focusin"]) element.addEventListener(event, () => emphasise(svg, node.key));
  for (const event of ["mouseleave", "focusout"]) element.addEventListener(event, () => emphasise(svg, null));
  return element;
}

function emphasise(svg, key) {
  for (const element of svg.querySelectorAll("[data-ends]")) {
    element.classList.toggle("faint", key !== null && !JSON.parse(element.dataset.ends).includes(key));
  }
}

/** What the arrows say, for who does not see them. */
function words({ nodes, arrows }) {
  const names = new Map(nodes.map((node) => [node.key, node.name]));
  const row = ({ from, to, services, direction }) =>
    h("tr", {}, h("td", {}, names.get(from)), h("td", {}, services.join(", ")), h("td", {}, names.get(to)), h("td", {}, direction));
  return h("details", {}, h("summary", {}, `In words: ${many(arrows.length, "arrow")}`),
    h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ["From", "May send", "To", "Rules"].map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, arrows.map(row)))));
}

function redraw() {
  if (!answer || $("graph").hidden) return;
  drawnNarrow = isNarrow();
  const direction = $("graph-direction").value;
  const arrows = answer.arrows.filter((arrow) => direction === "both" || arrow.direction === direction);
  const linked = new Set(arrows.flatMap(({ from, to }) => [from, to]));
  const chosenKey = answer.chosen === null ? null : `group ${answer.chosen}`;
  const nodes = answer.nodes.filter(({ key }) => linked.has(key) || key === chosenKey);
  const alone = answer.nodes.filter(({ key, kind }) => kind === "group" && !linked.has(key) && key !== chosenKey);
  const shown = { ...answer, nodes, arrows };
  const box = h("div", { class: "scroll graph", tabindex: "0", role: "region", "aria-label": "Graph" });
  const chosen = answer.nodes.find(({ key }) => key === chosenKey);
  show("graph-body",
    answer.is_too_large && notice(`${many(answer.groups, "group")}: too many to draw at once. Search one, and choose it.`, "warn"),
    chosen && h("h2", {}, `Around ${chosen.name}`),
    answer.left_out > 0 && notice(`${many(answer.left_out, "node")} left out: there is room for 48.`, "warn"),
    nodes.length > 0 && box,
    nodes.length > 0 && arrows.length === 0 && h("p", { class: "quiet" }, "No rule of this direction names it."),
    nodes.length > 0 && h("p", { class: "legend" },
      h("span", {}, h("i", { class: "line" }), " ingress rules of the receiver"), h("span", {}, h("i", { class: "line dashed" }), " egress rules of the sender"),
      h("span", {}, h("i", { class: "shape" }), " group"), h("span", {}, h("i", { class: "shape round" }), " prefix, address group, anywhere")),
    alone.length > 0 && h("p", { class: "quiet" }, `Without ${direction === "both" ? "a rule" : `an ${direction} rule`}, and named by none: ${alone.map(({ name }) => name).join(", ")}.`),
    arrows.length > 0 && words(shown));
  if (nodes.length) draw(box, shown);
  say(`${chosen ? `Around ${chosen.name}: ` : ""}${many(nodes.length, "node")}, ${many(arrows.length, "arrow")}.`);
}

async function find(search) {
  try {
    const { groups, found, all } = await get("data/groups", { search });
    const chips = groups.slice(0, CHIPS).map(({ id, name, ports }) =>
      h("a", { class: "chip", href: `#graph?${new URLSearchParams({ group: id })}`, title: id }, name, h("small", {}, many(ports, "port"))));
    const more = found > CHIPS ? `and ${many(found - CHIPS, "other")}` : found ? "" : `none of ${all} is called so`;
    show("graph-found", search || all > CHIPS ? [...chips, more && h("span", { class: "quiet" }, more)] : []);
  } catch {
    show("graph-found");
  }
}

$("graph-form").addEventListener("submit", (event) => event.preventDefault());
$("graph-search").addEventListener("input", debounce(() => find($("graph-search").value)));
$("graph-direction").addEventListener("change", redraw);
$("graph-all").addEventListener("click", () => {
  location.hash = "graph";
});
window.addEventListener("resize", debounce(() => isNarrow() !== drawnNarrow && redraw()));

export async function open(query) {
  find($("graph-search").value);
  try {
    answer = await get("data/graph", { group: query.get("group") ?? "" });
    redraw();
  } catch (error) {
    answer = null;
    show("graph-body", notice(error.message));
  }
}

export function tick() {}
