// Curves: plotly is unpacked when the first plot comes into sight.
let plotlyLoading = null;
let curves = null;
let overviews = null;
const plots = new Map(); // element -> function that returns {data, layout}
const SERIES = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const seriesColour = (i) => themeColour(SERIES[i % SERIES.length]);
const plotText = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const touch = matchMedia("(pointer: coarse)");

function loadPlotly() {
  plotlyLoading ??= unpackText("data-plotly").then((source) => {
    const script = make("script", { text: source });
    document.head.append(script); // allowed by its hash in the content security policy
    $("data-plotly").textContent = "";
    return window.Plotly;
  });
  return plotlyLoading;
}

function smoothed(values, weight) {
  // Exponential moving average, corrected for its start, gaps kept.
  let sum = 0, mass = 0;
  return values.map((value) => {
    if (value == null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return Number((sum / mass).toPrecision(6)); // a constant stays one: no axis over rounding errors
  });
}

function fade(colour, alpha) {
  const n = parseInt(colour.slice(1), 16);
  return `rgba(${n >> 16},${(n >> 8) & 255},${n & 255},${alpha})`;
}

const labelsOf = (panel) => unique(panel.lines.map((line) => line.label));

// With several runs colour says which run (the legend at the top), and the dash which quantity (this key).
function dashKey(panel) {
  const labels = labelsOf(panel);
  if (curves.cohorts.length < 2 || panel.kind === "stack" || labels.length < 2) return null;
  return make("ul", { class: "dash-key" }, ...labels.map((label, i) => make("li", {}, make("span", { class: `dash ${DASHES[i % 4]}`, "aria-hidden": "true" }), label)));
}

function lineTraces(panel) {
  const weight = Number($("smoothing").value);
  const several = curves.cohorts.length > 1;
  const traces = [];
  for (const line of panel.lines) {
    const order = labelsOf(panel).indexOf(line.label);
    const colour = seriesColour(several ? line.cohort : order);
    const dash = several ? DASHES[order % 4] : "solid";
    const name = plotText(several && panel.kind !== "stack" ? (labelsOf(panel).length > 1 ? `${line.run}: ${line.label}` : line.run) : line.label);
    const hover = panel.percent ? "%{y:.1%}" : "%{y:.4g}";
    const common = { name, legendgroup: name, hovertemplate: hover, connectgaps: false };
    if (panel.kind === "stack") {
      traces.push({ ...common, type: "bar", x: line.x, y: line.y, marker: { color: seriesColour(order), line: { width: 0 } }, hovertemplate: "%{y:.2f} s" });
    } else if (panel.kind === "evaluation") {
      const bars = line.low && { type: "data", symmetric: false, thickness: 1.4, width: 4, color: colour,
        array: line.high.map((h, i) => h - line.y[i]), arrayminus: line.y.map((y, i) => y - line.low[i]) };
      traces.push({ ...common, mode: "lines+markers", x: line.x, y: line.y, error_y: bars || undefined,
        line: { color: colour, width: 2, dash }, marker: { color: colour, size: 6, symbol: order % 2 ? "square" : "circle" } });
    } else {
      if (line.low) {
        traces.push({ x: line.x, y: line.high, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: name });
        traces.push({ x: line.x, y: line.low, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: fade(colour, 0.16), hoverinfo: "skip", showlegend: false, legendgroup: name });
      }
      for (const raw of line.seeds ?? [line]) {
        traces.push({ x: raw.x, y: raw.y, mode: raw.x.length === 1 ? "markers" : "lines", line: { color: fade(colour, 0.55), width: 1, dash }, marker: { color: colour, size: 6 },
          hoverinfo: "skip", showlegend: false, legendgroup: name });
      }
      traces.push({ ...common, x: line.x, y: smoothed(line.y, weight), customdata: line.y, mode: "lines", line: { color: colour, width: 2.4, dash },
        hovertemplate: panel.percent ? "%{customdata:.1%}" : "%{customdata:.4g}" });
    }
  }
  return traces;
}

function plotLayout(options) {
  const text = themeColour("--muted"), grid = themeColour("--line");
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickfont: { size: 11 }, automargin: true, fixedrange: touch.matches };
  return {
    height: 236, margin: { l: 44, r: 10, t: options.legend ? 30 : 8, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: text }, showlegend: Boolean(options.legend),
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)", traceorder: "normal" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: text, activecolor: themeColour("--text") },
    hovermode: "x unified", hoverlabel: { bgcolor: themeColour("--surface"), bordercolor: grid, font: { color: themeColour("--text") } },
    xaxis: { ...axis, title: { text: "step", font: { size: 11 }, standoff: 6 }, nticks: 7, tickformat: "d" },
    yaxis: { ...axis, tickformat: options.percent ? "~%" : "", hoverformat: "", rangemode: options.percent ? "tozero" : "normal", nticks: 6, exponentformat: "power", showexponent: "all" },
    barmode: "stack", bargap: options.gap ?? 0.1, dragmode: touch.matches ? false : "zoom",
  };
}

function addPlot(element, label, build) {
  element.setAttribute("role", "group"); // not "img": its buttons must stay reachable
  element.setAttribute("aria-label", label);
  plots.set(element, { build, drawn: false });
  plotSeen.observe(element);
}

