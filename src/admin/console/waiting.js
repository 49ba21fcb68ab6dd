// The unknown outcomes that wait for a person, the oldest first. The gateway lists records in no order, and looks
// through a bounded number at a time; so all pages are walked in the background, and the page says how far it has got.

const PAGE = 500;
const SHOWN_AT_ONCE = 200;
const KEPT_MAX = 20000;
const REST_MIN = 20 * 1000;
const REST_AFTER_NEWS = 5 * 1000;
const REST_AFTER_FAILURE = 10 * 1000;

const REASONS = {
  "connection-lost": ["connection lost", "The connection to the service broke after the request was sent."],
  "response-timeout": ["no answer in time", "The service did not answer in time."],
  "answer-cut-short": ["answer cut short", "The service’s answer began and did not end."],
  "protocol-switched": ["protocol switched", "The service switched protocols instead of answering."],
  "server-error": ["server error", "The service answered with a server error, which this route takes for an unknown outcome."],
  "gateway-stopped": ["gateway stopped", "The gateway was stopped before the answer came."],
  "earlier-attempt": ["earlier attempt", "The last attempt was not processed, and what came of one before it is unknown."],
  "session-died": ["gateway died", "The gateway process that sent the request died before an answer was recorded."],
  unreadable: ["record unreadable", "The record cannot be read: a newer version wrote it, its encryption key is missing, or it is damaged."],
};

const reasonInWords = (reason) => REASONS[reason]?.[0] ?? String(reason ?? "not told");

/** By reference. */
let waiting = new Map();
const rows = new Map();
let shownMax = SHOWN_AT_ONCE;
let walkTimer = null;
let isWalking = false;
let isWantedAgain = false;
let walkEndedAt = null;
let walkTook = 0;
let unknownVerdicts = null;

const pauseFor = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

/** The oldest first; what has no date, last. */
function inOrder(operations) {
  const age = (operation) => (operation.opened_at === null ? Number.POSITIVE_INFINITY : Date.parse(operation.opened_at));
  const undated = (one, other) => (one.ref < other.ref ? -1 : 1);
  return [...operations].sort((one, other) => {
    const [a, b] = [age(one), age(other)];
    return a === b ? undated(one, other) : a - b;
  });
}

async function walk() {
  if (isWalking) {
    isWantedAgain = true;
    return;
  }
  isWalking = true;
  isWantedAgain = false;
  clearTimeout(walkTimer);
  const began = performance.now();
  let rest;
  try {
    await walkAllPages();
    walkTook = performance.now() - began;
    walkEndedAt = Date.now();
    // A walk reads every record there is: it may cost a twentieth of the time, no more.
    rest = Math.max(REST_MIN, walkTook * 20);
  } catch (failure) {
    tell($("walked"), `The search broke off: ${failureInWords(failure, false).title}`);
    rest = REST_AFTER_FAILURE;
  }
  isWalking = false;
  if (isWantedAgain) rest = 0;
  walkTimer = setTimeout(walkIfSeen, rest);
}

/** A page that nobody looks at asks for nothing that is dear. */
function walkIfSeen() {
  if (document.hidden) walkTimer = setTimeout(walkIfSeen, REST_AFTER_NEWS);
  else walk();
}

/** Looks again soon, because something was counted that may have made an unknown outcome. */
function noticeUnknown(count) {
  const isNews = unknownVerdicts !== null && count !== unknownVerdicts;
  unknownVerdicts = count;
  if (!isNews || isWalking || walkEndedAt === null) return;
  clearTimeout(walkTimer);
  const rested = Date.now() - walkEndedAt;
  walkTimer = setTimeout(walkIfSeen, Math.max(300, Math.max(REST_AFTER_NEWS, walkTook * 4) - rested));
}

async function walkAllPages() {
  const found = new Map();
  let looked = 0;
  let cursor = null;
  do {
    const began = performance.now();
    const place = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await ask("GET", `/v1/operations?state=unknown&limit=${PAGE}${place}`);
    for (const operation of page.operations) if (found.size < KEPT_MAX) found.set(operation.ref, operation);
    looked += page.looked_through;
    if (page.next === cursor) break;
    cursor = page.next;
    if (cursor === null) break;
    if (walkEndedAt === null) {
      waiting = found;
      showWaiting(false);
    }
    tell($("walked"), `Looking: ${several(looked, "record", "records")} so far, ${whole(found.size)} unknown …`);
    await pauseFor(Math.min(2000, performance.now() - began));
  } while (found.size < KEPT_MAX);
  const before = waiting.size;
  const wasComplete = walkEndedAt !== null;
  waiting = found;
  showWaiting(true);
  const all = found.size < KEPT_MAX ? `All ${several(looked, "record was", "records were")} looked through` : `There are more: the search stopped at ${whole(KEPT_MAX)}`;
  tell($("walked"), `${all} at ${clockTime(now())}.`);
  if (!wasComplete || before !== found.size) announce(`${several(found.size, "unknown outcome waits", "unknown outcomes wait")} for a person.`);
}

