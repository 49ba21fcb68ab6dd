// Shortcuts, the log's level, the small dialogs, the icon; and the start of everything.

function drawIcon(isCalling) {
  if ($("icon").calling === isCalling) return;
  $("icon").calling = isCalling;
  const canvas = make("canvas", { width: 32, height: 32 });
  const pen = canvas.getContext("2d");
  pen.lineWidth = 5;
  pen.strokeStyle = "#2f86cf";
  pen.beginPath();
  pen.arc(16, 16, 12, 0, 2 * Math.PI);
  pen.stroke();
  if (isCalling) {
    pen.fillStyle = "#e05a00";
    pen.beginPath();
    pen.arc(23, 23, 9, 0, 2 * Math.PI);
    pen.fill();
  }
  $("icon").href = canvas.toDataURL("image/png");
}

/** Asks for the token where no form has a field for it. Resolves to whether there is one. */
function askToken() {
  if (token !== null) return Promise.resolve(true);
  $("ask-token-field").value = "";
  $("ask-token").showModal();
  return new Promise((resume) => {
    $("ask-token").addEventListener("close", () => resume(token !== null), { once: true });
  });
}

async function showLevel() {
  try {
    const { level } = await ask("GET", "/v1/log-level");
    // A level may be finer than one word: then it is told and none is chosen.
    $("level").value = [...$("level").options].some(({ value }) => value === level) ? level : "info";
    tell($("level-now"), `now ${level}`);
    isLevelTold = true;
  } catch (failure) {
    isLevelTold = false;
    tell($("level-now"), failureInWords(failure, false).title);
  }
}

async function setLevel(event) {
  event.preventDefault();
  fault($("level"), null);
  if (!(await askToken())) return;
  try {
    await change("PUT", "/v1/log-level", { level: $("level").value });
    announce(`The log level is ${$("level").value}.`);
    await showLevel();
  } catch (failure) {
    const { title, text, code } = failureInWords(failure, true);
    fault($("level"), [title, text, code && `(${code})`].filter(Boolean).join(" "));
  }
}

const SHORTCUTS = {
  "/": () => $("find-ref").focus(),
  k: () => $("find-key").focus(),
  r: () => walk(),
  u: () => ($("waiting-rows").querySelector("button") ?? $("waiting")).focus(),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !$("shortcuts").checked) return;
  if (event.target.matches("input, select, textarea") && event.target.id !== "shortcuts") return;
  if (event.key === "?" && !$("help").open) {
    event.preventDefault();
    $("help").showModal();
    return;
  }
  const act = SHORTCUTS[event.key];
  if (!act || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  act();
}

function openFromAddress() {
  const ref = location.hash.slice(1).toLowerCase();
  if (/^[0-9a-f]{64}$/.test(ref) && !($("operation").open && ref === shownRef)) openOperation(ref);
}

function start() {
  tell($("where"), location.host);
  startWaiting();
  startOperation();
  startFind();
  $("ask-token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("ask-token-field").value.trim();
    $("ask-token-field").value = "";
    if (isToken(text)) holdToken(text);
    $("ask-token").close();
  });
  $("ask-token-close").addEventListener("click", () => $("ask-token").close());
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  $("drop-token").addEventListener("click", () => {
    holdToken(null);
    announce("The token is dropped.");
  });
  $("level-form").addEventListener("submit", setLevel);
  addEventListener("keydown", pressed);
  addEventListener("hashchange", openFromAddress);
  setInterval(showTime, 1000);
  poll();
  showLevel();
  openFromAddress();
}

start();
