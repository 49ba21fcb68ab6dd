// Asking the gateway. Three things can come of it: an answer, a refusal with a problem document, or nothing, after
// which nobody knows whether a change was made. The token lives in this variable and nowhere else.

const ANSWER_PATIENCE = 8000;
const CHANGE_PATIENCE = 30000;

let token = null;

/** The gateway refused. */
class Refused extends Error {
  constructor(status, problem) {
    super(problem.title || `the gateway answered ${status}`);
    this.status = status;
    this.code = problem.code || "";
    this.detail = problem.detail || "";
    this.type = problem.type || "";
  }
}

/** No answer came. */
class Unanswered extends Error {}

async function ask(method, path, body, headers = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers }, cache: "no-store", redirect: "error", credentials: "omit" };
  options.signal = AbortSignal.timeout(method === "GET" ? ANSWER_PATIENCE : CHANGE_PATIENCE);
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (failure) {
    throw new Unanswered(failure.name === "TimeoutError" ? "it did not answer in time" : "it could not be reached");
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  // The header counts in seconds, so a difference below two is none.
  if (!Number.isNaN(date)) clockAhead = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
  let data = null;
  try {
    data = text === "" ? null : JSON.parse(text);
  } catch {
    data = null;
  }
  if (!response.ok) throw new Refused(response.status, data && typeof data === "object" ? data : {});
  if (data === null && response.status !== 204) throw new Unanswered("what it answered cannot be read");
  return data;
}

/** Asks for a change. A token that the gateway does not take is dropped. */
async function change(method, path, body) {
  try {
    return await ask(method, path, body, token === null ? {} : { Authorization: `Bearer ${token}` });
  } catch (failure) {
    if (failure instanceof Refused && failure.status === 401) holdToken(null);
    throw failure;
  }
}

/** Takes the token, or drops it. */
function holdToken(text) {
  token = text === null || text === "" ? null : text;
  $("drop-token").hidden = token === null;
  for (const line of document.querySelectorAll(".token-line")) line.hidden = token !== null;
}

/** What a token must look like to travel in a header. */
const isToken = (text) => /^[\x21-\x7e]+$/.test(text);

/** A failure in words: its title, what it means, and its code. */
function failureInWords(failure, isChange) {
  if (failure instanceof Refused) {
    const code = [failure.status, failure.code].filter(Boolean).join(" ");
    return { title: failure.message, text: failure.detail, code };
  }
  if (failure instanceof Unanswered) {
    const text = isChange ? "Nobody knows whether the change was made. See what stands there now, before you try again." : "";
    return { title: `No answer from the gateway: ${failure.message}.`, text, code: "" };
  }
  return { title: "This page failed.", text: String(failure), code: "" };
}