function rowOf(operation) {
  const { ref } = operation;
  const open = make("button", { type: "button", class: "link" }, ref.slice(0, 8));
  open.setAttribute("aria-label", `Open operation ${ref.slice(0, 8)}, ${operation.route ?? "route unknown"}, ${reasonInWords(operation.reason)}`);
  const cells = [
    make("td", { role: "cell", class: "age" }),
    make("td", { role: "cell", class: "route" }, operation.route ?? "–"),
    make("td", { role: "cell", class: "why" }, reasonInWords(operation.reason)),
    make("td", { role: "cell", class: "who", title: operation.attempt ?? "" }, operation.attempt ? `${operation.attempt.slice(0, 8)}${operation.attempts > 1 ? ` · ${operation.attempts}` : ""}` : "–"),
    make("td", { role: "cell", class: "what" }, open),
  ];
  const row = make("tr", { role: "row" }, ...cells);
  row.dataset.ref = ref;
  row.operation = operation;
  return row;
}

/** Brings the rows in line without moving those that stay, so that the focus stays too. */
function placeRows(operations) {
  const body = $("waiting-rows");
  const wanted = new Set(operations.map(({ ref }) => ref));
  for (const [ref, row] of rows) {
    if (wanted.has(ref)) continue;
    row.remove();
    rows.delete(ref);
  }
  let at = body.firstElementChild;
  for (const operation of operations) {
    const { ref } = operation;
    const stands = rows.get(ref);
    if (stands && stands.operation.attempt === operation.attempt && stands.operation.reason === operation.reason) {
      if (stands === at) at = at.nextElementSibling;
      else body.insertBefore(stands, at);
      continue;
    }
    const row = rowOf(operation);
    rows.set(ref, row);
    if (stands === at && stands) at = at.nextElementSibling;
    stands?.remove();
    body.insertBefore(row, at);
  }
}

function offer(select, values, inWords) {
  const chosen = select.value;
  const kept = [...new Set(values)].sort();
  if (chosen !== "" && !kept.includes(chosen)) kept.push(chosen);
  const options = [make("option", { value: "" }, "all"), ...kept.map((value) => make("option", { value }, inWords(value)))];
  const signature = kept.join("\n");
  if (select.signature === signature) return;
  select.signature = signature;
  select.replaceChildren(...options);
  select.value = chosen;
}

function showWaiting(isComplete) {
  const all = [...waiting.values()];
  offer($("waiting-route"), all.map(({ route }) => route ?? ""), (route) => route || "unknown");
  offer($("waiting-reason"), all.map(({ reason }) => reason ?? ""), reasonInWords);
  const [route, reason] = [$("waiting-route").value, $("waiting-reason").value];
  const chosen = inOrder(all.filter((operation) => (route === "" || operation.route === route) && (reason === "" || operation.reason === reason)));
  placeRows(chosen.slice(0, shownMax));
  $("waiting-table").hidden = chosen.length === 0;
  $("more").hidden = chosen.length <= shownMax;
  tell($("more"), `Show ${whole(Math.min(SHOWN_AT_ONCE, chosen.length - shownMax))} more of ${whole(chosen.length)}`);
  const none = $("waiting-none");
  none.hidden = chosen.length > 0 || !(isComplete || walkEndedAt !== null);
  if (all.length > 0) none.replaceChildren("None of this route and reason.");
  else if (!none.hidden) none.replaceChildren(make("b", {}, "Nothing waits for a person"), "Every outcome that the gateway has recorded is known.");
  showWaitingFigure(all, isComplete || walkEndedAt !== null);
  showAges();
}

function showWaitingFigure(all, isComplete) {
  tell($("n-unknown"), isComplete ? whole(all.length) : all.length > 0 ? `${whole(all.length)}+` : "–");
  const oldest = inOrder(all).find(({ opened_at: opened }) => opened !== null);
  $("tile-unknown").dataset.oldest = oldest ? oldest.opened_at : "";
  $("tile-unknown").classList.toggle("calls", all.length > 0);
  document.title = all.length > 0 ? `(${whole(all.length)}) Onceway` : "Onceway";
  drawIcon(all.length > 0);
}

/** What changes with the clock alone. */
function showAges() {
  for (const row of rows.values()) {
    const opened = row.operation.opened_at;
    tell(row.firstElementChild, opened === null ? "no date" : lasting(now() - Date.parse(opened)));
  }
  const { oldest } = $("tile-unknown").dataset;
  if (oldest === undefined) return;
  const calm = waiting.size > 0 ? "without a date" : "none waits";
  tell($("n-unknown-note"), oldest ? `oldest ${lasting(now() - Date.parse(oldest))}` : calm);
}

function openRow(event) {
  const row = event.target.closest("tr");
  if (!row || String(document.getSelection()) !== "") return;
  openOperation(row.dataset.ref);
}

/** Moves the focus from row to row. */
function stepRow(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  if (!step) return;
  const row = event.target.closest("tr")?.[step];
  if (!row) return;
  event.preventDefault();
  row.querySelector("button").focus();
}

function startWaiting() {
  $("waiting-rows").addEventListener("click", openRow);
  $("waiting-rows").addEventListener("keydown", stepRow);
  for (const id of ["waiting-route", "waiting-reason"]) {
    $(id).addEventListener("change", () => {
      shownMax = SHOWN_AT_ONCE;
      showWaiting(false);
    });
  }
  $("again").addEventListener("click", walk);
  $("more").addEventListener("click", () => {
    const first = $("waiting-rows").children.length;
    shownMax += SHOWN_AT_ONCE;
    showWaiting(false);
    $("waiting-rows").children[first]?.querySelector("button").focus();
  });
  setInterval(showAges, 5000);
  walk();
}
