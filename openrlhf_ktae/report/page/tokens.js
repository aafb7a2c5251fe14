// One token: what is shown about it, where else it is, moving between tokens, and the table of all of them.
const COLUMNS = [["token", "Token"], ["value", "K"], ["a", "a"], ["b", "b"], ["c", "c"], ["d", "d"], ["m_c", "m_c"], ["m_w", "m_w"],
  ["fisher_p", "p"], ["information_gain_bits", "Info. gain"], ["cohens_h", "h"], ["tf_contrast", "r"]];
const MEANING = { a: "correct rollouts with the token", b: "wrong rollouts with the token", c: "correct rollouts without it", d: "wrong rollouts without it",
  m_c: "occurrences in correct rollouts", m_w: "occurrences in wrong rollouts", fisher_p: "Fisher's exact test, two-sided", information_gain_bits: "bits",
  cohens_h: "direction by presence", tf_contrast: "direction by frequency", value: "key-token value", token: "text" };
const COLUMN_MEANING = { segment: "number of the token's segment (thought and answer, turn, text between two cuts), from 0", segment_value: "estimated value of the text before this segment",
  turn_return: "what this turn and the later ones earned, discounted", functional_group: "number of the agent's role", entropy: "nats" };
const table = { rows: [], sort: "value", down: true, shown: 60 };

function emptyInspector() {
  $("inspector").className = "inspector empty";
  $("inspector").replaceChildren(make("h3", { text: "Token" }), make("p", { class: "hint", text: "Point at a token, or press Tab and the arrow keys, to see the counts behind its value." }),
    make("p", { class: "hint keys" }, make("kbd", { text: "←" }), make("kbd", { text: "→" }), " token ", make("kbd", { text: "↑" }), make("kbd", { text: "↓" }), " line ", make("kbd", { text: "n" }), " same token ",
      make("kbd", { text: "k" }), " key token ", make("kbd", { text: "[" }), make("kbd", { text: "]" }), " rollout"));
}

function number(field, value, form = short) {
  return make("dd", { "data-field": field, "data-value": value ?? "", text: form(value) });
}

function inspect(card, i) {
  const token = card.rollout.tokens[i];
  map.shown = { token, card, i };
  showToken(map.shown);
}

// shown: {token, card?, i?}. Without a card (from the table) there is no position to speak of.
function showToken(shown) {
  const { token, card, i } = shown;
  const s = Object.fromEntries(Object.entries(map.view.statistics).map(([name, column]) => [name, column[token]]));
  const value = card ? card.rollout.values[i] : s.value;
  const facts = (pairs) => make("dl", { class: "numbers" }, ...pairs.filter(Boolean).map(([title, hint, dd]) => make("div", { title: hint }, make("dt", { text: title }), dd)));
  const close = make("button", { type: "button", class: "quiet small close", "aria-label": "Close token details", text: "✕" });
  close.addEventListener("click", () => { map.pinned = null; clearShown(); });
  const cells = (title, x, y) => make("tr", {}, make("th", { scope: "row", text: title }), ...[x, y].map((field) => make("td", { "data-field": field, "data-value": s[field] ?? "", text: s[field] ?? "unknown" })));
  const piece = fillPiece(make("code", { class: `piece big ${map.view.specials.has(token) ? "special" : ""}`, "data-field": "token" }), map.view.vocabulary[token], false);
  $("inspector").className = "inspector";
  $("inspector").replaceChildren(...[
    make("div", { class: "inspector-head" }, piece, make("span", { class: "hint", text: `id ${map.view.token_ids[token]}${map.view.specials.has(token) ? ", special" : ""}` }), close),
    make("p", { class: `k ${value > 0 ? "good" : value < 0 ? "bad" : ""}` }, make("span", { class: "k-name", text: "K" }), make("strong", { "data-field": "value", "data-value": value ?? "", text: signed(value) }),
      make("span", { class: "hint", text: value > 0 ? "goes with right answers" : value < 0 ? "goes with wrong answers" : "no signal" })),
    make("table", { class: "contingency" }, make("thead", {}, make("tr", {}, make("td", { text: "rollouts" }), make("th", { scope: "col", text: "correct" }), make("th", { scope: "col", text: "wrong" }))),
      make("tbody", {}, cells("with it", "a", "b"), cells("without", "c", "d"), cells("occurrences", "m_c", "m_w"))),
    facts([["p", MEANING.fisher_p, number("fisher_p", s.fisher_p)], ["gain", "information gain in bits", number("information_gain_bits", s.information_gain_bits)],
      ["h", MEANING.cohens_h, number("cohens_h", s.cohens_h)], ["r", MEANING.tf_contrast, number("tf_contrast", s.tf_contrast)],
      card && ["total A", "advantage trained on", number("advantage", card.rollout.total?.[i] ?? null, (v) => signed(v))],
      card && ["prob.", "policy probability", number("probability", card.rollout.probability?.[i] ?? null)],
      ...(card ? map.view.columns.map((name) => [name.replaceAll("_", " "), COLUMN_MEANING[name] ?? "written by an advantage term", number(`column-${name}`, card.rollout.columns?.[name]?.[i] ?? null)]) : [])]),
    isSaturatedByChance(s) ? make("p", { class: "hint saturated", text: "K is at its limit although p is not small: only one class uses the token, so r is very large. ktae.tf_smoothing above 0 counters that." }) : null,
    card ? make("p", { class: "hint where", text: `Rollout ${card.rollout.rollout}, token ${i + 1} of ${card.rollout.tokens.length}${card.rollout.isGiven.has(i) ? " (given, not generated)" : ""}` }) : null].filter(Boolean));
  highlight.replaceSync(`.tok[data-t="${token}"] { outline: 2px solid var(--mark); outline-offset: 1px; border-radius: 3px; }`);
  scheduleStrips();
}

