// One operation: everything that is known of it, and the two things that a person can do with it. Each change names the
// attempt that was on the screen, so that nothing is done to another.

const LOOK_EVERY = 5000;

const STATES = {
  "in-flight": ["none", "In flight", "The first request is at work. What comes of it is recorded by itself."],
  done: ["well", "Done", "It was answered. Every retry gets this answer, and the service is not asked again."],
  "done-without-body": ["well", "Done, body not kept", "It was answered with a body that was too large to keep, or streamed. Retries are told so, and the service is not asked again."],
  unknown: ["act", "Outcome unknown", ""],
};

let shownRef = null;
/** As the gateway told it last; null: there is none. */
let shownOperation = null;
let isChanging = false;
let lookTimer = null;

function factsOf(operation) {
  const at = (time) => {
    const distance = Date.parse(time) - now();
    const words = distance > 0 ? `in ${lasting(distance)}` : `${lasting(-distance)} ago`;
    return [`${moment(time)} `, make("small", {}, words)];
  };
  const facts = [];
  const fact = (name, value, show = (text) => [String(text)]) => {
    if (value !== null && value !== undefined) facts.push(make("dt", {}, name), make("dd", {}, ...show(value)));
  };
  const code = (text) => [make("code", {}, String(text))];
  fact("State", operation.state, code);
  fact("Reason", operation.reason, code);
  fact("Route", operation.route, code);
  fact("Opened", operation.opened_at, at);
  fact("Settled", operation.settled_at, at);
  fact("Kept until", operation.expires_at, at);
  fact("Status", operation.status);
  fact("Body", operation.body_bytes, (bytes) => [several(bytes, "byte", "bytes")]);
  fact("Attempt", operation.attempt, code);
  fact("Attempts", operation.attempts, (count) => [count === 1 ? "1, the first" : whole(count)]);
  fact("Session", operation.session, code);
  return facts;
}

/** Why nothing can be done; nothing: something can. */
function whyClosed(operation) {
  if (operation.state === "unknown" && operation.attempt === null) return "Nobody can tell which attempt this record belongs to, so it can be neither resolved nor forgotten. See why the gateway cannot read it: an encryption key that is missing, or a record of a newer version.";
  if (status?.changes === "off") return "Changes are switched off: this gateway has no token (admin.token_file).";
  if (operation.state === "in-flight") return "A request at work can be neither resolved nor forgotten: another would run beside it.";
  return "";
}

function showOperation(operation) {
  shownOperation = operation;
  const known = operation ? STATES[operation.state] : ["none", "No record", "No record stands here now."];
  const [tone, title, meaning] = known ?? ["none", operation.state, ""];
  const badge = $("operation-state");
  badge.dataset.tone = tone;
  badge.replaceChildren(sign(), title);
  if (operation) tell($("operation-title"), operation.route ?? "A record without a route");
  else if ($("operation-title").textContent === "…") tell($("operation-title"), "Nothing here");
  const why = operation?.state === "unknown" ? (REASONS[operation.reason]?.[1] ?? `Reason: ${operation.reason}.`) : meaning;
  tell($("operation-meaning"), operation?.state === "unknown" && operation.attempt !== null ? `${why} Nobody but the service knows whether it was processed. Retries are refused.` : why);
  replaceIfOther($("operation-facts"), operation ? factsOf(operation) : []);
  const closed = operation ? whyClosed(operation) : "";
  $("operation-closed").hidden = closed === "";
  tell($("operation-closed"), closed);
  $("resolve").hidden = closed !== "" || operation?.state !== "unknown";
  $("forget").hidden = closed !== "" || !operation;
  tell($("forget-digits"), shownRef.slice(0, 8));
  showConsequences();
}

function showResult(title, text, code, isBad) {
  const box = make("div", { class: isBad ? "result bad" : "result" }, make("b", {}, title), text);
  if (code) box.append(make("small", { class: "mono" }, code));
  $("operation-result").replaceChildren(box);
  $("operation-result").scrollIntoView({ block: "nearest" });
}

function showFailure(failure, isChange) {
  const { title, text, code } = failureInWords(failure, isChange);
  showResult(title, text, code, true);
}

function resetForms() {
  for (const id of ["resolve", "forget-form"]) {
    $(id).reset();
    for (const field of $(id).querySelectorAll("[aria-invalid]")) fault(field, null);
  }
  $("forget").open = false;
  showChoice();
}

