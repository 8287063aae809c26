"use strict";
const BOUNDS = [0.3, 1, 3, 10, 30, 100, 300, 1000]; // ms
// Mark, class, weight, meaning.
const VERDICTS = {
  up: ["", "fine", 0, "no fault"],
  down: ["×", "down", 100, "no success in several consecutive slots"],
  lossy: ["~", "warn", 10, "up, but several of the last 20 probes needed retransmits"],
  "one-way": ["→", "warn", 10, "up, but requests from it no longer arrive"],
  mtu: ["≤", "warn", 10, "up, but large packets are lost, or the path MTU has shrunk"],
  unknown: ["?", "dim", 1, "too few probes yet"],
  draining: ["…", "dim", 1, "it announced that it stops or is replaced"],
};
const CAUSES = {
  connect_timeout: "no answer to any SYN: a broken path, a dead node or a firewall that drops packets",
  refused: "the host is alive, but nothing listens on the port: the agent is down or restarting",
  unreachable: "a router, or the source's own routing table, has no route",
  reset: "the connection was reset by the peer or by a device on the path",
  closed: "the connection was closed before the answer was complete",
  response_timeout: "connected, but no complete answer in time: a stuck agent, or loss after the handshake",
  bad_response: "not an answer of Wylis: another program listens on the port",
  wrong_peer: "another node answered: the address was reused, or the list of peers is outdated",
  too_large: "the row or the whole matrix exceeds its size limit",
  busy: "not fetched before the deadline",
  unsupported: "the agent is of another release, or another program answers",
  no_peer: "only in the rows of other nodes, not in this agent's list of peers",
};
const INCOMING = {
  requests: "its requests arrive: the way back works",
  syns: "its SYNs arrive, but no connection follows: the path to it is broken, the reverse path works",
  nothing: "nothing of it arrives",
};
const lookup = (table, key) => (Object.hasOwn(table, key) ? table[key] : undefined);
const verdict = (cell) => lookup(VERDICTS, cell.verdict) || ["?", "dim", 1, ""];
const isNumber = (value) => typeof value === "number" && isFinite(value);
const median = (values) => values.slice().sort((a, b) => a - b)[values.length >> 1];
const depth = (seconds) => BOUNDS.filter((bound) => seconds * 1000 >= bound).length;

function number(seconds) {
  const ms = seconds * 1000;
  return ms >= 999.5 ? `${seconds.toFixed(1)}s` : ms.toFixed(ms < 9.95 ? 1 : 0);
}
const latency = (seconds) => (!isNumber(seconds) ? "–"
  : seconds < 0.9995 ? `${number(seconds)} ms` : `${+seconds.toFixed(seconds < 10 ? 2 : 0)} s`);
function ago(seconds) {
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([size]) => seconds >= 2 * size) || [1, "s"];
  return `${Math.max(0, Math.round(seconds / size))} ${unit}`;
}
const grouped = (count) => count.toLocaleString("en");
const many = (count, thing) => `${grouped(count)} ${thing}${count === 1 ? "" : "s"}`;
const list = (items, most) => (items.length <= most ? items.join(", ")
  : `${items.slice(0, most - 1).join(", ")} and ${items.length - most + 1} more`);

// Names without the prefix and the domain that all of them share.
function shorten(names) {
  const [first = ""] = names;
  if (names.length < 2 || names.every((name) => name.length <= 12)) return names;
  let start = 0, end = 0;
  while (names.every((name) => name[start] && name[start] === first[start])) start++;
  start = first.slice(0, start).search(/[^-.]*$/);
  while (end < first.length - start && names.every((name) => name.at(-1 - end) === first.at(-1 - end))) end++;
  const dot = first.slice(first.length - end).indexOf(".");
  end = dot < 0 ? 0 : end - dot;
  const short = names.map((name) => name.slice(start, name.length - end));
  return short.every(Boolean) ? short : names;
}

// Wraps a matrix document; throws when this page cannot read it.
function matrix(doc) {
  if (doc?.version !== 1 || !Array.isArray(doc.nodes) || !Array.isArray(doc.rows)) throw Error("unknown matrix version: reload the page");
  const names = doc.nodes.map(String);
  const rows = names.map((_, i) => doc.rows[i] || { error: "none" });
  const at = (i, j) => (i !== j && !rows[i].error && rows[i].cells?.[j]) || null;
  return { doc, names, rows, at, short: shorten(names) };
}

// One cell: its class, its mark, its number, and all of it in words.
function describe(m, i, j) {
  const pair = `${m.names[i]} → ${m.names[j]}: `, cell = m.at(i, j), { error } = m.rows[i];
  if (i === j) return ["self", "", "", `${m.names[i]} itself`];
  if (!cell) return ["gap", "", "", pair + (error ? `no row, ${error}` : "not among its peers")];
  const [mark, kind] = verdict(cell), timed = isNumber(cell.latency_seconds);
  const words = [cell.verdict];
  if (cell.reason) words.push(cell.reason);
  if (cell.incoming === "syns") words.push("incoming SYNs only");
  if (timed) words.push(latency(cell.latency_seconds));
  if (cell.failures) words.push(`${cell.failures} of the last ${cell.probes ?? 20} failed`);
  if (cell.retransmits) words.push(`${cell.retransmits} with retransmits`);
  return [
    kind === "fine" ? `up d${timed ? depth(cell.latency_seconds) : 0}` : kind + (cell.incoming === "syns" ? " half" : ""),
    mark, timed && kind !== "down" ? number(cell.latency_seconds) : "", pair + words.join(", "),
  ];
}

