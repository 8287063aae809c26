// A strip has a bin for each 5 minutes of the last day, and at its right end the present.
// STEP in s, and PAUSE between two matrices of the past in ms.
const BINS = 288, STEP = 300, PAUSE = 250;
// The columns of the day, the worst first.
const KINDS = ["down", "one-way", "flaky", "lossy", "mtu"];
const REPEATED = "the clock was set back, the later one is shown";
// The last matrix of the present, while `now` may be one of the past.
let live = null;
// The bin that is shown or wanted, by its begin in Unix seconds, and why it is not shown.
let past = null, problem = "";
// Whether a matrix of the past is on its way; whether all lines of the day are shown.
let seeking = false, whole = false;
// The last day, and when to read it again.
let day = null, due = 0;

const clock = (at) => new Date(at * 1000).toTimeString().slice(0, 5);
// A time, or a time and its end, in the browser's zone, with the weekday unless it is today, and in UTC.
function when(from, to) {
  const date = new Date(from * 1000), name = date.toDateString(), of = (format) => [from, to].filter(isNumber).map(format).join(" to ");
  const utc = date.getTimezoneOffset() ? `(${of((at) => new Date(at * 1000).toISOString().slice(11, 16))} UTC)` : "UTC";
  return `${name === new Date().toDateString() ? "" : name.slice(0, 4)}${of(clock)} ${utc}`;
}
// The end of the bin of a time, and the begin of the one at a place of a strip; at the last place is the present, null.
const edge = (at) => (Math.floor(at / STEP) + 1) * STEP;
const begin = (end, k) => (k < BINS ? end - (BINS - k) * STEP : null);
const few = (names) => names.slice(0, FEW).join(", ") + (names.length > FEW ? ` and ${names.length - FEW} more` : "");

// Makes a strip, a slider; `move` gets the moment that it is moved to.
function strip(bars, move) {
  attributes(bars, { class: "strip", tabindex: 0, role: "slider", "aria-valuemax": BINS });
  for (let k = 0; k < BINS; k++) element("i", "", bars);
  const go = (k) => move(begin(bars.end, Math.min(Math.max(k, 0), BINS)));
  const point = ({ clientX }) => {
    const { left, width } = bars.getBoundingClientRect();
    go(Math.floor((clientX - left) / width * BINS));
  };
  bars.addEventListener("pointerdown", (event) => { if (!event.button) { bars.setPointerCapture(event.pointerId); point(event); } });
  bars.addEventListener("pointermove", (event) => { if (bars.hasPointerCapture(event.pointerId)) point(event); });
  bars.addEventListener("keydown", (event) => {
    const { key, shiftKey, altKey, ctrlKey, metaKey } = event, k = bars.place, by = shiftKey ? 12 : 1;
    const to = { ArrowLeft: k - by, ArrowDown: k - by, ArrowRight: k + by, ArrowUp: k + by, Home: 0, End: BINS }[key];
    if (to === undefined || altKey || ctrlKey || metaKey) return;
    event.preventDefault();
    go(to);
  });
}

// Draws the bins of a strip: the class, the mark, the ends of its parts in percent, the words. A mark stands where its kind begins, if there is room; that of down takes it.
function paint(bars, end, of) {
  let last = null, at = -9, shown = "";
  bars.end = end;
  [...bars.children].forEach((bar, k) => {
    const from = begin(end, k), [kind, mark, ends, text] = of(k) || ["gap", "", [], "not remembered"];
    bar.className = kind;
    bar.title = `${when(from, from + STEP)}: ${text}`;
    bar.textContent = "";
    [0, 1, 2].forEach((n) => bar.style.setProperty(`--end${n}`, `${ends[n] || 0}%`));
    if (!mark) shown = "";
    else if (mark !== shown && (k > at + 4 || (mark === "×" && last.textContent !== mark))) {
      if (k <= at + 4) last.textContent = "";
      bar.textContent = shown = mark;
      [last, at] = [bar, k];
    }
    bar.dataset.hour = /(00|06|12|18):00/.test(clock(from)) ? clock(from) : "";
  });
}

