// In s.
const PERIOD = 10, LONGEST = 60, LIMIT = 15;
let timer = 0, failures = 0, started = 0, next = 0, staleSince = "", wanted = false;

// A proxy may serve the page without the final slash, which relative addresses would need.
const BASE = location.origin + location.pathname.replace(/\/*$/, "/");
document.querySelectorAll("nav a").forEach((link) => { link.href = BASE + link.getAttribute("href"); });

let last = Promise.resolve();
// One request at a time.
const read = (path) => (last = last.catch(() => {}).then(() => load(path)));
async function load(path) {
  const answer = await fetch(BASE + path, { cache: "no-store", signal: AbortSignal.timeout(LIMIT * 1000) });
  if (!answer.ok) throw Error(`HTTP ${answer.status} ${(await answer.text()).slice(0, 200)}`);
  const doc = Object(await answer.json()), age = Date.parse(answer.headers.get("Date")) / 1000 - doc.at;
  // A matrix may come from the agent's cache, and be some seconds old by the agent's clock; a pair never.
  doc.age = doc.rows && age > 0 && age < PERIOD ? age : 0;
  return doc;
}

async function refresh() {
  clearTimeout(timer);
  started = performance.now();
  try {
    wanted = false;
    // The open pair first.
    if (shown) await readPair();
    const m = matrix(await read("api/v1/cluster"));
    live = { m, c: count(m), past: null, age: m.doc.age, arrived: performance.now() };
    if (past === null) show(live);
    staleSince = `Stale since ${new Date().toLocaleTimeString()}`;
    failures = 0;
    // The time of the page stands still while its computer sleeps, that of the agent does not.
    if (performance.now() > due || live.m.doc.at > edge(day?.at) + 5) await readDay();
  } catch (error) {
    failures++;
    // Written only when it changes, since a screen reader speaks it.
    const text = `${staleSince || "No matrix yet"}: ${error.message}`;
    if ($("stale").textContent !== text) $("stale").textContent = text;
  }
  started = 0;
  document.body.classList.toggle("stale", failures > 0);
  $("stale").hidden = !failures;
  const pause = wanted ? 0 : Math.min(PERIOD * 2 ** Math.max(0, failures - 1), LONGEST) * 1000;
  next = performance.now() + pause;
  if (!document.hidden) timer = setTimeout(refresh, pause);
  tick();
}

// Refreshes at once, or right after the refresh under way.
function reload() {
  wanted = true;
  if (!started) refresh();
}

// Every second: ages, and how long a refresh takes.
function tick() {
  const time = performance.now(), busy = started ? (time - started) / 1000 : 0;
  $("busy").textContent = busy > 1 ? `loading for ${ago(busy)}` : failures && !busy ? `retry in ${ago((next - time) / 1000)}` : "";
  if (!now || document.hidden) return;
  $("age").textContent = `${ago(since())} old`;
  highlight();
  dialog.querySelectorAll("time").forEach((one) => { one.textContent = `${ago(one.age + (time - one.arrived) / 1000)} ago`; });
}
setInterval(tick, 1000);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !started) timer = setTimeout(refresh, next - performance.now());
});
$("reload").addEventListener("click", reload);
document.addEventListener("keydown", (event) => {
  if (event.key === "r" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select")) reload();
});
refresh();