// Counts for the summary, the order and the legend, in one pass over all cells.
function count(m) {
  const n = m.names.length, zeros = () => Array(n).fill(0);
  const c = {
    pairs: n * (n - 1), missing: 0, faults: 0, depths: Array(9).fill(0), verdicts: { up: 0 }, all: [], slowest: null,
    bad: zeros(), known: zeros(), down: zeros(), half: zeros(), slow: zeros().map(() => []),
  };
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
    if (i === j) continue;
    const cell = m.at(i, j);
    if (!cell) { c.missing++; c.bad[i] += 0.01; continue; }
    const [, , weight] = verdict(cell), name = lookup(VERDICTS, cell.verdict) ? cell.verdict : "unknown";
    c.verdicts[name] = (c.verdicts[name] || 0) + 1;
    c.bad[i] += weight; c.bad[j] += weight;
    if (weight > 1) c.faults++;
    if (weight !== 1) c.known[j]++;
    if (weight === 100) { c.down[j]++; if (cell.incoming === "syns") c.half[j]++; }
    const seconds = cell.latency_seconds;
    if (!isNumber(seconds) || weight === 100) continue;
    for (const times of [c.all, c.slow[i], c.slow[j]]) times.push(seconds);
    if (!weight) c.depths[depth(seconds)]++;
    if (!c.slowest || seconds > c.slowest[2]) c.slowest = [i, j, seconds];
  }
  return c;
}

// The summary: how bad it is, and its clauses. First whole nodes, then pairs, then what is unknown.
function summarize(m, c) {
  const { short } = m, n = short.length, all = short.map((_, x) => x), clauses = [], whole = new Set();
  const arrow = (i, j) => `${short[i]} → ${short[j]}`;
  const down = (cell) => cell?.verdict === "down";
  const dead = all.filter((x) => c.down[x] >= 2 && c.down[x] * 2 > c.known[x]);
  dead.forEach((x) => whole.add(x));
  if (dead.length > 2) clauses.push(`${dead.length} nodes are down for most others: ${list(dead.map((x) => short[x]), 6)}`);
  else for (const x of dead) {
    const back = c.half[x] * 2 > c.down[x] ? ", which still receive its SYNs" : "";
    clauses.push(`${short[x]} is down for ${c.down[x]} of ${many(c.known[x], "other")}${back}`);
  }
  // Nodes that do not reach what others reach.
  for (const i of all.filter((i) => !whole.has(i))) {
    const cells = all.map((j) => !dead.includes(j) && m.at(i, j)).filter((cell) => cell && verdict(cell)[2] !== 1);
    const lost = cells.filter(down).length;
    if (lost < 2 || lost * 2 <= cells.length) continue;
    whole.add(i);
    clauses.push(`${short[i]} reaches ${cells.length - lost || "none"} of ${many(cells.length, "other")}`);
  }
  const pairs = [], kinds = { lossy: [], "one-way": [], mtu: [] };
  for (const i of all) for (const j of all) {
    const there = m.at(i, j), back = m.at(j, i);
    if (there) lookup(kinds, there.verdict)?.push([i, j]);
    if (!down(there) || whole.has(i) || whole.has(j)) continue;
    if ((there.incoming === "syns") && !(back?.incoming === "syns")) pairs.push(`${arrow(i, j)} is broken, the reverse path works`);
    else if (!down(back)) pairs.push(`${arrow(i, j)} is down (${there.reason})`);
    else if (i < j && !(there.incoming === "syns") === !(back.incoming === "syns")) pairs.push(`${short[i]} and ${short[j]} do not reach each other`);
  }
  if (pairs.length) clauses.push(list(pairs, 3));
  for (const [kind, found] of Object.entries(kinds)) {
    const touched = all.map((x) => found.filter((pair) => pair.includes(x)).length), most = Math.max(...touched), x = touched.indexOf(most);
    const common = most > 3 && most >= n - 1, left = common ? found.filter((pair) => !pair.includes(x)) : found;
    if (common) clauses.push(`${short[x]} is ${kind} with most others`);
    const both = ([i, j]) => m.at(j, i)?.verdict === kind;
    const ways = left.filter((pair) => !both(pair) || pair[0] < pair[1]).map((pair) => (both(pair) ? `${short[pair[0]]} ↔ ${short[pair[1]]}` : arrow(...pair)));
    if (ways.length) clauses.push(`${list(ways, 3)} ${kind}`);
  }
  const silent = all.filter((x) => m.rows[x].error && !whole.has(x));
  if (silent.length) clauses.push(`no row from ${list(silent.map((x) => `${short[x]} (${m.rows[x].error})`), 4)}`);
  if (clauses.length) return [whole.size || pairs.length ? "down" : "warn", clauses];
  if (n < 2) return ["dim", [n ? `${short[0]} has no peers` : "no nodes known"]];
  const rest = c.pairs - c.verdicts.up;
  return rest ? ["dim", [`${grouped(c.verdicts.up)} of ${many(c.pairs, "pair")} up, ${grouped(rest)} unknown`]] : ["", [`All ${many(c.pairs, "pair")} up`]];
}