// Puts the mark of a strip at a moment; returns its words.
function aim(bars, at) {
  const k = at === null ? BINS : Math.min(Math.max(BINS - Math.ceil((bars.end - at) / STEP), 0), BINS), text = bars.children[k]?.title || "now";
  bars.place = k;
  bars.style.setProperty("--place", k / BINS);
  attributes(bars, { "aria-valuenow": k, "aria-valuetext": text });
  return text;
}

function show(view) {
  now = view;
  renderHeader();
  render();
  tick();
}

// Moves the matrix to a moment. One request at a time; the last moment wins.
async function seek(at) {
  if (at === past && !problem) return;
  [past, problem] = [at, ""];
  if (past === null) show(live);
  renderMoment();
  if (seeking) return;
  seeking = true;
  let pause = PAUSE;
  while (past !== null && past !== now.past && (!problem || pause > PAUSE)) {
    const wanted = past, present = live.m.doc.at + live.age + (performance.now() - live.arrived) / 1000;
    pause = PAUSE;
    try {
      // Near the end of the bin: in its first one, an agent began later than at its begin.
      const m = matrix(await read(`api/v1/history/${Math.floor(Math.min(wanted + STEP - 10, present - 1))}`));
      if (past === wanted) show({ m, c: count(m), past, age: present - m.doc.at, arrived: performance.now() });
    } catch ({ message }) {
      if (past === wanted) problem = message;
      // Busy: again later.
      if (message.startsWith("HTTP 503")) pause *= 4;
    }
    renderMoment();
    await new Promise((done) => { setTimeout(done, pause); });
  }
  seeking = false;
}

// Says that the page shows the past.
function renderMoment() {
  const { at, seconds } = now.m.doc, here = past === now.past, is = past !== null;
  document.body.classList.toggle("away", is && !here);
  $("when").hidden = !is;
  $("moment").textContent = !is ? "" : here && seconds > 0 ? `As of ${when(at, at + seconds)}` : `${when(past, past + STEP)}: ${problem || "loading …"}`;
  aim($("strip"), past);
}

// Of a matrix of the past: which rows are not remembered, and which times have occurred twice.
function memory({ rows, short }) {
  const of = (is) => few(short.filter((_, i) => is(rows[i]))), lost = of(({ error }) => error === "not_remembered"), again = of(({ repeated }) => repeated === true);
  return [lost && `not remembered by ${lost}`, again && `${REPEATED} (${again})`];
}

async function readDay() {
  due = performance.now() + 30_000;
  try {
    day = await read("api/v1/history/day");
    renderDay();
    // Again when the bin of now has ended at all agents.
    due = performance.now() + (edge(day.at) - day.at + 5) * 1000;
  } catch ({ message }) {
    // An agent of a release without it is asked as seldom.
    if (!message.startsWith("HTTP 404")) return;
    $("strip").hidden = $("day").hidden = true;
    day = null;
    due += STEP * 1000;
  }
}