// By frequency a token of one class alone gets a very large r (docs/estimator.md), however few rollouts hold it.
const isSaturatedByChance = (s) => s.fisher_p > 0.05 && Math.abs(s.value) > 0.99 * (map.view.scale || 1);

let stripsDue = false;
function scheduleStrips() {
  if (stripsDue) return;
  stripsDue = true;
  requestAnimationFrame(() => { stripsDue = false; map.cards.forEach((card) => card.observer && drawStrip(card)); });
}

function clearShown() {
  map.shown = null;
  highlight.replaceSync("");
  emptyInspector();
  scheduleStrips();
  noteToken(null);
}

function showPinned() {
  if (map.pinned) { map.shown = map.pinned; showToken(map.shown); }
}

function pin(card, i) {
  map.pinned = { token: card.rollout.tokens[i], card, i };
  map.shown = map.pinned;
  showToken(map.shown);
  noteToken({ token: map.view.token_ids[map.pinned.token], rollout: card.rollout.rollout, position: i });
}

function markActive(card) {
  card.box.querySelector(".tok.active")?.classList.remove("active");
  const element = document.getElementById(`tok-${card.index}-${card.active}`);
  if (!element) return null;
  card.box.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
  element.classList.add("active");
  element.setAttribute("aria-selected", "true");
  card.box.setAttribute("aria-activedescendant", element.id);
  return element;
}

const chunkAt = (card, i) => card.chunks.findIndex((chunk) => i < chunk.end);

function setActive(card, i, scroll = false) {
  const before = chunkAt(card, card.active);
  card.active = Math.max(0, Math.min(card.rollout.tokens.length - 1, i));
  openCard(card);
  renderChunk(card, chunkAt(card, card.active));
  const element = markActive(card);
  if (before !== chunkAt(card, card.active)) card.observer.unobserve(card.chunks[before].element), card.observer.observe(card.chunks[before].element);
  if (scroll && element) element.scrollIntoView({ block: "nearest", inline: "nearest" });
  inspect(card, card.active);
}

// Scrolls a rollout's own box (not the page) to a token and pins it.
function reveal(card, i) {
  setActive(card, i);
  const element = document.getElementById(`tok-${card.index}-${card.active}`);
  const offset = element.getBoundingClientRect().top - card.box.getBoundingClientRect().top;
  card.box.scrollTop += offset - card.box.clientHeight / 3;
  pin(card, card.active);
}

function onNextLine(card, direction) {
  const here = document.getElementById(`tok-${card.index}-${card.active}`).getClientRects()[0];
  let best = null, line = null;
  for (let i = card.active + direction, looked = 0; i >= 0 && i < card.rollout.tokens.length && looked < 500; i += direction, looked++) {
    renderChunk(card, chunkAt(card, i));
    const box = document.getElementById(`tok-${card.index}-${i}`).getClientRects()[0];
    const away = direction * (box.top - here.top);
    if (away < 4) continue;
    if (line === null) line = box.top;
    else if (Math.abs(box.top - line) > 4) break;
    const distance = Math.abs(box.left - here.left);
    if (best === null || distance < best.distance) best = { i, distance };
  }
  return best?.i ?? (direction > 0 ? card.rollout.tokens.length - 1 : 0);
}

