// Who reaches whom, as a table that the agent's evaluator has filled in.

import { $, fields, get, h, many, notice, say, show } from "./dom.js";

const form = $("matrix-form");
let service = "";

/** What a cell says: its sign, its kind, its words. */
function meaning({ allowed, judged, example }) {
  if (!judged) return ["–", "none", "no pair to judge"];
  const where = example.direction ? `: ${example.reason} at the ${example.direction === "egress" ? "sender" : "receiver"}` : "";
  if (allowed === judged) return ["✓", "yes", `yes (${example.reason})`];
  if (!allowed) return ["✕", "no", `no${where}`];
  return ["◐", "some", `${allowed} of ${judged} pairs; the others${where}`];
}

const isOutside = (end) => end.kind === "outside";
const name = (end) => (isOutside(end) ? `outside ${end.name}` : end.name);

function detail(from, to, cell) {
  const [, kind, words] = meaning(cell);
  const { example, judged } = cell;
  const possible = isOutside(from) || isOutside(to) ? Math.max(from.ports, to.ports) : from.ports * to.ports;
  const query = example && new URLSearchParams({ ...service.query, from: example.from, to: example.to });
  show("matrix-detail",
    h("h2", {}, `${name(from)} → ${name(to)}, ${service.words}`),
    h("p", {}, h("span", { class: `tag ${{ yes: "good", no: "bad", some: "warn" }[kind] ?? ""}` }, kind === "none" ? "not judged" : kind), ` ${words}`),
    judged > 0 && h("p", { class: "quiet" }, `${judged} of ${many(possible, "pair")} of ports judged.`),
    !judged && h("p", { class: "quiet" }, "One of them has no port with an address of this family, or only the same one."),
    example && h("p", {}, `For example ${example.from} → ${example.to}: ${example.allowed ? "allowed" : "not allowed"} (${example.reason}). `,
      h("a", { href: `#walk?${query}` }, "Walk this packet")));
}

function draw(answer) {
  const { from, to, cells, left_out } = answer;
  say(`${many(from.length, "sender")} and ${many(to.length, "receiver")} judged.`);
  const choose = (row, column) => (event) => {
    $("matrix-body").querySelector("[aria-pressed=true]")?.setAttribute("aria-pressed", "false");
    event.currentTarget.setAttribute("aria-pressed", "true");
    detail(from[row], to[column], cells[row][column]);
    $("matrix-detail").scrollIntoView({ block: "nearest" });
  };
  const cell = (value, row, column) => {
    const [sign, kind, words] = meaning(value);
    const text = `${name(from[row])} to ${name(to[column])}: ${words}`;
    return h("td", {}, h("button", {
      type: "button", class: `cell ${kind}`, title: text, "aria-label": text, "aria-pressed": "false", tabindex: row || column ? -1 : 0, onclick: choose(row, column),
    }, sign));
  };
  const about = (end) => (end.kind === "group" ? h("small", {}, many(end.ports, "port")) : isOutside(end) && h("small", {}, "outside"));
  const head = h("tr", {}, h("td", { class: "corner" }, "from ↓  to →"),
    to.map((end) => h("th", { scope: "col" }, h("span", { title: `${end.name} (${end.id})` }, end.name))));
  const rows = from.map((end, row) => h("tr", {},
    h("th", { scope: "row", title: end.id }, end.name, about(end)), cells[row].map((value, column) => cell(value, row, column))));
  const [moreFrom, moreTo] = left_out;
  const missing = [moreFrom && many(moreFrom, "sender"), moreTo && many(moreTo, "receiver")].filter(Boolean).join(" and ");
  show("matrix-body",
    missing && notice(`${missing} ${moreFrom + moreTo === 1 ? "is" : "are"} left out: there is room for 64 of each. Search to see others.`, "warn"),
    h("ul", { class: "legend" },
      [["✓", "yes", "may reach"], ["✕", "no", "may not"], ["◐", "some", "some pairs of ports"], ["–", "none", "no pair"]].map(
        ([sign, kind, words]) => h("li", {}, h("span", { class: `cell ${kind}`, "aria-hidden": "true" }, sign), words))),
    from.length && to.length
      ? h("div", { class: "beside" },
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Matrix" },
          h("table", { class: "matrix" }, h("caption", {}, `May a sender open ${service.words} to a receiver?`), h("thead", {}, head), h("tbody", {}, rows))),
        h("div", { id: "matrix-detail", class: "card", "aria-live": "polite" }, h("p", { class: "quiet" }, "Choose a cell to see why.")))
      : notice("Nothing is found.", "warn"));
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** The table is one stop of the tabulator; arrows lead from cell to cell. */
function move(event) {
  const step = STEPS[event.key];
  const cell = event.target.closest(".matrix .cell");
  if (!step || !cell) return;
  event.preventDefault();
  const line = cell.closest("tr");
  const row = step[0] ? (step[0] > 0 ? line.nextElementSibling : line.previousElementSibling) : line;
  const next = row?.cells[cell.parentElement.cellIndex + step[1]]?.querySelector(".cell");
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

$("matrix-body").addEventListener("keydown", move);

async function judge() {
  const query = fields(form);
  const hasPorts = !form.elements.dport.disabled;
  service = { words: `${query.proto}${hasPorts ? `/${query.dport}` : ""}`, query: { proto: query.proto, dport: query.dport ?? "" } };
  try {
    draw(await get("data/matrix", query));
  } catch (error) {
    show("matrix-body", notice(error.message));
  }
}

function adapt() {
  form.elements.dport.disabled = form.elements.proto.value === "icmp";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  judge();
});
form.elements.proto.addEventListener("change", adapt);
form.elements.family.addEventListener("change", () => {
  const isIpv4 = form.elements.family.value === "ipv4";
  form.elements.outside.value = isIpv4 ? "203.0.113.1" : "2001:db8:ffff::1";
});
for (const field of ["by", "proto", "family"]) form.elements[field].addEventListener("change", judge);

export const open = judge;
export function tick() {}
