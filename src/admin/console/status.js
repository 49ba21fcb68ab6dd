// The state of the gateway, asked for every two seconds: figures, rates, charts, and the health of what is behind it.

const POLL_EVERY = 2000;
const WINDOW = 5 * 60 * 1000;
const RECENT = 10 * 1000;

/** The rate to which the charts reach at least: a lone event is to be seen, and not to look like a flood. */
const LOW = 0.25;

const VERDICTS = [
  ["executed", "well", "sent to the service, and the answer kept"],
  ["replayed", "well", "given the first answer again; the service was not asked"],
  ["released", "well", "provably not processed: the key is free again"],
  ["none", "well", "came without a key"],
  ["in-flight", "look", "came while the first request was at work"],
  ["mismatch", "look", "used a key of a different request"],
  ["body-not-kept", "look", "answered once with a body too large to keep"],
  ["unknown", "act", "nobody knows what came of the first request"],
  ["unstored", "act", "answered, but the store did not take the answer"],
  ["unprotected", "act", "sent without protection: the store was away"],
];

/** Whether the gateway tells the level of its log. */
let isLevelTold = false;

/** Samples of the last five minutes: when, and every counter then. A gap is a sample without counters. */
let samples = [];
let status = null;
let statusAt = null;
let statusFailure = null;
let watchedSince = null;
const verdictRows = new Map();

function keepSample(verdicts) {
  const at = performance.now();
  const before = samples.findLast((sample) => sample.verdicts);
  // Counters that fall belong to another process: what was counted before is no measure for it.
  const fell = before && Object.entries(before.verdicts).some(([name, count]) => (verdicts[name] ?? 0) < count);
  if (fell) samples = [];
  if (watchedSince === null || fell) watchedSince = at;
  samples.push({ at, verdicts });
  dropOldSamples(at);
}

function dropOldSamples(at) {
  while (samples.length > 1 && samples[0].at < at - WINDOW) samples.shift();
}

function keepGap() {
  if (samples.length > 0 && samples[samples.length - 1].verdicts) samples.push({ at: performance.now(), verdicts: null });
}

/** How many of them came within the last milliseconds, and how long these were in truth. */
function within(counter, milliseconds) {
  const known = samples.filter((sample) => sample.verdicts);
  const last = known[known.length - 1];
  const first = known.find((sample) => sample.at >= last.at - milliseconds - POLL_EVERY / 2);
  const seconds = (last.at - first.at) / 1000;
  return { count: counter(last.verdicts) - counter(first.verdicts), seconds };
}

function perSecond(counter) {
  const { count, seconds } = within(counter, RECENT);
  return seconds > 0 ? count / seconds : Number.NaN;
}

/** Draws the rate of the ten seconds before each sample, the newest at the right; nothing across a gap. */
function draw(chart, counter) {
  const end = samples[samples.length - 1].at;
  const strokes = [];
  let highest = LOW;
  let first = 0;
  samples.forEach((sample, index) => {
    if (!sample.verdicts) {
      first = index + 1;
      return;
    }
    while (samples[first].at < sample.at - RECENT - POLL_EVERY / 2 && first < index) first += 1;
    if (first >= index) return;
    const begin = samples[first];
    const rate = ((counter(sample.verdicts) - counter(begin.verdicts)) * 1000) / Math.max(1, sample.at - begin.at);
    highest = Math.max(highest, rate);
    if (strokes.length === 0 || !samples[index - 1].verdicts || first === index - 1) strokes.push([[samples[index - 1].at, rate]]);
    strokes[strokes.length - 1].push([sample.at, rate]);
  });
  const x = (at) => (300 - ((end - at) / WINDOW) * 300).toFixed(1);
  const y = (rate) => (39 - (rate / highest) * 36).toFixed(1);
  const line = strokes.map((points) => "M" + points.map(([at, rate]) => `${x(at)} ${y(rate)}`).join("L"));
  const area = strokes.map((points, index) => `${line[index]}L${x(points[points.length - 1][0])} 39L${x(points[0][0])} 39Z`);
  chart.querySelector(".line").setAttribute("d", line.join(""));
  chart.querySelector(".area").setAttribute("d", area.join(""));
}

function verdictRow(name) {
  const known = VERDICTS.find(([verdict]) => verdict === name);
  const chart = $("spark").content.firstElementChild.cloneNode(true);
  const [rate, recent, total] = ["num", "num recent", "num total"].map((kind) => make("td", { class: kind, role: "cell" }));
  const label = make("span", { class: "name" }, sign(), name);
  const head = make("td", { role: "rowheader" }, label);
  if (known) head.append(make("small", {}, known[2]));
  const row = make("tr", { role: "row" }, head, make("td", { class: "chart-cell", role: "cell" }, chart), rate, recent, total);
  $("verdict-rows").append(row);
  return { row, label, chart, rate, recent, total, tone: known ? known[1] : "look" };
}

