const PERIOD = 10, LONGEST = 60, LIMIT = 15; // s
let timer = 0, failures = 0, started = 0, next = 0, good = "", wanted = false;

async function read(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(LIMIT * 1000) });
  if (!answer.ok) throw Error(`HTTP ${answer.status}`);
  const doc = Object(await answer.json()), held = Date.parse(answer.headers.get("Date")) / 1000 - doc.at;
  // A matrix may be some seconds old, by the clock of the agent that keeps it; a pair is never kept.
  doc.held = doc.rows && held > 0 && held < PERIOD ? held : 0;
  return doc;
}

async function turn() {
  clearTimeout(timer);
  started = performance.now();
  try {
    wanted = false;
    // What one looks at comes first.
    if (shown) await readPair();
    const m = matrix(await read("api/v1/cluster"));
    now = { m, c: census(m), age: m.doc.held, came: performance.now() };
    tell();
    render();
    good = `Stale since ${new Date().toLocaleTimeString()}`;
    failures = 0;
  } catch (error) {
    failures++;
    // Written only when it changes: a screen reader speaks it.
    const told = `${good || "No matrix yet"}: ${error.message}`;
    if ($("stale").textContent !== told) $("stale").textContent = told;
  }
  started = 0;
  document.body.classList.toggle("stale", failures > 0);
  $("stale").hidden = !failures;
  const pause = wanted ? 0 : Math.min(PERIOD * 2 ** Math.max(0, failures - 1), LONGEST) * 1000;
  next = performance.now() + pause;
  if (!document.hidden) timer = setTimeout(turn, pause);
  tick();
}

// Reads at once, or right after what is being read.
function soon() {
  wanted = true;
  if (!started) turn();
}

// Every second: what ages, and what takes long.
function tick() {
  const time = performance.now(), busy = started ? (time - started) / 1000 : 0;
  $("busy").textContent = busy > 1 ? `reading for ${ago(busy)}` : failures && !busy ? `next try in ${ago((next - time) / 1000)}` : "";
  if (!now || document.hidden) return;
  $("age").textContent = `${ago(since())} old`;
  point();
  dialog.querySelectorAll("time").forEach((one) => { one.textContent = `${ago(one.age + (time - one.came) / 1000)} ago`; });
}
setInterval(tick, 1000);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !started) timer = setTimeout(turn, next - performance.now());
});
$("again").addEventListener("click", soon);
document.addEventListener("keydown", (event) => {
  if (event.key === "r" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select")) soon();
});
turn();
