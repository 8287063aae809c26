const dialog = $("pair");
// The two open directions, each as source and target.
let shown = null;

function svg(tag, parent, given, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  attributes(made, given);
  made.textContent = text;
  parent?.append(made);
  return made;
}

// The recent probes: one bar each, on a logarithmic scale; failures are crosses.
function plot(recent, whole) {
  const times = recent.map((probe) => probe.total_seconds).filter(isNumber), least = Math.min(...times), most = Math.max(...times);
  const words = `${many(recent.length, "probe")}: `
    + (times.length ? `${latency(least)} to ${latency(most)}, median ${latency(median(times))}, ` : "") + `${recent.length - times.length} failed`;
  const image = svg("svg", whole, { viewBox: "0 0 300 80", role: "img", "aria-label": words });
  const y = (seconds) => 80 - 66 * Math.log(2 * seconds / least) / Math.log(2 * Math.max(most / least, 10));
  svg("path", image, { d: `M0 79.5h300${times.length ? `M0 ${y(median(times))}h300` : ""}` });
  recent.forEach((probe, k) => {
    const fine = isNumber(probe.total_seconds), x = 15 * (20 - recent.length + k), at = fine ? y(probe.total_seconds) : 14;
    const kind = !fine ? "lost" : probe.retransmits ? "retransmit" : "", group = svg("g", image, { class: kind });
    svg("title", group, {}, (fine ? latency(probe.total_seconds) : probe.reason) + (probe.retransmits ? `, ${many(probe.retransmits, "retransmit")}` : ""));
    svg("rect", group, { x: x + 2, y: at, width: 11, height: 80 - at, rx: 1.5 });
    if (kind) svg("text", group, { x: x + 7.5, y: fine ? at - 3 : 28 }, fine ? "~" : "×");
  });
  element("p", "", whole, words);
}

// An age that counts up while it is shown.
function age(at, taken) {
  if (!isNumber(at)) return "never";
  const time = element("time", "", null, `${ago(taken - at)} ago`);
  time.age = taken - at;
  time.arrived = performance.now();
  time.title = new Date(at * 1000).toLocaleString();
  return time;
}

function facts(peer, taken, whole) {
  const table = element("dl", "", whole), last = peer.last_failure, large = peer.large, reasons = Object.entries(peer.failures_by_reason || {});
  const fact = (name, ...values) => { element("dt", "", table, name); element("dd", "", table).append(...values); };
  fact("Kernel RTT", latency(peer.rtt_seconds), ...(isNumber(peer.rtt_age_seconds) ? [", ", age(taken - peer.rtt_age_seconds, taken)] : []));
  if (peer.intercepted === true) fact("Intercepted", INTERCEPTED);
  fact("Path MTU", isNumber(peer.path_mtu_bytes) ? `${peer.path_mtu_bytes} bytes` : "–");
  fact("Retransmits", isNumber(peer.retransmits_per_probe) ? `${+peer.retransmits_per_probe.toFixed(2)} per probe, ` : "", `${grouped(peer.retransmits ?? 0)} in total`);
  fact("Probes", `${grouped(peer.successes ?? 0)} succeeded, ${grouped(peer.failures ?? 0)} failed`, peer.consecutive_failures ? ` (${peer.consecutive_failures} consecutive)` : "");
  if (reasons.length) fact("Failures", reasons.map(([reason, count]) => `${reason} ${grouped(count)}`).join(", "));
  if (last) fact("Last failure", `${last.reason} in ${last.phase}, `, age(last.at, taken));
  fact("Last success", age(peer.last_success, taken));
  for (const [name, one] of large?.outgoing ? [["Large there", large.outgoing], ["Large back", large.incoming]] : [["Large probes", large]]) {
    const seen = one?.last;
    if (seen) fact(name, `${one.successes} succeeded, ${one.failures} failed, last ${seen.reason || latency(seen.total_seconds)} `, age(seen.at, taken));
    else fact(name, "none yet");
  }
  fact("Incoming requests", isNumber(peer.announced_interval_seconds) ? `every ${latency(peer.announced_interval_seconds)}, last ` : "last ", age(peer.last_incoming, taken), peer.incoming_retransmits ? `, ${peer.incoming_retransmits} of the last 20 with retransmits` : "");
  if (incoming(peer)) fact("Reverse path", incoming(peer));
  const largest = [["to it", peer.mtu?.outgoing], ["from it", peer.mtu?.incoming]].filter(([, one]) => isNumber(one?.bytes));
  if (largest.length) fact("Largest packet", ...largest.flatMap(([way, one], k) => [`${k ? ", " : ""}${packet(one.bytes, one.exact === true)} ${way}, `, age(one.at, taken)]));
  const { host, flows } = peer;
  if (lookup(HOSTS, host?.state)) fact("Host", `${host.state}${host.address ? ` at ${host.address}` : ""}, `, age(host.at, taken));
  if (isNumber(flows?.dead) && isNumber(flows.tried)) fact("Flows", `${dead(flows.dead, flows.tried)}, `, age(flows.at, taken));
  if (isNumber(peer.longest_gap_seconds)) fact("Longest gap", `${latency(peer.longest_gap_seconds)} without a packet, in about an hour`);
  for (const [name, one] of [["Survey there", peer.survey?.outgoing], ["Survey back", peer.survey?.incoming]]) {
    if (typeof one?.text === "string") fact(name, `${one.text}${one.result === "warm" ? ", maybe by other traffic" : ""}, `, age(peer.survey.at, taken));
  }
  fact("Pod", `${peer.address}${peer.ready === true ? ", ready" : peer.ready === false ? ", not ready" : ""}`);
}

