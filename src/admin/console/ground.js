// What the other parts stand on: elements, words for time and numbers, and saying something aloud.
// Nothing here or elsewhere makes markup out of data: text is only ever set as text.

const $ = (id) => document.getElementById(id);

/** An element with properties, and children that are elements or text. */
function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Sets a text only where it differs, so that nothing is drawn or read out again for nothing. */
function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Milliseconds by which the gateway's clock is ahead of this one's. */
let clockAhead = 0;

const now = () => Date.now() + clockAhead;

/** A length of time in its two largest units. */
function lasting(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [unit, length] = parts[first];
  const whole = Math.floor(seconds / length);
  const next = parts[first + 1];
  const rest = next ? Math.floor((seconds % length) / next[1]) : 0;
  return rest > 0 ? `${whole} ${unit} ${rest} ${next[0]}` : `${whole} ${unit}`;
}

/** A moment in UTC, as logs have it. */
function moment(text) {
  const time = Date.parse(text);
  if (Number.isNaN(time)) return String(text);
  return new Date(time).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
}

const clockTime = (time) => new Date(time).toISOString().slice(11, 19) + " UTC";

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const whole = (number) => (Number.isFinite(number) ? grouped.format(number) : "–");

/** A rate that can be read at a glance. */
function pace(perSecond) {
  if (!Number.isFinite(perSecond)) return "–";
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "< 0.1";
  return perSecond < 10 ? perSecond.toFixed(1) : grouped.format(perSecond);
}

const several = (count, one, many) => `${whole(count)} ${count === 1 ? one : many}`;

/** Says something to those who listen to the page. */
function announce(text) {
  tell($("announce"), text);
}

/** Says beside a field what is wrong with it; nothing: it is right. */
function fault(field, text) {
  tell($(`${field.id}-error`), text ?? "");
  if (text) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
  return Boolean(text);
}

function sign() {
  return make("span", { class: "sign", "aria-hidden": "true" });
}

function word(tone, text) {
  return make("span", { class: "word", "data-tone": tone }, sign(), text);
}
