const $ = (id) => document.getElementById(id);
const grid = $("grid"), main = document.querySelector("main");
// The matrix on the screen, its counts, and when it arrived.
let now = null;
// The rows and columns, as indices into its names.
let order;
// The elements of each row, and the last descriptions of its cells.
let places = [];
// The column headers.
let heads = [];
// The pair that the Tab key reaches, by names, and its cell.
let focus = [], tabStop = null;
// The place under the pointer.
let hovered = null;
// Whether all findings are shown, and the one whose pairs are marked.
let every = false, chosen = null;

function attributes(one, values) { for (const [key, value] of Object.entries(values)) one.setAttribute(key, value); }

function element(tag, role, parent, text) {
  const made = document.createElement(tag);
  if (role) made.setAttribute("role", role);
  if (text) made.textContent = text;
  parent?.append(made);
  return made;
}

// The nodes of the rows and the columns, in order.
function arrange({ m, c }) {
  const natural = new Intl.Collator("en", { numeric: true });
  let cols = m.names.map((_, i) => i).sort((a, b) => natural.compare(m.names[a], m.names[b]));
  const by = { worst: c.bad, slow: c.slow.map((times) => median(times) || 0) }[$("sort").value];
  if (by) cols.sort((a, b) => by[b] - by[a]);
  const wanted = (id) => {
    const words = $(id).value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    return (i) => !words.length || words.some((word) => m.names[i].toLowerCase().includes(word));
  };
  let rows = cols.filter(wanted("rows"));
  cols = cols.filter(wanted("cols"));
  if ($("faulty").checked) {
    const fault = (i, j) => { const cell = m.at(i, j); return cell && verdict(cell)[2] > 1; };
    const all = rows;
    rows = rows.filter((i) => m.rows[i].error || cols.some((j) => fault(i, j)));
    cols = cols.filter((j) => all.some((i) => fault(i, j)));
  }
  return { rows, cols };
}

// Builds the cells; only when the number of rows or columns changes.
function build(height, width) {
  if (places.length === height && heads.length === width) return;
  const all = document.createDocumentFragment(), top = element("div", "row", all), model = element("div", "row");
  top.className = "heads";
  element("span", "columnheader", top, "from ↓ to →");
  heads = Array.from({ length: width }, () => element("span", "columnheader", top));
  element("span", "rowheader", model);
  for (let c = 0; c < width; c++) element("i", "gridcell", model);
  places = Array.from({ length: height }, (_, r) => {
    const row = model.cloneNode(true), [head, ...cells] = row.children;
    cells.forEach((cell, c) => { cell.place = [r, c]; });
    all.append(row);
    return { row, head, cells, described: [] };
  });
  for (const id of ["rowbar", "colbar"]) element("div", "presentation", all).id = id;
  hovered = null;
  grid.replaceChildren(all);
}

// Cells as large as the window allows, but never too small to read.
let wide = false;
function fit(names) {
  const longest = Math.max(3, ...names.map((name) => name.length)), count = heads.length;
  const name = Math.max(84, Math.min(longest, 24) * 7 + 22);
  const c = Math.max(12, Math.min(64, Math.floor((main.clientWidth - name - 40) / count) - 1));
  wide = c >= 25;
  const kinds = { flat: longest * 7 + 6 <= c, tight: c < 34, small: c < 18 };
  grid.className = Object.keys(kinds).filter((kind) => kinds[kind]).join(" ");
  for (const [key, value] of Object.entries({ c: `${c}px`, name: `${name}px`, n: count, h: `${Math.min(c, wide ? 28 : 18)}px` })) grid.style.setProperty(`--${key}`, value);
}

function head(element, name, short) {
  if (element.title === name && element.textContent === short) return;
  element.title = name;
  element.setAttribute("aria-label", name);
  element.textContent = short;
}

function render() {
  const { m } = now, { names, short } = m, focused = grid.contains(document.activeElement);
  order = arrange(now);
  const { rows, cols } = order;
  $("none").hidden = rows.length > 0 && cols.length > 0;
  grid.hidden = !$("none").hidden;
  if (grid.hidden) return;
  build(rows.length, cols.length);
  fit(short);
  cols.forEach((j, c) => head(heads[c], names[j], short[j]));
  rows.forEach((i, r) => {
    const { row, head: header, cells, described: before } = places[r];
    head(header, names[i], short[i]);
    row.className = m.rows[i].error ? "silent" : "";
    cols.forEach((j, c) => {
      const [kind, mark, figure, words] = describe(m, i, j), text = wide ? mark + figure : mark, whole = kind + text + words;
      if (before[c] === whole) return;
      before[c] = whole;
      cells[c].className = kind;
      cells[c].setAttribute("aria-label", words);
      if (cells[c].textContent !== text) cells[c].textContent = text;
    });
  });
  // The focused pair may have moved or left.
  setTabStop(placeOf(focus) || [0, Math.min(1, cols.length - 1)], focused);
  highlight();
  mark();
}

// Marks the pairs of the finding under the pointer or the focus.
function mark(event) {
  if (event) chosen = event.type === "pointerover" || event.type === "focusin" ? event.target.finding : null;
  grid.querySelectorAll(".hit").forEach((one) => one.classList.remove("hit"));
  for (const [i, j] of chosen?.pairs || []) places[order.rows.indexOf(i)]?.cells[order.cols.indexOf(j)]?.classList.add("hit");
}
for (const type of ["pointerover", "pointerleave", "focusin", "focusout"]) $("summary").addEventListener(type, (event) => now && mark(event));