// Renders one direction; without a document while it loads.
function direction(section, [source, target], doc, problem) {
  const [top, , , rest] = section.children, whole = document.createDocumentFragment(), { m } = now, { peer } = doc || {};
  element("h3", "", whole, `${source} → ${target}`);
  const cell = peer || m.at(m.names.indexOf(source), m.names.indexOf(target)) || { verdict: "no row", reason: doc?.error };
  const [mark, kind, , meaning] = verdict(cell), line = element("p", "", whole), chip = element("i", "", line, `${mark} ${cell.surveyed === true ? `surveyed, was ${cell.verdict}` : cell.verdict}`);
  line.className = "verdict";
  chip.className = kind;
  if (cell.reason) line.append(cell.reason);
  const failed = peer ? peer.recent?.filter((probe) => probe.reason).length : cell.failures;
  if (cell.verdict === "flaky" && failed) line.append(`, ${failed} of ${peer ? peer.recent.length : cell.probes ?? 20}`);
  // The matrix has it as text for the verdict alone.
  const seen = m.at(m.names.indexOf(source), m.names.indexOf(target)), added = seen?.verdict === cell.verdict && seen.direction == cell.direction && detail(seen);
  if (added) line.append(`${cell.reason ? ", " : ""}${added}`);
  element("p", "", whole, lookup(DIRECTIONS, cell.direction) || (cell.slow === true && SLOW) || lookup(CAUSES, cell.reason) || meaning);
  if (peer) plot(peer.recent?.slice(-20) || [], whole);
  top.replaceChildren(whole);
  if (peer) facts(peer, doc.at, whole);
  const foot = element("p", "", whole, peer ? `seen by ${source} ` : doc ? `no answer from ${source}: ${doc.error}` : problem || `loading from ${source} …`);
  foot.className = "foot";
  if (peer) foot.append(age(doc.at - doc.age, doc.at));
  rest.replaceChildren(whole);
}

function open(place) {
  const [source, target] = nameAt(place);
  if (source === target) return;
  shown = [[source, target], [target, source]];
  $("pairname").textContent = `${source} and ${target}`;
  shown.forEach((pair, k) => {
    direction($(`way${k}`), pair);
    ways[k].bars.hidden = true;
    ways[k].words.textContent = "";
  });
  dialog.showModal();
  reload();
}
$("close").addEventListener("click", () => dialog.close());
// A click outside closes it too.
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  shown = null;
  if (placeOf(focus)) setTabStop(placeOf(focus), true);
});

const route = (pair) => pair.map(encodeURIComponent).join("/");

async function readPair() {
  const pairs = shown;
  for (const [k, pair] of pairs.entries()) {
    let doc = null, problem = past === null ? "" : $("moment").textContent;
    try { doc = problem ? null : await read(`api/v1/cluster/${route(pair)}`); } catch (error) { problem = `no answer: ${error.message}`; }
    if (shown !== pairs) return;
    direction($(`way${k}`), pair, doc, problem);
  }
  // Once for each bin of now.
  const bin = edge(live.m.doc.at);
  for (const k of pairs.bin === bin ? [] : [0, 1]) await readPast(pairs, k);
  pairs.bin = bin;
}
