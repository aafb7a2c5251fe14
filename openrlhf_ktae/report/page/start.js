// Helpers, packed data, theme. Text of models and data sets goes through textContent only.
const $ = (id) => document.getElementById(id);
const root = document.documentElement;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

async function unpackText(id) {
  const binary = atob($(id).textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
const unpack = async (id) => JSON.parse(await unpackText(id));

const themeColour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const themeListeners = [];

function remembered(name, value) {
  // Some browsers refuse storage to pages opened from disk; the page then just forgets.
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch { /* nothing is lost but the preference */ }
  return null;
}

function startTheme() {
  const stored = remembered("openrlhf-ktae-theme");
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered("openrlhf-ktae-theme", root.dataset.theme);
    themeListeners.forEach((listener) => listener());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeListeners.forEach((listener) => listener()));
}

function signed(value, digits = 3) {
  if (value == null) return "unknown";
  return (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
}

function short(value) {
  if (value == null) return "unknown";
  if (value === 0 || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  const text = size < 0.001 || size >= 1e5 ? size.toExponential(2) : size.toPrecision(3);
  return (value < 0 ? "−" : "") + text;
}

// Fills an element with a token's text: every space, tab and newline stays in the text and gets a visible mark.
function fillPiece(element, text, breaks = true) {
  if (text === "") {
    element.append(make("i", { class: "nothing" }));
    return element;
  }
  for (const part of text.split(/(\r?\n|[ \t\u0000-\u001f\u007f\u200b-\u200f\u202a-\u202e\ufeff])/)) {
    if (part === "") continue;
    if (part === " ") element.append(make("i", { class: "sp", text: " " }));
    else if (part === "\t") element.append(make("i", { class: "tab", text: "\t" }));
    else if (part.endsWith("\n")) element.append(make("i", { class: "nl" }), breaks ? "\n" : "");
    else if (part.length === 1 && /[\u0000-\u001f\u007f\u200b-\u200f\u202a-\u202e\ufeff]/.test(part)) {
      element.append(make("i", { class: "control", text: `U+${part.charCodeAt(0).toString(16).padStart(4, "0")}` }));
    } else element.append(part);
  }
  return element;
}

const unique = (values) => [...new Set(values)];
const visible = (text) => text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥");

// What a screen reader says of a token without any letter.
const spoken = (text) => [...text].map((c) => ({ " ": "space", "\n": "newline", "\t": "tab" })[c] ?? "control character").join(" ") || "empty token";
