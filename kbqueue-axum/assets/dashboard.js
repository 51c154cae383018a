// Keeps a page up to date, and adds what forms alone cannot do. Every page works without it.
"use strict";

const $ = (query, root = document) => root.querySelector(query);
const all = (query, root = document) => [...root.querySelectorAll(query)];

// --- Taking over what is different -------------------------------------------

// Makes `from` like `to`, and touches nothing that is alike: what has the focus keeps it, what is ticked
// stays ticked, and bars move instead of being replaced.
function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name, value } of [...to.attributes]) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name)) from.removeAttribute(name);
  }
  const named = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
  let next = from.firstChild;
  for (const want of [...to.childNodes]) {
    let node = want.id ? named.get(want.id) : next;
    const alike = node && node.nodeName === want.nodeName && (node.id || "") === (want.id || "");
    if (!alike) {
      from.insertBefore(document.importNode(want, true), next);
    } else {
      if (node === next) next = next.nextSibling;
      else from.insertBefore(node, next);
      morph(node, want);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function take(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  // Another version of the server has other scripts and styles.
  if (page.body.dataset.version !== document.body.dataset.version) return location.reload();
  for (const region of all("[data-region]")) {
    const fresh = page.getElementById(region.id);
    if (fresh) morph(region, fresh);
  }
  for (const token of all("input[name=form_token]")) {
    token.value = $("input[name=form_token]", page)?.value ?? token.value;
  }
  enhance(document);
}

// --- Live --------------------------------------------------------------------

const path = document.body.dataset.live;
let source = null;
let reconnect;
let loading = false;
let again = false;

async function refresh() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  do {
    again = false;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      // Such as the page for signing in, once a session has ended.
      if (answer.redirected) return location.reload();
      if (answer.ok) take(await answer.text());
      else if (answer.status === 404) return location.reload();
    } catch {
      // The stream notices too, and tries again.
    }
  } while (again);
  loading = false;
}

function connect() {
  source = new EventSource(path);
  source.onmessage = () => {
    $("#lost").hidden = true;
    document.body.dataset.state = "live";
    refresh();
  };
  source.onerror = () => {
    $("#lost").hidden = false;
    document.body.dataset.state = "lost";
    // Browsers try again by themselves only where the server was not reached at all.
    if (source.readyState === EventSource.CLOSED) reconnect = setTimeout(connect, 2000);
  };
}

if (path) {
  // A tab that nobody sees needs no connection: browsers allow few of them.
  const follow = () => {
    if (document.hidden) {
      // Or the tab would get a second connection, which nothing closes.
      clearTimeout(reconnect);
      source?.close();
      source = null;
    } else if (!source) {
      connect();
    }
  };
  document.addEventListener("visibilitychange", follow);
  // Not at once when a page is left: the browser would show a lost connection.
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  follow();
  // Some things change without news: how long ago something was, whether a worker lives.
  setInterval(() => document.hidden || refresh(), 10_000);
}

// --- Forms -------------------------------------------------------------------

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-quick]")) return;
  event.preventDefault();
  const button = event.submitter;
  if (button) button.disabled = true;
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (answer.ok) {
      morph($("#said"), $("#said", page));
      refresh();
    } else {
      say($("main p:not(.code)", page)?.textContent ?? "That did not work.");
    }
  } catch {
    say("The server cannot be reached; nothing was changed.");
  }
  if (button) button.disabled = false;
});

function say(text) {
  const line = document.createElement("p");
  line.className = "said";
  line.textContent = text;
  $("#said").replaceChildren(line);
}

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.matches("[data-submit]")) field.form.requestSubmit();
  if (field.matches("[data-all]")) {
    for (const box of all("input[name=ids]")) box.checked = field.checked;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    // Without TLS browsers keep the clipboard to themselves, except for what is selected.
    const field = document.createElement("textarea");
    field.value = button.dataset.copy;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.classList.add("done");
  $("use", button).setAttribute("href", "#i-check");
  setTimeout(() => {
    button.classList.remove("done");
    $("use", button).setAttribute("href", "#i-copy");
  }, 1200);
});

// --- Theme -------------------------------------------------------------------

$("#theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `kbqueue_theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Strict`;
});

// --- Images ------------------------------------------------------------------

const icon = (name) => `<svg class="i" aria-hidden="true"><use href="#i-${name}"/></svg>`;
let box = null;
let shown = 0;

function show(at) {
  const thumbs = all(".thumb");
  if (!thumbs[at]) return;
  shown = at;
  if (!box) {
    box = document.createElement("dialog");
    box.setAttribute("aria-label", "Image");
    box.innerHTML = `<div class="box"><header><p aria-live="polite"></p><a class="button">To the page</a>
      <button class="quiet square" aria-label="Previous image">${icon("back")}</button>
      <button class="quiet square" aria-label="Next image">${icon("next")}</button>
      <button class="quiet square" aria-label="Close">${icon("close")}</button></header>
      <div class="stage"><img alt=""></div></div>`;
    const [back, next, close] = all("button", box);
    back.onclick = () => show(shown - 1);
    next.onclick = () => show(shown + 1);
    close.onclick = () => box.close();
    box.onclick = (event) => event.target === box && box.close();
    box.onclose = () => all(".thumb")[shown]?.focus();
    box.onkeydown = (event) => {
      if (event.key === "ArrowLeft") show(shown - 1);
      if (event.key === "ArrowRight") show(shown + 1);
    };
    document.body.append(box);
  }
  const thumb = thumbs[at];
  $("p", box).textContent = `${thumb.dataset.label} (${at + 1} of ${thumbs.length})`;
  $("a", box).href = thumb.dataset.page;
  const image = $("img", box);
  image.src = thumb.dataset.full;
  image.alt = $("img", thumb).alt;
  if (!box.open) box.showModal();
}