function nextWhere(card, direction, test) {
  for (let i = card.active + direction; i >= 0 && i < card.rollout.tokens.length; i += direction) if (test(i)) return i;
  return card.active;
}

function moveByKey(card, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { rollout, active } = card;
  const same = (i) => rollout.tokens[i] === rollout.tokens[active];
  const isKey = (i) => Math.abs(rollout.values[i]) >= 0.5 * (map.view.scale || 1);
  const moves = {
    ArrowRight: () => active + 1, ArrowLeft: () => active - 1, ArrowDown: () => onNextLine(card, 1), ArrowUp: () => onNextLine(card, -1),
    Home: () => 0, End: () => rollout.tokens.length - 1, PageDown: () => active + 100, PageUp: () => active - 100,
    n: () => nextWhere(card, 1, same), N: () => nextWhere(card, -1, same), k: () => nextWhere(card, 1, isKey), K: () => nextWhere(card, -1, isKey),
  };
  if (moves[event.key]) setActive(card, moves[event.key](), true);
  else if (event.key === "Enter" || event.key === " ") pin(card, active);
  else if (event.key === "Escape") { map.pinned = null; clearShown(); }
  else if (event.key === "]" || event.key === "[") map.cards[card.index + (event.key === "]" ? 1 : -1)]?.box.focus();
  else return;
  event.preventDefault();
}

function startTokenTable() {
  const { view } = map;
  table.rows = view.vocabulary.map((text, token) => ({ token, text, id: view.token_ids[token] }));
  table.shown = 60;
  drawTokenTable();
}

function tableRows() {
  const wanted = $("token-filter").value;
  const kept = wanted ? table.rows.filter((row) => row.text.toLowerCase().includes(wanted.toLowerCase()) || String(row.id) === wanted.trim()) : [...table.rows];
  const column = map.view.statistics[table.sort];
  const order = table.sort === "token" ? (x, y) => x.text.localeCompare(y.text) : (x, y) => (column[x.token] ?? -Infinity) - (column[y.token] ?? -Infinity);
  kept.sort((x, y) => (table.down ? order(y, x) : order(x, y)));
  return kept;
}

function drawTokenTable() {
  const kept = tableRows();
  const head = make("tr", {}, ...COLUMNS.map(([field, title]) => {
    const isSorted = table.sort === field;
    const button = make("button", { type: "button", text: title, title: MEANING[field], "data-sort": field });
    if (isSorted) button.append(make("span", { "aria-hidden": "true", text: table.down ? " ↓" : " ↑" }));
    return make("th", { scope: "col", class: field === "token" ? "" : `num col-${field}`, "aria-sort": isSorted ? (table.down ? "descending" : "ascending") : "none" }, button);
  }));
  const rows = kept.slice(0, table.shown).map((row) => make("tr", { "data-token": row.token }, ...COLUMNS.map(([field]) => {
    if (field !== "token") {
      const value = map.view.statistics[field][row.token];
      return make("td", { class: `num col-${field} ${field === "value" ? "strong" : ""}`, text: field === "value" ? signed(value) : value == null ? "–" : short(value) });
    }
    const button = make("button", { type: "button", class: "piece", "aria-label": `Show ${visible(row.text)} in the rollouts` });
    return make("td", {}, fillPiece(button, row.text, false));
  })));
  $("token-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  $("more-tokens").hidden = kept.length <= table.shown;
  $("token-count").textContent = `${Math.min(kept.length, table.shown)} of ${kept.length} tokens${kept.length < table.rows.length ? ` (${table.rows.length} in all)` : ""}`;
}

function wireTokenTable() {
  $("token-filter").addEventListener("input", () => { table.shown = 60; drawTokenTable(); });
  $("more-tokens").addEventListener("click", () => { table.shown += 200; drawTokenTable(); });
  $("token-table").addEventListener("click", (event) => {
    const sort = event.target.closest("[data-sort]")?.dataset.sort;
    if (sort) {
      table.down = table.sort === sort ? !table.down : sort !== "token" && sort !== "fisher_p";
      table.sort = sort;
      drawTokenTable();
      $("token-table").querySelector(`[data-sort="${sort}"]`).focus();
      return;
    }
    const row = event.target.closest("tr[data-token]");
    if (!row) return;
    const token = Number(row.dataset.token);
    let first = null;
    for (const card of map.cards) {
      const i = card.rollout.tokens.indexOf(token);
      if (i >= 0) { reveal(card, i); first ??= [card, i]; }
    }
    if (first) pin(...first);
  });
}
