"use strict";
// Findings and names: the most that are read, and those that are shown at first.
const MOST = 500, FEW = 6;
// In ms.
const BOUNDS = [0.3, 1, 3, 10, 30, 100, 300, 1000];
// Mark, class, rank in the order "worst first", meaning.
const VERDICTS = {
  up: ["", "fine", 0, "no fault"],
  down: ["×", "down", 100, "no success in several consecutive slots"],
  flaky: ["!", "warn", 20, "probes fail and succeed in turns"],
  lossy: ["~", "warn", 10, "up, but several of the last 20 probes, or of its requests, needed retransmits"],
  "one-way": ["→", "warn", 10, "up, but requests from it no longer arrive"],
  mtu: ["≤", "warn", 10, "up, but large packets are lost, or the path MTU has shrunk"],
  unknown: ["?", "dim", 1, "too few probes yet"],
  draining: ["…", "dim", 1, "it announced that it stops or is replaced"],
  surveyed: ["◌", "dim", 1, "both ends rest for a survey; what is shown is from before"],
};
const DIRECTIONS = { outgoing: "large packets to it are lost", incoming: "large packets from it are lost", both: "large packets are lost both ways" };
const INCOMING = { requests: "its requests arrive", syns: "its SYNs arrive and lead to nothing", nothing: "nothing arrives from it" };
const HOSTS = { answers: "its host answers", silent: "its host is silent" };
const SLOW = "slower than its timeout allows", INTERCEPTED = "something answers handshakes in its place";
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
  surveyed: "not asked while the pair rests for a survey",
  not_remembered: "its agent remembers nothing of that time",
  no_peer: "only in the rows of other nodes, not in this agent's list of peers",
};
const lookup = (table, key) => (Object.hasOwn(table, key) ? table[key] : undefined);
const verdict = (cell) => lookup(VERDICTS, cell.surveyed === true ? "surveyed" : cell.verdict) || ["?", "dim", 1, ""];
// What comes in from the target while it is down or one-way.
const incoming = (cell) => (["down", "one-way"].includes(cell.verdict) ? lookup(INCOMING, cell.incoming) || "not known whether its requests arrive" : "");
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

const packet = (bytes, exact) => `${exact ? "up to" : "at least"} ${grouped(bytes)} bytes`;
const dead = (count, all) => `${count} of ${all} flows never get${count === 1 ? "s" : ""} through`;
// What an experiment adds to the verdict of a cell.
function detail({ mtu_bytes, mtu_at_least, dead_flows, flows, host }) {
  if (isNumber(mtu_bytes)) return `${packet(mtu_bytes, mtu_at_least !== true)} pass`;
  return isNumber(dead_flows) && isNumber(flows) ? dead(dead_flows, flows) : lookup(HOSTS, host);
}

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
  // The agent's, word for word; the page judges nothing.
  const findings = (Array.isArray(doc.findings) ? doc.findings : []).filter((one) => typeof one?.text === "string").slice(0, MOST)
    .map(({ grave, text, pairs }) => ({ grave: grave === true, text: text.slice(0, 2000), pairs: Array.isArray(pairs) ? pairs.filter(Array.isArray).slice(0, 64) : [] }));
  return { doc, names, rows, at, findings, short: shorten(names) };
}

// One cell: its class, its mark, its number, and all of it in words.
function describe(m, i, j) {
  const pair = `${m.names[i]} → ${m.names[j]}: `, cell = m.at(i, j), { error } = m.rows[i];
  if (i === j) return ["self", "", "", `${m.names[i]} itself`];
  if (!cell) return ["gap", "", "", pair + (error ? `no row, ${error}` : "not among its peers")];
  const [mark, kind] = verdict(cell), timed = isNumber(cell.latency_seconds), past = m.rows[i].seconds;
  const words = [
    ...(cell.surveyed === true ? ["surveyed", `was ${cell.verdict}`] : [cell.verdict]), cell.reason, lookup(DIRECTIONS, cell.direction), incoming(cell), detail(cell),
    cell.slow === true && SLOW, cell.intercepted === true && INTERCEPTED, timed && latency(cell.latency_seconds),
    cell.failures && `${cell.failures} of ${past ? "" : "the last "}${cell.probes ?? 20} failed`,
    cell.incoming_retransmits && `${cell.incoming_retransmits} of its requests with retransmits`, cell.retransmits && `${cell.retransmits} with retransmits`,
    past > m.doc.seconds && `within ${ago(past)}`, m.rows[i].through && `row passed on by ${m.rows[i].through}`,
  ].filter(Boolean);
  return [
    kind === "fine" ? `up d${timed ? depth(cell.latency_seconds) : 0}` : kind + (kind === "down" && ["requests", "syns"].includes(cell.incoming) ? " half" : ""),
    mark, timed && kind !== "down" ? number(cell.latency_seconds) : "", pair + words.join(", "),
  ];
}

// Counts for the figures, the order and the legend, in one pass over all cells.
function count(m) {
  const n = m.names.length, zeros = () => Array(n).fill(0);
  const c = { missing: 0, pairs: 0, depths: Array(9).fill(0), verdicts: { up: 0 }, all: [], slowest: null, bad: zeros(), slow: zeros().map(() => []) };
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
    if (i === j) continue;
    const cell = m.at(i, j);
    if (!cell) { c.missing++; c.bad[i] += 0.01; continue; }
    const [, kind, rank] = verdict(cell), name = cell.surveyed === true ? "surveyed" : lookup(VERDICTS, cell.verdict) ? cell.verdict : "unknown";
    c.pairs++;
    c.verdicts[name] = (c.verdicts[name] || 0) + 1;
    c.bad[i] += rank; c.bad[j] += rank;
    const seconds = cell.latency_seconds;
    if (!isNumber(seconds) || kind === "down") continue;
    for (const times of [c.all, c.slow[i], c.slow[j]]) times.push(seconds);
    if (!rank) c.depths[depth(seconds)]++;
    if (!c.slowest || seconds > c.slowest[2]) c.slowest = [i, j, seconds];
  }
  return c;
}