function renderDay() {
  const { at, since, times, judged_since: judged, left_out: left, missing } = day, end = edge(at), bins = new Map(times.map((time) => [time[0], time]));
  $("strip").hidden = $("day").hidden = !times.length;
  const most = Math.max(2, ...times.map(([, pairs]) => pairs));
  paint($("strip"), end, (k) => {
    const [, pairs, ...counts] = bins.get(begin(end, k)) || [];
    if (!counts.length) return null;
    const faults = KINDS.map((kind, n) => [kind, counts[n]]).filter(([, count]) => count), sum = faults.reduce((sum, [, count]) => sum + count, 0);
    const [mark, kind] = VERDICTS[faults[0]?.[0] || "up"], words = faults.map(([kind, count]) => `${grouped(count)} ${kind}`).join(", ");
    return [kind, mark, [sum ? 14 + 66 * Math.log(sum) / Math.log(most) : 4], `${words || "no fault"} of ${many(pairs, "pair")}${counts[5] ? `; ${REPEATED}` : ""}`];
  });
  // The newest first; of those with one begin the grave ones.
  const all = day.findings.filter(({ text }) => typeof text === "string").sort((a, b) => b.from - a.from || b.grave - a.grave), shown = whole ? all : all.slice(0, 3);
  const line = (text, action) => { const one = element(action ? "button" : "p", "", null, text); one.onclick = action; return one; };
  const lines = shown.map(({ from, to, grave, text, repeated }) => {
    const one = line(`${to > at ? `since ${when(from)}` : when(from, to)}: ${text.slice(0, 2000)}${repeated ? ` (${REPEATED})` : ""}`, () => seek(edge(from) - STEP));
    if (grave === true) one.className = "grave";
    return one;
  });
  if (all.length > shown.length) lines.push(line(`and ${all.length - shown.length} earlier`, () => { whole = true; renderDay(); $("day").children[shown.length].focus(); }));
  const said = [all.length ? "" : "No findings", `remembered since ${when(since)}`, judged && `findings since ${when(judged)} only`, left && `${left} earlier ones left out`, missing.length && `without ${few(missing.map(({ node }) => node))}`];
  $("day").replaceChildren(...lines, line(said.filter(Boolean).join(" · ")));
  renderMoment();
}

strip($("strip"), seek);
$("back").onclick = () => { seek(null); $("strip").focus(); };
document.addEventListener("keydown", ({ key, target }) => { if (key === "Escape" && past !== null && !dialog.open && !target.closest("input, select")) seek(null); });

// The strips of a pair, each direction as its source remembers it, are moved together.
const ways = ["way0", "way1"].map((id) => {
  const [, bars, words] = ["div", "div", "p", "div"].map((tag) => element(tag, "", $(id)));
  strip(bars, (at) => ways.forEach((way) => way.bars.hidden || aimPair(way, at)));
  return { bars, words };
});
function aimPair({ bars, words }, at) {
  const text = aim(bars, at);
  words.textContent = at === null ? bars.lastChild.title : text;
}

async function readPast(pairs, k) {
  const { bars, words } = ways[k], pair = pairs[k], bins = [];
  let failure = "";
  bars.hidden = true;
  try {
    const { times, cells, at, error } = await read(`api/v1/history/${route(pair)}`);
    if (shown !== pairs) return;
    if (error) throw Error(error);
    const end = edge(at), seen = cells.flatMap((cell) => (cell || []).slice(4, 6)).filter(isNumber), least = Math.min(...seen), most = Math.max(10 * least, ...seen);
    const height = (seconds) => (isNumber(seconds) ? 66 * Math.log(2 * seconds / least) / Math.log(2 * most / least) : 0);
    times.forEach(([from, seconds, repeated], n) => {
      for (let k = BINS - 1; k >= 0 && begin(end, k) + STEP > from; k--) if (begin(end, k) < from + seconds) bins[k] = cells[n] && [...cells[n].slice(0, 6), repeated];
    });
    paint(bars, end, (k) => {
      if (!bins[k]) return null;
      const [text, probes, failed, resent, middle, worst, repeated] = bins[k], said = String(text), [mark, kind] = lookup(VERDICTS, said.match(/^[a-z-]*/)[0]) || VERDICTS.unknown;
      return [`pair ${failed ? "down" : resent ? "warn" : kind}`, mark, [height(middle), height(worst), kind !== "fine" || failed || resent ? 6 + 24 * (failed || resent) / (probes || 1) : 0],
        `${said.slice(0, 200)}, ${many(probes, "probe")}, ${failed} failed, ${resent} with retransmits, median ${latency(middle)}, worst ${latency(worst)}${repeated ? `; ${REPEATED}` : ""}`];
    });
    attributes(bars, { "aria-label": `The last day of ${pair.join(" → ")}` });
    bars.hidden = false;
    aimPair(ways[k], past);
  } catch ({ message }) { failure = message; }
  if (failure && shown === pairs) words.textContent = `no history from ${pair[0]}: ${failure}`;
}
