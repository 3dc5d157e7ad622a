// A packet's walk through the tables, with what its flows count.

import { $, debounce, fields, get, h, many, notice, number, say, show } from "./dom.js";

const form = $("walk-form");
let current = null;

/** `11 packets`, and how many of them since the walk. */
function counted(step) {
  if (step.packets == null) return "no counter: the flow is gone";
  const since = step.packets - step.first;
  return [`${many(step.packets, "packet")}`, since > 0 && h("strong", { class: "since" }, ` +${number(since)}`)];
}

function drawStep(step, isLast, passes) {
  const counter = h("span", { class: "counter" });
  step.counter = counter;
  const kind = isLast ? (passes ? "good" : "bad") : "";
  const item = h("li", { class: `step ${kind}` },
    h("div", { class: "table-name" }, h("b", {}, step.table), ` ${step.name ?? ""}`),
    h("div", { class: "does" }, step.purpose, step.flow && h("details", {}, h("summary", {}, "flow"), h("code", {}, step.flow))),
    counter);
  refresh(step);
  return item;
}

function refresh(step) {
  step.counter.replaceChildren(...[step.flow ? counted(step) : "no flow"].flat().filter(Boolean));
}

function way(answer, counts) {
  const held = answer.switch;
  if (!held) return null;
  if (!held.local) return notice(`${answer.port} is not on this host: its flows are elsewhere.`, "warn");
  if (held.closed) return notice(`${answer.port} is closed: ${held.closed}`);
  if (!held.steps) {
    return [
      notice(held.agrees ? "The kernel holds exactly this policy." : "The kernel does not hold this policy:", held.agrees ? "good" : "bad"),
      held.differences?.length > 0 && h("ul", {}, held.differences.map((difference) => h("li", {}, difference))),
      h("p", { class: "quiet" }, "With this driver the kernel filters by chains and sets, which are compared with the policy as a whole; there are no flow tables to walk through."),
    ];
  }
  const passes = held.fate === "passes";
  const steps = held.steps.map((step, index) => ({ ...step, packets: counts?.[index], first: counts?.[index] ?? 0 }));
  current.steps.push(steps);
  const agrees = held.agrees
    ? h("p", { class: "quiet" }, held.not_traced ? `The flows agree with the policy; the switch’s own trace could not be asked: ${held.not_traced}` : "The flows agree with the policy, and so does the switch’s own trace.")
    : notice(held.bypass ? `A flow of others may let it pass: ${held.bypass}` : held.detour ? `The switch goes another way in table ${held.detour.table}: ${held.detour.traced}` : "The flows do not do what the policy says.");
  return [
    h("ol", { class: "steps" }, steps.map((step, index) => drawStep(step, index === steps.length - 1, passes))),
    agrees,
  ];
}

function half(answer, counts) {
  const verdict = answer.accepted ? "accepted" : "dropped";
  const rule = ({ rule, group_name, allows, but }) =>
    h("li", {}, h("code", {}, rule), ` of ${group_name}: ${allows}`, but && h("span", { class: "but" }, ` — ${but.join(", ")}`));
  const side = answer.direction === "egress" ? "sent by" : "received by";
  return h("article", { class: "card half" },
    h("h2", {}, h("span", { class: `tag ${answer.accepted ? "good" : "bad"}` }, `${answer.accepted ? "✓" : "✕"} ${verdict}`),
      ` ${side} ${answer.port}`, h("small", {}, ` ${answer.direction}, ${answer.reason}`)),
    !answer.rules.length && !answer.misses.length && h("p", { class: "why" }, answer.why),
    answer.rules.length > 0 && [h("h3", {}, answer.rules.length === 1 ? "The rule that decides" : "Rules that admit it"), h("ul", { class: "rules" }, answer.rules.map(rule))],
    answer.misses.length > 0 && [h("h3", {}, "Nearest misses"), h("ul", { class: "rules" }, answer.misses.map(rule))],
    way(answer, counts));
}

function draw(told) {
  current = { walk: told.walk, steps: [] };
  const passes = told.answers.every((answer) => answer.accepted);
  const [first] = told.answers;
  say(passes ? "It passes." : "It is dropped.");
  show("walk-body",
    h("div", { class: `verdict ${passes ? "good" : "bad"}` },
      h("strong", {}, passes ? "✓ It passes" : "✕ It is dropped"), h("span", {}, `${first.packet}, ${first.state}`)),
    told.agree === false && notice("ALARM: the datapath does not do what the policy says."),
    told.networks && notice(`The sender is on network ${told.networks[0]}, the receiver on ${told.networks[1]}: only a router joins them.`, "warn"),
    told.not_asked && notice(`The datapath was not asked: ${told.not_asked}`, "warn"),
    !told.not_asked && told.answers.every((answer) => !answer.switch) && notice("This driver has no datapath: the answer is the policy’s alone.", "warn"),
    h("div", { class: "halves" }, told.answers.map((answer, index) => half(answer, told.counts?.[index]))),
    h("p", { class: "quiet" }, "The same in a terminal: ", h("code", {}, told.command)));
}

async function walk() {
  const button = form.querySelector("button");
  button.disabled = true;
  current = null;
  show("walk-body", h("p", { class: "quiet" }, "Asking the policy, the flows and the switch …"));
  try {
    draw(await get("data/walk", fields(form)));
  } catch (error) {
    show("walk-body", notice(error.message));
  }
  button.disabled = false;
}

/** Counters go on for as long as the walk is in sight. */
export async function tick() {
  const walked = current;
  if (!walked?.steps.length) return;
  try {
    const { counts } = await get(`data/walk/${walked.walk}`);
    const drawn = counts.filter((half) => half.length);
    walked.steps.forEach((steps, half) => steps.forEach((step, index) => {
      step.packets = drawn[half]?.[index];
      refresh(step);
    }));
  } catch {
    current = null;
  }
}

const suggest = debounce(async (search) => {
  const { ports } = await get("data/ports", { search }).catch(() => ({ ports: [] }));
  show("walk-ports", ports.map(({ id, addresses, groups, is_local }) =>
    h("option", { value: id }, [addresses.join(", "), groups.join(", "), is_local ? "" : "elsewhere"].filter(Boolean).join(" · "))));
});

for (const field of ["from", "to"]) form.elements[field].addEventListener("input", (event) => suggest(event.target.value));
form.elements.proto.addEventListener("input", () => {
  const isPortless = /^(icmp|icmpv6|ipv6-icmp|arp|1|58|0x.*)$/i.test(form.elements.proto.value.trim());
  form.elements.dport.disabled = isPortless;
  form.elements.sport.disabled = isPortless;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const query = new URLSearchParams(Object.entries(fields(form)).filter(([, value]) => value));
  // The walk can be named by the address, and gone back to.
  if (location.hash === `#walk?${query}`) walk();
  else location.hash = `walk?${query}`;
});

export function open(query) {
  suggest("");
  if (!query.size) return;
  for (const field of ["from", "to", "proto", "dport", "sport", "state"]) {
    form.elements[field].value = query.get(field) ?? (field === "state" ? "new" : "");
  }
  form.elements.proto.dispatchEvent(new Event("input"));
  walk();
}