async function openOperation(ref) {
  const isOther = ref !== shownRef;
  shownRef = ref;
  if (isOther) resetForms();
  $("operation-result").replaceChildren();
  history.replaceState(null, "", `#${ref}`);
  tell($("operation-ref"), ref);
  if (isOther) {
    shownOperation = null;
    for (const id of ["resolve", "forget", "operation-closed"]) $(id).hidden = true;
    $("operation-facts").replaceChildren();
    tell($("operation-title"), "…");
    tell($("operation-meaning"), "");
    $("operation-state").replaceChildren("asking");
  }
  if (!$("operation").open) $("operation").showModal();
  await look();
  $("operation-title").focus();
}

/** Sees what stands there now. */
async function look() {
  clearTimeout(lookTimer);
  const ref = shownRef;
  let isThere = true;
  try {
    let operation = null;
    try {
      operation = await ask("GET", `/v1/operations/${ref}`);
    } catch (failure) {
      if (!(failure instanceof Refused && failure.status === 404)) throw failure;
      isThere = false;
    }
    if (ref !== shownRef || isChanging || !$("operation").open) return;
    const isOther = shownOperation && (operation?.state !== shownOperation.state || operation?.attempt !== shownOperation.attempt);
    if (isOther) {
      showResult("It has changed while you were looking.", "What you see below is what stands there now.", "", true);
      walk();
    }
    showOperation(operation);
  } catch (failure) {
    if (ref === shownRef) showFailure(failure, false);
  } finally {
    // Where nothing stands there is nothing to watch.
    if (isThere && ref === shownRef && $("operation").open) lookTimer = setTimeout(look, LOOK_EVERY);
  }
}

function closed() {
  clearTimeout(lookTimer);
  history.replaceState(null, "", location.pathname);
  const row = rows.get(shownRef);
  if (row) row.querySelector("button").focus();
  else if (document.activeElement === document.body) $("waiting").focus();
}

const chosenOutcome = () => $("resolve").elements.outcome.value;

function showChoice() {
  const outcome = chosenOutcome();
  $("answer").hidden = outcome !== "complete";
  $("resolve-rest").hidden = outcome === "";
  $("resolve-do").classList.toggle("danger", outcome === "release");
  tell($("resolve-do"), outcome === "release" ? "Release the key" : "Record this answer");
  showConsequences();
}

/** Says in words what the button will do. */
function showConsequences() {
  const box = $("consequence");
  if (chosenOutcome() === "release") {
    box.classList.add("grave");
    box.replaceChildren(make("strong", {}, "The next request with this key will be sent to the service again."), " If the service did process this one, its effect happens twice.");
  } else {
    box.classList.remove("grave");
    const body = bodyBytes();
    const size = body === null ? "a body that is not base64" : body === 0 ? "no body" : `a body of ${several(body, "byte", "bytes")}`;
    const count = Object.keys(headersGiven().headers).length;
    box.replaceChildren(make("strong", {}, `Every retry of this request will get ${$("answer-status").value.trim() || "this answer"}, ${several(count, "header", "headers")} and ${size}.`), " The service is not asked again.");
  }
  const wasDone = shownOperation?.state === "done" || shownOperation?.state === "done-without-body";
  $("forget-consequence").classList.add("grave");
  const meaning = wasDone ? " The recorded answer is lost, and what the first request did happens a second time." : " If the service did process this one, its effect happens twice.";
  $("forget-consequence").replaceChildren(make("strong", {}, "The record is removed. The next request with this key will be sent to the service again."), meaning);
}

/** The headers as they stand in the field: an object, or the first line that is none. */
function headersGiven() {
  const headers = Object.create(null);
  for (const line of $("answer-headers").value.split("\n")) {
    if (line.trim() === "") continue;
    const match = /^\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*(.*?)\s*$/.exec(line);
    if (!match) return { headers, wrong: line };
    const name = match[1].toLowerCase();
    headers[name] = name in headers ? [headers[name], match[2]].flat() : match[2];
  }
  return { headers, wrong: null };
}

/** How long the body is; null: it is not what it is said to be. */
function bodyBytes() {
  const text = $("answer-body").value;
  if (!$("answer-base64").checked) return new TextEncoder().encode(text).length;
  try {
    return atob(text.replace(/\s/g, "")).length;
  } catch {
    return null;
  }
}

