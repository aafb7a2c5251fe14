// Which view is shown, what the address says, and starting it all.
const VIEWS = ["health", "curves", "maps", "groups", "setup"];
let groupIndex = { runs: [], groups: [] };
let state = { view: "health", colour: "value" };

function readAddress() {
  const [name, query] = location.hash.slice(1).split("?");
  if (!VIEWS.includes(name)) return null;
  const parts = new URLSearchParams(query ?? "");
  const numbers = Object.fromEntries(["run", "step", "group", "token", "rollout", "position"].filter((key) => /^\d+$/.test(parts.get(key) ?? "")).map((key) => [key, Number(parts.get(key))]));
  return { view: name, colour: MODES.includes(parts.get("colour")) || isColumn(parts.get("colour") ?? "") ? parts.get("colour") : "value", ...numbers };
}

function address() {
  if (state.view !== "maps" || !map.entry) return `#${state.view}`;
  const parts = new URLSearchParams({ run: map.entry.run, step: map.entry.step, group: map.entry.group });
  if (state.colour !== "value") parts.set("colour", state.colour);
  for (const key of ["token", "rollout", "position"]) if (state[key] != null) parts.set(key, state[key]);
  return `#maps?${parts}`;
}

function writeAddress(isNewPlace) {
  if (address() === location.hash) return;
  history[isNewPlace ? "pushState" : "replaceState"](null, "", address());
}

function noteToken(token) {
  for (const key of ["token", "rollout", "position"]) delete state[key];
  Object.assign(state, token);
  writeAddress(false);
}

function showView(name) {
  for (const view of VIEWS) $(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value, text })));
  select.value = String(chosen);
}

// The embedded group nearest to what is asked for: same run, then same step, then same group, else the one with most key tokens.
function findGroup(wanted) {
  const groups = groupIndex.groups;
  const inRun = groups.filter((g) => g.run === (wanted.run ?? groups[0].run));
  const pool = inRun.length ? inRun : groups;
  const step = pool.some((g) => g.step === wanted.step) ? wanted.step : pool.at(-1).step;
  const inStep = pool.filter((g) => g.step === step);
  return inStep.find((g) => g.group === wanted.group) ?? [...inStep].sort((x, y) => y.key_share - x.key_share)[0];
}

async function showMap(wanted) {
  const entry = findGroup(wanted.group == null && wanted.step == null && map.entry ? map.entry : wanted);
  const { groups, runs } = groupIndex;
  if ($("pick-run")) fillSelect($("pick-run"), unique(groups.map((g) => g.run)).map((run) => [run, runs[run].label]), entry.run);
  const inRun = groups.filter((g) => g.run === entry.run);
  fillSelect($("pick-step"), unique(inRun.map((g) => g.step)).map((step) => [step, String(step)]), entry.step);
  const inStep = inRun.filter((g) => g.step === entry.step);
  fillSelect($("pick-group"), inStep.map((g) => [g.group, `${g.correct} of ${g.size} correct · ${Math.round(100 * g.key_share)} % key tokens · ${g.prompt}`]), entry.group);
  await showGroup(groups.indexOf(entry), entry, state.colour);
  if (wanted.token == null && wanted.position == null) return;
  const card = map.cards.find((c) => c.rollout.rollout === wanted.rollout) ?? map.cards[0];
  const token = map.view.token_ids.indexOf(wanted.token);
  const position = wanted.position != null && wanted.position < card.rollout.tokens.length ? wanted.position : card.rollout.tokens.indexOf(token);
  if (position >= 0) reveal(card, position);
}

async function follow(wanted) {
  state = wanted;
  showView(state.view);
  if (state.view === "maps" && groupIndex.groups.length) await showMap(state);
}

async function changeGroup(wanted) {
  state = { view: "maps", colour: state.colour };
  await showMap(wanted);
  writeAddress(true);
}

function wireControls() {
  const { groups } = groupIndex;
  if (!groups.length) return;
  $("pick-run")?.addEventListener("change", () => changeGroup({ run: Number($("pick-run").value), step: map.entry.step }));
  $("pick-step").addEventListener("change", () => changeGroup({ run: map.entry.run, step: Number($("pick-step").value) }));
  $("pick-group").addEventListener("change", () => changeGroup({ ...map.entry, group: Number($("pick-group").value) }));
  const move = (by) => changeGroup(groups[(groups.indexOf(map.entry) + by + groups.length) % groups.length]);
  $("previous-group").addEventListener("click", () => move(-1));
  $("next-group").addEventListener("click", () => move(1));
  $("pick-colour").addEventListener("change", () => { state.colour = $("pick-colour").value; map.mode = state.colour; recolour(); writeAddress(false); });
  $("show-spaces").addEventListener("change", () => $("view-maps").classList.toggle("plain-spaces", !$("show-spaces").checked));
  wireTokenTable();
}

function printEverything() {
  document.body.classList.add("printing");
  for (const view of VIEWS) $(`view-${view}`).hidden = false;
  if (window.Plotly) for (const element of plots.keys()) drawPlot(element);
  for (const card of map.cards) { openCard(card); card.observer.disconnect(); card.chunks.forEach((_, c) => renderChunk(card, c)); }
}

function afterPrint() {
  document.body.classList.remove("printing");
  showView(state.view);
  redrawPlots();
  for (const card of map.cards) card.chunks.forEach((chunk) => card.observer.observe(chunk.element));
}

function startReload() {
  const seconds = Number(document.body.dataset.reloadSeconds);
  if (seconds > 0) setInterval(() => { if ($("reload").checked) location.reload(); }, 1000 * seconds);
}

async function start() {
  startTheme();
  const wanted = readAddress() ?? state;
  showView(wanted.view);
  groupIndex = await unpack("data-index");
  wireControls();
  await follow(wanted);
  await Promise.all([startCurves(), startOverview()]);
  themeListeners.push(redrawPlots, () => map.cards.forEach((card) => card.observer && drawStrip(card)), () => curves?.cohorts.length > 1 && drawRunLegend());
  addEventListener("hashchange", () => {
    const next = readAddress();
    if (next) follow(next).then(() => writeAddress(false));
  });
  addEventListener("beforeprint", printEverything);
  addEventListener("afterprint", afterPrint);
  addEventListener("resize", scheduleStrips);
  startReload();
  root.dataset.ready = "true";
  (window.requestIdleCallback ?? setTimeout)(() => loadPlotly()); // so that printing finds it
}
start();
