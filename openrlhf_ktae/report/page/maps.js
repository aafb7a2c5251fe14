// Key-token maps. A rollout is cut into chunks at line ends; only chunks in or near sight hold elements.
const CHUNK = 160, CHUNK_LIMIT = 420;
const MODES = ["value", "advantage", "probability"];
const PROBABILITY_BOUNDS = [0.9, 0.6, 0.3, 0.1];
const RANGE_BOUNDS = [0.2, 0.4, 0.6, 0.8];  // shares of a column's range, where it has no negative numbers
const COLUMN = "column:";
const isColumn = (mode) => mode.startsWith(COLUMN);
const boundsOf = (mode) => (mode === "probability" ? PROBABILITY_BOUNDS : groupIndex.bounds);
const map = { view: null, entry: null, cards: [], mode: "value", limit: 1, shown: null, pinned: null };
const highlight = new CSSStyleSheet();
document.adoptedStyleSheets = [...document.adoptedStyleSheets, highlight];

function prepareGroup(view) {
  const value = view.statistics.value;
  for (const rollout of view.rollouts) {
    const given = new Set(rollout.given);
    rollout.isGiven = given;
    rollout.isStart = new Set(rollout.starts ?? []);
    rollout.values ??= rollout.tokens.map((t, i) => (given.has(i) ? 0 : value[t] ?? 0));
    rollout.total = rollout.advantage ?? (rollout.base == null ? null : rollout.tokens.map((_, i) => (given.has(i) ? 0 : rollout.base + rollout.values[i])));
    rollout.probability = rollout.log_prob ? rollout.log_prob.map((p) => (p == null ? null : Math.exp(p / 100))) : null;
  }
  view.specials = new Set(view.special);
  view.hasSegments = view.rollouts.some((rollout) => rollout.isStart.size);
  view.hasBranches = new Set(view.rollouts.map((rollout) => rollout.branch)).size > 1;
  return view;
}

function shownNumbers(rollout) {
  if (isColumn(map.mode)) return rollout.columns?.[map.mode.slice(COLUMN.length)] ?? null;
  return map.mode === "value" ? rollout.values : map.mode === "advantage" ? rollout.total : rollout.probability;
}

// Class of a number: p1..p4 and n1..n4 for signed numbers, s1..s4 for improbable tokens, "" for little to say.
function shade(number) {
  if (number == null) return "";
  const bounds = boundsOf(map.mode);
  if (map.mode === "probability") {
    const level = bounds.filter((bound) => number < bound).length;
    return level ? `s${level}` : "";
  }
  if (map.range) {
    const level = RANGE_BOUNDS.filter((bound) => shareOfRange(number) >= bound).length;
    return level ? `s${level}` : "";
  }
  const level = bounds.filter((bound) => Math.abs(number) >= bound * map.limit).length;
  return level ? `${number > 0 ? "p" : "n"}${level}` : "";
}

// A column's numbers over a group; null where some are negative: those are shown by sign, as advantages are.
function rangeOf(numbers) {
  const found = numbers.flatMap((list) => list ?? []).filter((v) => v != null);
  const low = found.reduce((least, v) => Math.min(least, v), Infinity), high = found.reduce((most, v) => Math.max(most, v), -Infinity);
  return found.length && low >= 0 ? { low, high } : null;
}

const shareOfRange = (number) => (map.range.high > map.range.low ? (number - map.range.low) / (map.range.high - map.range.low) : 0);

function chunksOf(view, rollout) {
  const starts = [0];
  for (let i = 1; i < rollout.tokens.length; i++) {
    const size = i - starts.at(-1);
    const afterNewline = view.vocabulary[rollout.tokens[i - 1]].endsWith("\n");
    if ((size >= CHUNK && afterNewline) || size >= CHUNK_LIMIT) starts.push(i);
  }
  return starts.map((start, c) => ({ start, end: starts[c + 1] ?? rollout.tokens.length }));
}

function estimateLines(view, rollout, chunk, perLine) {
  let lines = 1, column = 0;
  for (let i = chunk.start; i < chunk.end; i++) {
    const text = view.vocabulary[rollout.tokens[i]];
    column += text.length;
    if (column > perLine) { lines++; column = text.length; }
    if (text.includes("\n") && i < chunk.end - 1) { lines += text.split("\n").length - 1; column = 0; }
  }
  return lines;
}

function tokenElement(card, i) {
  const { rollout, index } = card;
  const t = rollout.tokens[i];
  const element = make("span", { class: `tok ${rollout.isGiven.has(i) ? "given" : shade(card.numbers?.[i])}`, role: "option", "aria-selected": "false",
    "data-t": t, "data-i": i, id: `tok-${index}-${i}`, "aria-setsize": rollout.tokens.length, "aria-posinset": i + 1 });
  if (map.view.specials.has(t)) element.classList.add("special");
  if (rollout.isStart.has(i)) element.classList.add("starts-segment");
  if (!map.view.vocabulary[t].trim()) element.setAttribute("aria-label", spoken(map.view.vocabulary[t]));
  if (map.view.vocabulary[t].endsWith("\n")) element.classList.add("ends-line");
  return fillPiece(element, map.view.vocabulary[t]);
}