function showVerdicts(verdicts) {
  const order = VERDICTS.map(([name]) => name);
  const names = Object.keys(verdicts);
  const shown = order.filter((name) => name in verdicts).concat(names.filter((name) => !order.includes(name)).sort());
  for (const name of shown) {
    const counter = (counts) => counts[name] ?? 0;
    if (!verdictRows.has(name)) verdictRows.set(name, verdictRow(name));
    const { row, label, chart, rate, recent, total, tone } = verdictRows.get(name);
    const { count } = within(counter, WINDOW);
    const isAtRest = count === 0;
    row.classList.toggle("rest", isAtRest);
    // Only what happens now is marked: a total from last week calls nobody.
    const shownTone = isAtRest || tone === "look" ? "none" : tone;
    label.dataset.tone = shownTone;
    row.dataset.tone = shownTone === "act" ? "act" : "none";
    tell(rate, pace(perSecond(counter)));
    tell(recent, whole(count));
    tell(total, whole(verdicts[name]));
    draw(chart, counter);
  }
}

function showHealth(state) {
  const { store } = state;
  const storeWord = !store ? word("none", "not open yet") : store.reachable ? word("well", "reachable") : word("act", "out of reach");
  const storeName = store ? `Store · ${store.name}` : "Store";
  const groups = [make("div", { class: "group" }, make("div", { class: "group-head" }, make("b", {}, storeName), storeWord))];
  for (const upstream of state.upstreams) {
    const well = upstream.servers.filter((server) => server.healthy).length;
    const all = upstream.servers.length;
    const lines = upstream.servers.map((server) =>
      make("li", {}, make("code", {}, server.address), server.healthy ? word("well", "healthy") : word("act", "failing"), make("span", { class: "load" }, `${whole(server.in_flight)} in flight`)));
    const summary = well === all ? word("well", all === 1 ? "healthy" : `all ${all} healthy`) : word("act", `${well} of ${all} healthy`);
    groups.push(make("div", { class: "group" }, make("div", { class: "group-head" }, make("b", {}, upstream.name), summary), make("ul", {}, ...lines)));
  }
  replaceIfOther($("health"), groups);
}

/** Takes the new children only if they say something else. */
function replaceIfOther(parent, children) {
  const stand = [...parent.children];
  const isSame = stand.length === children.length && children.every((child, index) => child.isEqualNode(stand[index]));
  if (!isSame) parent.replaceChildren(...children);
}

const READINESS = {
  ready: ["well", "ready"],
  starting: ["none", "starting"],
  draining: ["act", "draining: it takes no more requests"],
  "store-unreachable": ["act", "the store is out of reach: requests are refused"],
};

function showReadiness(tone, text) {
  const pill = $("readiness");
  pill.dataset.tone = tone;
  const shown = $("readiness-word");
  if (shown.textContent !== text && shown.textContent !== "asking") announce(`The gateway: ${text}`);
  tell(shown, text);
}

function showGateway(state) {
  const changes = state.changes === "token" ? "allowed with the token" : "switched off: admin.token_file is not set";
  const facts = [["Version", state.version], ["Started", moment(state.started_at)], ["Changes", changes]];
  replaceIfOther($("gateway-facts"), facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  $("level-form").hidden = state.changes !== "token" || !isLevelTold;
  tell($("routes-count"), String(state.routes.length));
  const routes = state.routes.map((route) => {
    const scope = route.scope.length > 0 ? `callers told apart by ${route.scope.join(", ")}` : "one space for all callers";
    return make("li", {}, make("code", {}, (route.host ?? "") + route.path), make("small", {}, route.guarded ? scope : "not guarded"));
  });
  replaceIfOther($("routes"), routes);
}

function showStatus(state) {
  const [tone, text] = READINESS[state.readiness] ?? ["act", state.readiness];
  showReadiness(tone, text);
  tell($("version"), state.version);
  keepSample(state.verdicts);
  const all = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);
  tell($("n-rate"), pace(perSecond(all)));
  draw($("rate-chart"), all);
  tell($("n-claims"), whole(state.claims_in_flight));
  tell($("n-waiters"), whole(state.waiters));
  tell($("n-requests"), whole(state.requests_in_flight));
  showVerdicts(state.verdicts);
  showHealth(state);
  showGateway(state);
  offerRoutes(state.routes);
  noticeUnknown(state.verdicts.unknown ?? 0);
}

/** What changes with the clock alone: the uptime, and how old it is what is shown. */
function showTime() {
  if (status) tell($("uptime"), `up ${lasting(now() - Date.parse(status.started_at))}`);
  if (watchedSince !== null) {
    const watched = performance.now() - watchedSince;
    tell($("watched"), watched < WINDOW ? `watched for ${lasting(watched)}` : "");
  }
  const isLost = statusFailure !== null;
  $("lost").hidden = !isLost;
  document.body.classList.toggle("stale", isLost && statusAt !== null);
  if (!isLost) return;
  const { title, text, code } = failureInWords(statusFailure, false);
  const age = statusAt === null ? "Nothing has been seen yet." : `What you see is ${lasting(Date.now() - statusAt)} old.`;
  tell($("lost-title"), title);
  tell($("lost-text"), [text, code && `(${code})`, age].filter(Boolean).join(" "));
}

async function poll() {
  const wasLost = statusFailure !== null;
  try {
    status = await ask("GET", "/v1/status");
    statusFailure = null;
    statusAt = Date.now();
    showStatus(status);
    if (wasLost) {
      announce("The gateway answers again.");
      showLevel();
    }
  } catch (failure) {
    statusFailure = failure;
    keepGap();
    showReadiness("act", "no word from it");
    if (!wasLost) announce(failureInWords(failure, false).title);
  }
  showTime();
  setTimeout(poll, POLL_EVERY);
}
