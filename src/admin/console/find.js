// Finding an operation by its reference, or by what the caller sent. A key and the values of its scope travel in a body,
// stand in no address, and are taken out of the page as soon as the gateway has answered.

let guardedRoutes = [];

function offerRoutes(routes) {
  const guarded = routes.filter((route) => route.guarded);
  const signature = JSON.stringify(guarded);
  const select = $("find-route");
  if (select.signature === signature) return;
  select.signature = signature;
  guardedRoutes = guarded;
  const chosen = select.value;
  select.replaceChildren(...guarded.map((route, index) => make("option", { value: String(index) }, (route.host ?? "") + route.path)));
  if (guarded[Number(chosen)] && chosen !== "") select.value = chosen;
  $("find-route-line").hidden = guarded.length < 2;
  $("find-key-form").hidden = guarded.length === 0;
  offerScope();
}

const isSecret = (part) => /^header:(proxy-)?(authorization|cookie)$/i.test(part) || /key|token|secret/i.test(part);

function offerScope() {
  const route = guardedRoutes[Number($("find-route").value)] ?? guardedRoutes[0];
  const fields = (route?.scope ?? []).flatMap((part, index) => {
    const id = `scope-${index}`;
    const input = make("input", { id, class: "mono", type: isSecret(part) ? "password" : "text", autocomplete: "off", spellcheck: false, maxLength: 8192, placeholder: "not sent" });
    input.dataset.part = part;
    return [make("label", { htmlFor: id }, part, " ", make("span", { class: "hint" }, "as the caller sent it")), input];
  });
  $("find-scope").replaceChildren(...fields);
}

async function findRef(event) {
  event.preventDefault();
  const field = $("find-ref");
  const ref = field.value.trim().toLowerCase();
  if (fault(field, /^[0-9a-f]{64}$/.test(ref) ? null : "A reference has 64 hex digits.")) return;
  field.value = "";
  await openOperation(ref);
}

async function findKey(event) {
  event.preventDefault();
  const field = $("find-key");
  if (fault(field, field.value === "" ? "The key as the caller sent it." : null)) return;
  const route = guardedRoutes[Number($("find-route").value)] ?? guardedRoutes[0];
  const given = [...$("find-scope").querySelectorAll("input")];
  const scope = Object.fromEntries(given.filter((input) => input.value !== "").map((input) => [input.dataset.part, [input.value]]));
  const question = { key: field.value, route: route.path, scope, ...(route.host === null ? {} : { host: route.host }) };
  try {
    const { found } = await ask("POST", "/v1/operations/find", question);
    for (const input of [field, ...given]) input.value = "";
    $("found").replaceChildren(...found.map(foundOf));
    const first = found.find(({ operation }) => operation);
    $("found").querySelector(first ? "button" : "p")?.focus();
  } catch (failure) {
    const { title, text, code } = failureInWords(failure, false);
    $("found").replaceChildren();
    fault(field, [title, text, code && `(${code})`].filter(Boolean).join(" "));
  }
}

function foundOf({ ref, operation, derivation }) {
  const made = derivation === "previous" ? "Made in the previous way of this route." : "";
  const badge = operation ? (STATES[operation.state] ?? ["none", operation.state]) : ["none", "No record"];
  const text = operation ? `Opened ${lasting(now() - Date.parse(operation.opened_at ?? ""))} ago. ` : "The key is free here: it was never used by this caller, or its retention has ended. ";
  const undated = operation && operation.opened_at === null;
  const head = make("div", { class: "group-head" }, word(badge[0], badge[1]));
  if (operation) {
    const open = make("button", { type: "button", class: "link mono" }, `${ref.slice(0, 8)}…`);
    open.setAttribute("aria-label", `Open operation ${ref.slice(0, 8)}`);
    open.addEventListener("click", () => openOperation(ref));
    head.append(open);
  }
  return make("div", { class: "find-result" }, head, make("p", { tabIndex: -1 }, undated ? "" : text, made));
}

function startFind() {
  $("find-ref-form").addEventListener("submit", findRef);
  $("find-key-form").addEventListener("submit", findKey);
  $("find-route").addEventListener("change", offerScope);
  addEventListener("pagehide", () => {
    for (const input of $("find-key-form").querySelectorAll("input")) input.value = "";
  });
}