function renderChunk(card, c) {
  const chunk = card.chunks[c];
  if (chunk.rendered) return;
  const fragment = document.createDocumentFragment();
  for (let i = chunk.start; i < chunk.end; i++) fragment.append(tokenElement(card, i));
  chunk.element.replaceChildren(fragment);
  chunk.element.style.minHeight = "";
  chunk.rendered = true;
  if (card.active >= chunk.start && card.active < chunk.end) markActive(card);
}

function clearChunk(card, c) {
  const chunk = card.chunks[c];
  if (!chunk.rendered || (card.active >= chunk.start && card.active < chunk.end)) return;
  chunk.element.style.minHeight = `${chunk.element.offsetHeight}px`;
  chunk.element.replaceChildren();
  chunk.rendered = false;
}

function buildCard(rollout, index) {
  const word = rollout.correct ? "Correct" : "Wrong";
  const box = make("div", { class: "box", role: "listbox", tabindex: "0", "aria-label": `Tokens of rollout ${rollout.rollout}, ${word.toLowerCase()}`, "data-card": index });
  const strip = make("canvas", { class: "strip", height: "20", "aria-hidden": "true" });
  const expand = make("button", { type: "button", class: "quiet small", "aria-expanded": "false", "aria-label": `Show rollout ${rollout.rollout} in full height`, text: "⤢" });
  const facts = [`${rollout.tokens.length} tokens`, rollout.reward == null ? null : `reward ${short(rollout.reward)}`, rollout.base == null ? null : `A ${signed(rollout.base, 2)}`,
    map.view.hasBranches ? `branch ${rollout.branch}` : null, rollout.truncated ? "cut off" : null].filter(Boolean).join(" · ");
  const element = make("section", { class: `rollout ${rollout.correct ? "correct" : "wrong"}`, "aria-label": `Rollout ${rollout.rollout}, ${word.toLowerCase()}` },
    make("header", {}, make("span", { class: "verdict-chip", text: `${rollout.correct ? "✓" : "✗"} ${word}` }), make("span", { class: "number", text: `#${rollout.rollout}` }),
      make("span", { class: "facts-line", text: facts }), expand), strip, box);
  const card = { index, rollout, element, box, strip, chunks: chunksOf(map.view, rollout), active: 0, numbers: null };
  expand.addEventListener("click", () => {
    const isOpen = element.classList.toggle("open");
    expand.setAttribute("aria-expanded", String(isOpen));
  });
  strip.addEventListener("click", (event) => reveal(card, Math.floor((event.offsetX / strip.clientWidth) * rollout.tokens.length)));
  box.addEventListener("pointerover", (event) => { const token = event.target.closest(".tok"); if (token) inspect(card, Number(token.dataset.i)); });
  box.addEventListener("pointerleave", () => showPinned());
  box.addEventListener("click", (event) => { const token = event.target.closest(".tok"); if (token) { setActive(card, Number(token.dataset.i)); pin(card, card.active); } });
  box.addEventListener("focus", () => { if (box.matches(":focus-visible")) setActive(card, card.active, true); });
  box.addEventListener("keydown", (event) => moveByKey(card, event));
  return card;
}

const cardSeen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) openCard(map.cards[entry.target.dataset.card]);
}, { rootMargin: "250px" });

// Empty chunks of about the right height, so that boxes have their size before anything is rendered.
function layCards() {
  const perLine = Math.max(20, Math.floor(((map.cards[0]?.box.clientWidth || 360) - 24) / 8));
  for (const card of map.cards) {
    card.box.append(...card.chunks.map((chunk, c) => {
      chunk.element = make("div", { class: "chunk", role: "presentation", "data-c": c });
      chunk.element.style.minHeight = `${estimateLines(map.view, card.rollout, chunk, perLine) * 24}px`;
      return chunk.element;
    }));
  }
}

function openCard(card) {
  if (card.observer) return;
  renderChunk(card, 0);
  card.observer = new IntersectionObserver((entries) => {
    for (const entry of entries) (entry.isIntersecting ? renderChunk : clearChunk)(card, Number(entry.target.dataset.c));
  }, { root: card.element.classList.contains("open") ? null : card.box, rootMargin: "400px" });
  card.chunks.forEach((chunk) => card.observer.observe(chunk.element));
  drawStrip(card);
}