document.addEventListener("click", (event) => {
  const thumb = event.target.closest(".thumb");
  if (!thumb || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  show(all(".thumb").indexOf(thumb));
});

// In a grid the arrow keys go to the neighbours.
document.addEventListener("keydown", (event) => {
  const thumb = event.target.closest?.(".thumb");
  if (!thumb) return;
  const thumbs = all(".thumb");
  const at = thumbs.indexOf(thumb);
  const row = thumbs.filter((one) => Math.abs(one.offsetTop - thumb.offsetTop) < 8).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
  if (!step || !thumbs[at + step]) return;
  event.preventDefault();
  thumbs[at + step].focus();
});

// --- Upload ------------------------------------------------------------------

const upload = $("#upload");
const AT_ONCE = 3;
const waiting = [];
let sending = 0;

function bytes(count) {
  const unit = ["B", "kB", "MB", "GB"];
  let at = 0;
  for (; count >= 999.5 && at < 3; at += 1) count /= 1000;
  return `${count.toFixed(at && count < 9.95 ? 1 : 0)} ${unit[at]}`;
}

function add(files) {
  for (const file of files) {
    const line = document.createElement("li");
    line.innerHTML = `<div class="work-head"><span class="name"></span><strong class="percent">0 %</strong></div>
      <progress max="100" value="0"></progress><div class="facts"><span>Waiting</span></div>`;
    $(".name", line).textContent = file.name;
    $("progress", line).setAttribute("aria-label", `Upload of ${file.name}`);
    $("#sent").hidden = false;
    $("#sent-list").append(line);
    waiting.push({ file, line });
  }
  pump();
}

function pump() {
  while (sending < AT_ONCE && waiting.length) {
    sending += 1;
    send(waiting.shift());
  }
}

function send({ file, line }) {
  const request = new XMLHttpRequest();
  const tell = (text, wrong) => {
    const fact = document.createElement("span");
    fact.textContent = text;
    if (wrong) fact.className = "error-text";
    $(".facts", line).replaceChildren(fact);
    return fact;
  };
  const bar = (percent) => {
    $("progress", line).value = percent;
    $(".percent", line).textContent = `${percent} %`;
  };
  const end = () => {
    sending -= 1;
    pump();
  };
  request.upload.onprogress = ({ loaded, total }) => {
    bar(Math.floor((loaded / total) * 100));
    tell(`${bytes(loaded)} of ${bytes(total)}`);
  };
  request.onload = () => {
    const answer = request.response ?? {};
    const document_ = answer.documents?.[0];
    if (request.status === 200 && document_ && !document_.error) {
      bar(100);
      const fact = tell(document_.created ? "Queued. " : "It is here already. ");
      const link = document.createElement("a");
      link.href = `${upload.dataset.documents}/${document_.document_id}`;
      link.textContent = "Open the document";
      fact.append(link);
    } else {
      $(".percent", line).textContent = "Refused";
      const problem = document_?.error ?? answer;
      tell(problem.detail ?? `The server answered with status ${request.status}.`, true);
    }
    end();
  };
  request.onerror = () => {
    $(".percent", line).textContent = "Failed";
    const fact = tell("The connection broke off; nothing was kept. ", true);
    const retry = document.createElement("button");
    retry.type = "button";
    retry.className = "link";
    retry.textContent = "Try again";
    retry.onclick = () => {
      waiting.push({ file, line });
      pump();
    };
    fact.append(retry);
    end();
  };
  const form = new FormData();
  form.append("files", file);
  request.open("POST", upload.action);
  request.responseType = "json";
  request.setRequestHeader("x-form-token", upload.dataset.formToken);
  tell("Sending");
  request.send(form);
}

if (upload) {
  const input = $("input[type=file]", upload);
  all(".with-script", upload).forEach((part) => (part.hidden = false));
  all("[data-without-script]", upload).forEach((part) => (part.hidden = true));
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  upload.addEventListener("submit", (event) => event.preventDefault());
  const over = (event, on) => {
    event.preventDefault();
    upload.classList.toggle("over", on);
  };
  // The whole page takes files: a near miss would otherwise leave the page and open the file.
  document.addEventListener("dragover", (event) => over(event, true));
  document.addEventListener("dragleave", (event) => over(event, false));
  document.addEventListener("drop", (event) => {
    over(event, false);
    add(event.dataTransfer.files);
  });
}

// --- What only makes sense with a script -------------------------------------

function enhance(root) {
  all("[data-copy], [data-all], #theme", root).forEach((part) => (part.hidden = false));
}
enhance(document);