/** The answer as the person gives it; null: something is wrong with it, and said beside the field. */
function answerGiven() {
  const code = $("answer-status").value.trim();
  const { headers, wrong } = headersGiven();
  const faults = [
    fault($("answer-status"), /^[2-5]\d\d$/.test(code) ? null : "A status from 200 to 599."),
    fault($("answer-headers"), wrong === null ? null : `Not “name: value”: ${wrong.trim().slice(0, 60)}`),
    fault($("answer-body"), bodyBytes() === null ? "This is not base64." : null),
  ];
  if (faults.includes(true)) return null;
  const body = $("answer-body").value;
  return { status: Number(code), headers, ...($("answer-base64").checked ? { body_base64: body.replace(/\s/g, "") } : { body }) };
}

function reasonGiven(field) {
  const reason = field.value.trim();
  return fault(field, reason === "" ? "Say why; it is kept in the audit log." : null) ? null : reason;
}

/** Sees to it that there is a token; false: there is none, and it is said beside the field. */
function tokenGiven(field) {
  if (token !== null) return true;
  const text = field.value.trim();
  if (fault(field, text === "" ? "Changes need the token." : isToken(text) ? null : "A token is one word of printable characters.")) return false;
  holdToken(text);
  field.value = "";
  return true;
}

function focusFirstFault(form) {
  form.querySelector("[aria-invalid]")?.focus();
}

/** Makes a change, shows what came of it, and then what stands there. */
async function makeChange(form, tokenField, method, path, body, done) {
  const button = form.querySelector("[type=submit]");
  isChanging = true;
  button.disabled = true;
  try {
    const answer = await change(method, path, body);
    resetForms();
    showResult(done, "", "", false);
    shownOperation = null;
    showOperation(answer?.operation ?? null);
    if (answer?.operation?.state !== "unknown") waiting.delete(shownRef);
    showWaiting(false);
    announce(done);
    walk();
    $("operation-result").focus();
  } catch (failure) {
    showFailure(failure, true);
    if (failure instanceof Refused && failure.status === 401) {
      fault(tokenField, "The gateway does not take this token.");
      tokenField.focus();
    } else {
      $("operation-result").focus();
    }
    if (failure instanceof Refused && [404, 409].includes(failure.status)) shownOperation = null;
  } finally {
    isChanging = false;
    button.disabled = false;
    if (shownOperation === null) look();
  }
}

async function resolve(event) {
  event.preventDefault();
  if (isChanging || !shownOperation) return;
  const outcome = chosenOutcome();
  const answer = outcome === "complete" ? answerGiven() : {};
  const reason = reasonGiven($("reason"));
  const hasToken = tokenGiven($("resolve-token"));
  if (answer === null || reason === null || !hasToken) {
    focusFirstFault($("resolve"));
    return;
  }
  const body = { outcome, expected_attempt: shownOperation.attempt, reason, ...answer };
  const done = outcome === "release" ? "Released. The next request with this key is a first one." : "Recorded. Every retry gets this answer.";
  await makeChange($("resolve"), $("resolve-token"), "POST", `/v1/operations/${shownRef}/resolve`, body, done);
}

async function forget(event) {
  event.preventDefault();
  if (isChanging || !shownOperation) return;
  const reason = reasonGiven($("forget-reason"));
  const isMeant = $("forget-word").value.trim().toLowerCase() === shownRef.slice(0, 8);
  fault($("forget-word"), isMeant ? null : "These are not the first 8 digits of the reference.");
  const hasToken = tokenGiven($("forget-token"));
  if (reason === null || !isMeant || !hasToken) {
    focusFirstFault($("forget-form"));
    return;
  }
  const query = new URLSearchParams({ expected_attempt: shownOperation.attempt });
  await makeChange($("forget-form"), $("forget-token"), "DELETE", `/v1/operations/${shownRef}?${query}`, { reason }, "Forgotten. The next request with this key is a first one.");
}

function startOperation() {
  $("operation").addEventListener("close", closed);
  $("operation-close").addEventListener("click", () => $("operation").close());
  $("operation").addEventListener("click", (event) => {
    if (event.target === $("operation")) $("operation").close();
  });
  $("resolve").addEventListener("change", showChoice);
  $("resolve").addEventListener("input", showConsequences);
  $("resolve").addEventListener("submit", resolve);
  $("forget-form").addEventListener("submit", forget);
  $("reason").addEventListener("input", () => {
    const length = $("reason").value.length;
    tell($("reason-count"), length < 400 ? "kept in the audit log; no secrets" : `${500 - length} characters left`);
  });
}
