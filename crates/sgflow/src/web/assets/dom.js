// Elements, and what the agent answers.

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** An element of HTML. Text is never markup. */
export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

export const $ = (id) => document.getElementById(id);

export const show = (id, ...children) => $(id).replaceChildren(...children.flat(Infinity).filter(Boolean));

export const number = (value) => value.toLocaleString("en");

export const many = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;

/** A time as a person reads it. */
export const when = (time) => time.replace("T", " ").replace("Z", " UTC");

/** Tells those who listen to the page what has come of what they did. */
export const say = (text) => ($("said").textContent = text);

/** What is wrong, in the agent's words. */
export const notice = (text, kind = "bad") => h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : null }, text);

/** Asks the agent; `query` without what is empty. Throws its words. */
export async function get(path, query = {}) {
  const filled = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const parameters = new URLSearchParams(filled).toString();
  let response;
  try {
    response = await fetch(parameters ? `${path}?${parameters}` : path);
  } catch {
    throw new Error("the agent does not answer");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the agent answers ${response.status}`);
  return answer;
}

/** What a form says. */
export const fields = (form) => Object.fromEntries([...new FormData(form)].map(([key, value]) => [key, value.trim()]));

/** Runs the last of what is asked in quick succession. */
export function debounce(work, wait_ms = 200) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), wait_ms);
  };
}

/** Whether there is room for columns beside each other. */
export const isNarrow = () => window.innerWidth < 700;
