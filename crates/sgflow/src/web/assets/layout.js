// Where nodes stand and arrows bend: layers from senders to receivers, neighbours beside each other (Sugiyama, Tagawa and Toda, 1981).

// How much room an arrow from a group to itself takes, with its words.
const LOOP = 38;

/** A layer for each node: behind all that send to it, but for those that it sends to itself by a detour. */
function layers(keys, arrows, chosen) {
  const layer = new Map();
  if (chosen) {
    for (const key of keys) {
      layer.set(key, key === chosen ? 1 : arrows.some(({ from, to }) => from === key && to === chosen) ? 0 : 2);
    }
    return layer;
  }
  const under = new Set();
  const senders = (key) => arrows.filter(({ from, to }) => to === key && from !== key).map(({ from }) => from);
  const visit = (key) => {
    if (layer.has(key)) return layer.get(key);
    under.add(key);
    const before = senders(key).filter((from) => !under.has(from)).map(visit);
    under.delete(key);
    layer.set(key, Math.max(-1, ...before) + 1);
    return layer.get(key);
  };
  keys.forEach(visit);
  return layer;
}

const parts = (row, most) => (row.length <= most ? [row] : [row.slice(0, most), ...parts(row.slice(most), most)]);

/** Rows of places: nodes, and bends of arrows that pass a layer. */
export function rows(keys, arrows, chosen, size) {
  const layer = layers(keys, arrows, chosen);
  const byLayer = [];
  for (const key of keys) (byLayer[layer.get(key)] ??= []).push({ key });
  const table = byLayer.filter(Boolean).flatMap((row) => parts(row, size.perLayer));
  const at = new Map();
  table.forEach((row, index) => row.forEach((place) => at.set(place.key, { place, index })));
  const links = [];
  for (const arrow of arrows) {
    const [from, to] = [at.get(arrow.from), at.get(arrow.to)];
    if (from === to) from.place.hasLoop = true;
    const bends = [];
    for (let index = from.index + 1; index < to.index; index++) {
      const bend = { isBend: true };
      table[index].push(bend);
      bends.push(bend);
    }
    links.push({ arrow, from: from.place, to: to.place, bends, step: Math.sign(to.index - from.index) });
  }
  table.forEach((row, index) => row.forEach((place) => (place.index = index)));
  return { table, links };
}

/** Puts neighbours beside each other: each place near the middle of those it is linked with, without overlap. */
export function settle({ table, links }, size) {
  const width = (place) => (place.isBend ? 18 : size.extent) + size.across + (place.hasLoop && size.isAlongX ? 2 * LOOP : 0);
  const near = new Map();
  const link = (left, right) => {
    near.set(left, [...(near.get(left) ?? []), right]);
    near.set(right, [...(near.get(right) ?? []), left]);
  };
  for (const { from, to, bends } of links) {
    const line = [from, ...bends, to];
    line.slice(1).forEach((place, index) => place !== line[index] && link(line[index], place));
  }
  const pack = (row) => {
    const total = row.reduce((sum, place) => sum + width(place), 0);
    let end = -total / 2;
    for (const place of row) {
      place.across = end + width(place) / 2;
      end += width(place);
    }
  };
  table.forEach(pack);
  const wish = (place) => {
    const others = (near.get(place) ?? []).filter((other) => other.index !== place.index);
    return others.length ? others.reduce((sum, other) => sum + other.across, 0) / others.length : place.across;
  };
  for (let sweep = 0; sweep < 12; sweep++) {
    const order = sweep % 2 ? [...table].reverse() : table;
    for (const row of order) {
      const wishes = new Map(row.map((place) => [place, wish(place)]));
      row.sort((left, right) => wishes.get(left) - wishes.get(right));
      if (!size.isAlongX) {
        pack(row);
        continue;
      }
      // As wished, pushed apart, and the whole row back to the middle of its wishes.
      let end = -Infinity;
      for (const place of row) {
        place.across = Math.max(wishes.get(place), end + width(place) / 2);
        end = place.across + width(place) / 2;
      }
      const off = row.reduce((sum, place) => sum + place.across - wishes.get(place), 0) / row.length;
      row.forEach((place) => (place.across -= off));
    }
  }
  // What is linked by nothing has drifted apart: empty bands go.
  let [end, empty] = [-Infinity, 0];
  for (const place of table.flat().sort((left, right) => left.across - right.across)) {
    const begin = place.across - width(place) / 2 - empty;
    if (end !== -Infinity) empty += Math.max(0, begin - end);
    place.across -= empty;
    end = Math.max(end, place.across + width(place) / 2);
  }
}

/** Ends of arrows at one side of a node stand apart, in the order of where they come from. */
export function spread(links, size) {
  const sides = new Map();
  for (const link of links) {
    link.fromShift = link.toShift = 0;
    if (link.from === link.to) continue;
    for (const [place, side, end] of [[link.from, link.step || 1, "fromShift"], [link.to, -link.step || 1, "toShift"]]) {
      const at = sides.get(place) ?? sides.set(place, { "-1": [], 1: [] }).get(place);
      const line = [link.from, ...link.bends, link.to];
      const next = end === "fromShift" ? line[1] : line.at(-2);
      at[side].push({ link, end, toward: next.across });
    }
  }
  for (const at of sides.values()) {
    for (const ends of Object.values(at)) {
      ends.sort((left, right) => left.toward - right.toward || right.link.step - left.link.step);
      const apart = Math.min(12, (size.extent - 14) / Math.max(1, ends.length - 1));
      ends.forEach(({ link, end }, index) => (link[end] = (index - (ends.length - 1) / 2) * apart));
    }
  }
}
