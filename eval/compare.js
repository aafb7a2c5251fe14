"use strict";
const narrow = matchMedia("(max-width: 700px)").matches;
for (const element of document.querySelectorAll("script[data-plot]")) {
  const {data, layout} = JSON.parse(element.textContent);
  // Labels that slant to the right would leave the page, and plotly hides those.
  if (narrow) layout.xaxis.tickangle = -45;
  Plotly.newPlot(element.dataset.plot, data, layout, {displaylogo: false, responsive: true, plotlyServerURL: "",
    displayModeBar: narrow ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]});
}