function drawPlot(element) {
  const plot = plots.get(element);
  const { data, layout } = plot.build();
  const config = { displaylogo: false, responsive: true, displayModeBar: touch.matches ? false : "hover",
    // Named one by one: the default set has a button that uploads the plot.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], plotlyServerURL: "",
    toImageButtonOptions: { format: "svg", filename: element.dataset.file || "plot" } };
  window.Plotly.react(element, data, layout, config);
  plot.drawn = true;
}

const plotSeen = new IntersectionObserver(async (entries) => {
  const seen = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
  if (!seen.length) return;
  await loadPlotly();
  for (const element of seen) if (!plots.get(element).drawn) drawPlot(element);
}, { rootMargin: "300px" });

function redrawPlots() {
  for (const [element, plot] of plots) if (plot.drawn) drawPlot(element);
}

// Around a constant plotly draws -1 to 1, on which a learning rate of 2e-4 is 0.
function rangeOfConstant(panel) {
  const values = unique(panel.lines.flatMap((line) => line.y).filter((value) => value != null));
  if (values.length !== 1 || values[0] === 0) return undefined;
  return values[0] > 0 ? [0, 2 * values[0]] : [2 * values[0], 0];
}

function lastNumbers(panel) {
  return panel.lines.map((line) => {
    const y = line.y.filter((value) => value != null);
    return `${curves.cohorts.length > 1 ? line.run + ", " : ""}${line.label}: from ${short(y[0])} to ${short(y.at(-1))}`;
  }).join("; ");
}

async function startCurves() {
  if (!$("smoothing")) return;
  curves = await unpack("data-curves");
  let section = null, grid = null;
  for (const panel of curves.panels) {
    if (panel.section !== section) {
      section = panel.section;
      grid = make("div", { class: "panel-grid" });
      $("panels").append(make("h3", { text: section }), grid);
    }
    const plot = make("div", { class: "plot", "data-panel": panel.key, "data-file": panel.key });
    grid.append(make("figure", { class: "panel" }, make("figcaption", {}, make("h4", { text: panel.title }), make("span", { class: "unit", text: panel.unit })),
      dashKey(panel), plot, panel.about ? make("p", { class: "about", text: panel.about }) : null));
    addPlot(plot, `${panel.title}. ${lastNumbers(panel)}`, () => {
      const data = lineTraces(panel);
      const legend = data.filter((trace) => trace.showlegend !== false).length > 1 && (curves.cohorts.length < 2 || panel.kind === "stack");
      const layout = plotLayout({ legend, percent: panel.percent, gap: panel.lines[0].x.length > 60 ? 0 : 0.1 });
      layout.yaxis.range = rangeOfConstant(panel);
      return { data, layout };
    });
  }
  if (curves.cohorts.length > 1) drawRunLegend();
  $("smoothing").addEventListener("input", () => {
    $("smoothing-value").textContent = Number($("smoothing").value).toFixed(2);
    redrawPlots();
  });
}

function drawRunLegend() {
  const list = $("run-legend");
  list.replaceChildren(...curves.cohorts.map((label, i) => {
    const mark = make("span", { class: "swatch", "aria-hidden": "true" });
    mark.style.background = seriesColour(i);
    return make("li", {}, mark, label);
  }));
}

async function startOverview() {
  overviews = await unpack("data-overview");
  for (const element of document.querySelectorAll("[data-shares]")) {
    const shares = overviews[element.dataset.shares].shares;
    const kinds = [["all correct", "all_correct", "--good", ""], ["mixed", "mixed", "--accent", "/"], ["all wrong", "all_wrong", "--bad", "x"]];
    element.dataset.file = "groups";
    addPlot(element, `Groups by outcome, last step: ${kinds.map(([name, key]) => `${name} ${Math.round(100 * (shares[key].at(-1) ?? 0))} %`).join(", ")}`, () => ({
      data: kinds.map(([name, key, colour, shape]) => ({ type: "bar", name, x: shares.x, y: shares[key], hovertemplate: "%{y:.0%}",
        marker: { color: themeColour(colour), opacity: 0.85, line: { width: 0 }, pattern: { shape, size: 6, solidity: 0.22, fillmode: "overlay", fgcolor: themeColour("--surface") } } })),
      layout: plotLayout({ legend: true, percent: true, gap: shares.x.length > 60 ? 0 : 0.1 }),
    }));
  }
  for (const element of document.querySelectorAll("[data-moves]")) {
    const { positive, negative, drawn } = overviews[element.dataset.moves];
    const rows = [...positive.slice(0, drawn), ...negative.slice(0, drawn)];
    element.dataset.file = "tokens-over-run";
    addPlot(element, `Mean key-token value of the top tokens: ${rows.map((row) => `${visible(row.token)} ${signed(row.mean)}`).join(", ")}`, () => ({
      data: rows.map((row, i) => ({ name: plotText(visible(row.token)), x: row.x, y: row.y, mode: "lines+markers", marker: { size: 5, symbol: i % 5, color: seriesColour(i % 5) },
        line: { width: 1.6, color: seriesColour(i % 5), dash: row.mean < 0 ? "dash" : "solid" }, hovertemplate: "%{y:+.3f}" })),
      layout: { ...plotLayout({ legend: true }), height: 260, margin: { l: 44, r: 10, t: 48, b: 34 } },
    }));
  }
  for (const element of document.querySelectorAll("[data-piece]")) {
    const text = element.textContent;
    element.textContent = "";
    fillPiece(element, text, false);
  }
}