// The findings, as text. Written only when they change, since a screen reader speaks them.
function renderFindings({ m, c }) {
  const shown = every ? m.findings : m.findings.slice(0, FEW), more = m.findings.length - shown.length, whole = $("summary");
  const lines = shown.length ? shown.map(({ text }) => text) : [m.doc.seconds && !c.pairs ? "Nothing is remembered of this time" : `${m.doc.findings ? "No" : "This agent sends no"} findings: ${grouped(c.verdicts.up)} of ${grouped(c.pairs)} pairs are up`];
  if (more) lines.push(`and ${more} more`);
  if (whole.textContent !== lines.join("")) whole.replaceChildren(...lines.map((line) => element(shown.length ? "button" : "span", "", null, line)));
  shown.forEach((finding, k) => { whole.children[k].finding = finding; whole.children[k].className = finding.grave ? "grave" : ""; });
  if (more) whole.lastChild.onclick = () => { every = true; renderFindings(now); };
  chosen &&= m.findings.find(({ text }) => text === chosen.text);
  whole.dataset.bad = m.findings.some(({ grave }) => grave) ? "down" : shown.length ? "warn" : "";
}

const nameAt = ([r, c]) => [now.m.names[order.rows[r]], now.m.names[order.cols[c]]];
function placeOf([source, target]) {
  const { names } = now.m, place = [order.rows.indexOf(names.indexOf(source)), order.cols.indexOf(names.indexOf(target))];
  return place.includes(-1) ? null : place;
}

// Makes a cell the one that the Tab key reaches.
function setTabStop(place, take) {
  const cell = places[place[0]].cells[place[1]];
  tabStop?.removeAttribute("tabindex");
  tabStop = cell;
  cell.tabIndex = 0;
  if (take) { focus = nameAt(place); cell.focus({ preventScroll: cell === document.activeElement }); }
}

// The crosshair and the line at the bottom: at the pointer, else at the focus.
function highlight() {
  const place = hovered || (grid.contains(document.activeElement) && document.activeElement.place), bars = ["rowbar", "colbar"].map($);
  grid.querySelectorAll(".on").forEach((one) => one.classList.remove("on"));
  bars.forEach((bar) => { if (bar) bar.hidden = !place; });
  if (!place) return ($("status").textContent = "Point at a cell, or use the arrow keys; Enter opens the pair.");
  const [r, c] = place, { m } = now, { row, head, cells } = places[r], i = order.rows[r], j = order.cols[c];
  head.classList.add("on");
  heads[c].classList.add("on");
  bars[0].style.top = `${row.offsetTop}px`;
  bars[1].style.left = `${heads[c].offsetLeft}px`;
  const age = m.rows[i].at - m.at(i, j)?.at + since();
  $("status").textContent = describe(m, i, j)[3] + (isNumber(age) ? `, probed ${ago(age)} ago` : "");
}
// Age of the matrix, in seconds.
const since = () => now.age + (performance.now() - now.arrived) / 1000;

grid.addEventListener("pointerover", (event) => { hovered = event.target.place; highlight(); });
grid.addEventListener("pointerleave", () => { hovered = null; highlight(); });
grid.addEventListener("focusin", (event) => { focus = nameAt(event.target.place); highlight(); });
grid.addEventListener("focusout", () => setTimeout(highlight));
grid.addEventListener("click", ({ target: { place } }) => { if (place) { setTabStop(place, true); open(place); } });
grid.addEventListener("keydown", (event) => {
  const [r, c] = event.target.place, bottom = places.length - 1, right = heads.length - 1, all = event.ctrlKey;
  const to = {
    ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], PageUp: [r - 10, c], PageDown: [r + 10, c],
    Home: [all ? 0 : r, 0], End: [all ? bottom : r, right],
  }[event.key];
  if (event.altKey || event.metaKey) return;
  if (to) { hovered = null; setTabStop([Math.min(Math.max(to[0], 0), bottom), Math.min(Math.max(to[1], 0), right)], true); }
  else if (event.key === "Enter" || event.key === " ") open(event.target.place);
  else return;
  event.preventDefault();
});
$("view").addEventListener("input", () => now && render());
$("view").addEventListener("submit", (event) => event.preventDefault());
new ResizeObserver(() => now && render()).observe(main);

// Renders what is above the matrix.
function renderHeader() {
  const { m, c } = now, { doc, short, rows } = m, [i, j, seconds] = c.slowest || [];
  renderFindings(now);
  $("from").textContent = `collected by ${doc.node}`;
  $("figures").textContent = [
    many(short.length, "node"), `${grouped(c.verdicts.up)} of ${many(c.pairs, "pair")} up`, `median ${latency(median(c.all))}`,
    c.slowest ? `slowest ${short[i]} → ${short[j]} ${latency(seconds)}` : "", many(rows.filter((row) => !row.error).length, "row"), ...memory(m), `collected in ${latency(doc.duration_seconds)}`,
  ].filter(Boolean).join(" · ");
  document.title = `${m.findings.length ? `${many(m.findings.length, "finding")} · ` : ""}Wylis`;
  const key = (kind, text, label) => {
    const entry = element("span"), box = element("i", "", entry, text);
    box.className = kind;
    entry.append(label);
    return entry;
  };
  $("legend").replaceChildren("ms", ...c.depths.map((count, d) => key(`up d${d}`, count, d < 7 ? `<${BOUNDS[d]}` : ["<1 s", "≥1 s"][d - 7])),
    ...Object.entries(VERDICTS).slice(1).filter(([name]) => c.verdicts[name]).map(([name, [mark, kind]]) => key(kind, mark, `${name} ${c.verdicts[name]}`)),
    ...(c.missing ? [key("gap", "", `no row ${c.missing}`)] : []));
}
