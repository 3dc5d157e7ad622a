// Views, the overview, and what goes on by itself.

import { $, get, h, many, notice, number, show, when } from "./dom.js";
import * as graph from "./graph.js";
import * as matrix from "./matrix.js";
import * as walk from "./walk.js";
import * as drops from "./drops.js";

const TICK_MS = 2000;
const VIEWS = { overview: { open() {}, tick() {} }, graph, matrix, walk, drops };
const CONDITIONS = {
  converged: ["good", "The datapath is as the policy says."],
  converging: ["warn", "A change is under way."],
  degraded: ["bad", "The datapath is as the policy says but for what is named here."],
  disconnected: ["bad", "What it takes to enforce a change is not there; what was in force stays."],
};
const EFFECTS = { closed: "bad", open: "bad", kept: "warn", "left-out": "warn", unseen: "warn" };

/** The view and what follows it: `#walk?from=p-1`. */
function place() {
  const [name, query] = location.hash.slice(1).split("?");
  return [Object.hasOwn(VIEWS, name) ? name : "overview", new URLSearchParams(query ?? "")];
}

let seen = null;

function turn() {
  const [current, query] = place();
  for (const name of Object.keys(VIEWS)) $(name).hidden = name !== current;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  document.title = `${document.querySelector(`#${current} h1`).textContent} · sgflow`;
  if (seen !== null && seen !== current) {
    scrollTo(0, 0);
    $("main").focus({ preventScroll: true });
  }
  seen = current;
  VIEWS[current].open(query);
}

const fact = (label, value, more) =>
  h("div", { class: "fact" }, h("dt", {}, label), h("dd", {}, value, more && h("small", {}, more)));

let told = "";

function overview(answer) {
  // What is the same stays: somebody may be reading or copying it.
  const text = JSON.stringify({ ...answer, status: { ...answer.status, source: { ...answer.status.source, heard: null } } });
  if (text === told) return;
  told = text;
  const { host, bridge, policy, status } = answer;
  const [kind, words] = CONDITIONS[status.condition] ?? ["warn", ""];
  const { enforced, source, drift } = status;
  const badge = $("condition");
  badge.className = `badge ${kind}`;
  badge.textContent = status.condition;
  $("host").textContent = host;
  const sum = h("p", { class: `notice ${kind === "bad" ? "bad" : kind}` },
    h("strong", {}, `${status.condition}:`), ` ${words}`, status.waiting && ` Waiting for ${status.waiting}.`);
  const facts = h("dl", { class: "facts" },
    fact("Driver", status.firewall_driver, `${bridge ? `on ${bridge}, ` : ""}sgflow ${status.version}`),
    fact("Ports of this host", number(enforced.ports), many(enforced.sets, "set of groups", "sets of groups")),
    fact("Groups of the policy", policy ? number(policy.groups) : "–", policy && many(policy.address_groups, "address group")),
    fact("Ports of the policy", policy ? number(policy.ports) : "–", "on whatever host"),
    fact(bridge ? "Flows" : "Rules", number(enforced.flows), `${many(enforced.flow_mods, "change")} sent`),
    fact("Drift", number(drift.mended), drift.last ? `put right, last ${when(drift.last)}` : "nobody else changed anything"),
    fact("Refused", number(status.refused), "objects of source or driver"),
    fact("Source", source.kind, source.lag_s ? `behind for ${source.lag_s} s` : source.changed && `changed ${when(source.changed)}`));
  const row = ({ object, reason, effect }) => h("tr", {},
    h("td", {}, h("span", { class: `tag ${EFFECTS[effect] ?? "warn"}` }, effect)), h("th", { scope: "row" }, object), h("td", {}, reason));
  const faults = status.faults.length
    ? h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ["Effect", "Object", "Reason"].map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, status.faults.map(row))))
    : h("p", { class: "quiet" }, "None: every object is as the policy wants.");
  show("overview-body", sum, facts, h("h2", {}, "Faults"), faults);
}

async function tick() {
  try {
    overview(await get("data/status"));
  } catch (error) {
    told = "";
    $("condition").className = "badge bad";
    $("condition").textContent = "no answer";
    show("overview-body", notice(error.message));
  }
  const [current] = place();
  await Promise.all([drops.collect(), VIEWS[current].tick()]);
}

/** One after the other; a window that nobody sees asks for nothing. */
async function go() {
  for (;;) {
    if (!document.hidden) await tick();
    await new Promise((done) => setTimeout(done, TICK_MS));
  }
}

window.addEventListener("hashchange", turn);
turn();
go();