function drawStrip(card) {
  const { strip, rollout } = card;
  const width = Math.max(1, strip.clientWidth), scale = Math.min(2, devicePixelRatio || 1);
  if (strip.width !== width * scale) { strip.width = width * scale; strip.height = 20 * scale; }
  const context = strip.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, 20);
  const per = rollout.tokens.length / width;
  const good = themeColour("--good"), bad = themeColour("--bad"), odd = themeColour("--odd"), mark = themeColour("--mark");
  context.fillStyle = themeColour("--line");
  context.fillRect(0, 9.5, width, 1);
  for (let x = 0; x < width; x++) {
    const from = Math.floor(x * per), to = Math.max(from + 1, Math.floor((x + 1) * per));
    let high = 0, low = 0, isMarked = false;
    for (let i = from; i < to && i < rollout.tokens.length; i++) {
      const number = card.numbers?.[i] ?? 0;
      const part = map.mode === "probability" ? (card.numbers ? 1 - number : 0) : map.range ? shareOfRange(number) : number / map.limit;
      high = Math.max(high, part); low = Math.min(low, part);
      isMarked ||= map.shown && rollout.tokens[i] === map.shown.token;
    }
    if (high > 0.02) { context.fillStyle = map.mode === "probability" || map.range ? odd : good; context.fillRect(x, 10 - 10 * Math.min(1, high), 1, 10 * Math.min(1, high)); }
    if (low < -0.02) { context.fillStyle = bad; context.fillRect(x, 10, 1, 10 * Math.min(1, -low)); }
    if (isMarked) { context.fillStyle = mark; context.fillRect(x - 0.5, 0, 2, 4); context.fillRect(x - 0.5, 16, 2, 4); }
  }
}

function recolour() {
  const numbers = map.view.rollouts.map(shownNumbers);
  map.range = isColumn(map.mode) ? rangeOf(numbers) : null;
  map.limit = map.mode === "advantage" || isColumn(map.mode) ? Math.max(1e-6, ...numbers.map((list) => (list ?? []).reduce((most, v) => Math.max(most, Math.abs(v ?? 0)), 0))) : map.view.scale || 1;
  for (const card of map.cards) {
    card.numbers = numbers[card.index];
    for (const chunk of card.chunks) {
      if (!chunk.rendered) continue;
      chunk.rendered = false;
      renderChunk(card, card.chunks.indexOf(chunk));
    }
    if (card.observer) drawStrip(card);
  }
  drawLegend();
  if (map.shown) showToken(map.shown);
}

function drawLegend() {
  const legend = $("legend");
  const sample = (name, text) => make("span", { class: "legend-item" }, make("span", { class: `tok ${name}`, "aria-hidden": "true", text: "token" }), text);
  const bounds = boundsOf(map.mode);
  if (map.view.rollouts.every((rollout) => shownNumbers(rollout) == null)) legend.replaceChildren(make("span", { text: "The run did not write these numbers." }));
  else if (map.mode === "probability") legend.replaceChildren(sample("", `at least ${bounds[0]}`), ...bounds.map((bound, i) => sample(`s${i + 1}`, `below ${bound}`)));
  else if (map.range) {
    const { low, high } = map.range;
    const at = (share) => String(Number((low + share * (high - low)).toPrecision(2)));
    legend.replaceChildren(sample("", `from ${at(0)}`), ...RANGE_BOUNDS.map((bound, i) => sample(`s${i + 1}`, `≥ ${at(bound)}`)), make("span", { text: `to ${at(1)}` }));
  } else {
    const at = (i) => String(Number((bounds[i] * map.limit).toPrecision(2)));
    legend.replaceChildren(...[3, 2, 1, 0].map((i) => sample(`n${i + 1}`, `≤ −${at(i)}`)), sample("", "near 0"), ...[0, 1, 2, 3].map((i) => sample(`p${i + 1}`, `≥ ${at(i)}`)));
  }
  if (map.view.hasSegments) legend.append(sample("starts-segment", "a segment begins"));
}

// The columns of the run's advantage terms, as further colours.
function offerColumns(view) {
  const pick = $("pick-colour");
  for (const option of [...pick.options]) if (isColumn(option.value)) option.remove();
  pick.append(...view.columns.map((name) => make("option", { value: COLUMN + name, text: name.replaceAll("_", " ") })));
}

async function showGroup(position, entry, mode) {
  const offered = (view) => (isColumn(mode) && !view.columns.includes(mode.slice(COLUMN.length)) ? "value" : mode);
  if (map.entry === entry) { map.mode = offered(map.view); $("pick-colour").value = map.mode; recolour(); return; }
  const view = prepareGroup(await unpack(`data-group-${position}`));
  map.mode = offered(view);
  offerColumns(view);
  $("pick-colour").value = map.mode;
  view.scale = groupIndex.runs[entry.run].scale;
  map.cards.forEach((card) => card.observer?.disconnect());
  cardSeen.disconnect();
  Object.assign(map, { view, entry, shown: null, pinned: null, cards: [] });
  highlight.replaceSync("");
  map.cards = view.rollouts.map(buildCard);
  recolour();
  $("rollouts").replaceChildren(...map.cards.map((card) => card.element));
  layCards();
  for (const card of map.cards) { card.element.dataset.card = card.index; cardSeen.observe(card.element); }
  $("prompt-text").textContent = view.prompt;
  $("prompt-label").textContent = view.label;
  emptyInspector();
  startTokenTable();
}
