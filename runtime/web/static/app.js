// The chat page: one conversation, kept in memory, and the state of the server it talks to.

import { chat, ServerError, state } from "/api.js";
import { Markup } from "/markup.js";

const $ = (id) => document.getElementById(id);
const scroller = $("scroller");
const list = $("messages");
const input = $("input");

const conversation = []; // {role, content}, as the API takes them
let server = { status: "unknown" };
let running = null; // AbortController of the answer that is being written

// --- The server's state -----------------------------------------------------------------------

const POLL_MS = { ok: 3000, "loading model": 250, error: 3000, gone: 1000, unknown: 250 };

async function watch() {
  try {
    show(await state());
  } catch {
    show({ ...server, status: "gone" });
  }
  setTimeout(watch, POLL_MS[server.status] ?? 3000);
}

function show(next) {
  server = next;
  if (next.name) {
    $("name").textContent = next.name;
    $("greeting").textContent = `Ask ${next.name}`;
    $("description").textContent = next.description ?? "";
    document.title = next.name;
  }
  const notices = {
    "loading model": ["", "Loading the model", "You can already write."],
    error: ["bad", "The model could not be loaded", sentence(next.error ?? "")],
    gone: ["warn", "The server has stopped", "Start the file again: this page goes on by itself."],
  };
  notice(...(notices[next.status] ?? []));
  $("notice-progress").hidden = next.status !== "loading model";
  $("notice-progress").value = next.progress ?? 0;
  document.body.dataset.state = next.status;
  enable();
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function notice(kind = "", title = "", text = "") {
  $("notice").hidden = !title;
  $("notice").className = `notice ${kind}`;
  // Unchanged text is left alone: a screen reader says every change.
  if ($("notice-title").textContent !== title) $("notice-title").textContent = title;
  if ($("notice-text").textContent !== text) $("notice-text").textContent = text;
}

function enable() {
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  $("send").disabled = server.status !== "ok" || !input.value.trim();
}

// --- The conversation -------------------------------------------------------------------------

function add(kind, text = "") {
  const element = document.createElement("div");
  element.className = kind;
  element.textContent = text;
  list.append(element);
  $("welcome").hidden = true;
  return element;
}

function waiting() {
  const dots = document.createElement("span");
  dots.className = "waiting";
  dots.setAttribute("aria-label", "Reading");
  dots.append(...[1, 2, 3].map(() => document.createElement("i")));
  return dots;
}

// Keeps the newest text in view, unless the reader has scrolled up.
function atEnd() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
}

function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}

// Draws at most once a frame, however fast the pieces come.
class AnswerView {
  constructor() {
    this.element = add("message assistant");
    this.dots = waiting();
    this.element.append(this.dots);
    this.markup = new Markup(this.element);
    this.text = "";
    this.frame = 0;
  }

  append(piece) {
    this.text += piece;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const follow = atEnd();
    if (this.text.trim()) this.dots.remove();
    this.markup.update(this.text);
    if (follow) toEnd();
  }

  end() {
    this.dots.remove();
    this.draw();
    if (!this.text) this.element.remove();
  }
}

async function answer() {
  const control = new AbortController();
  running = control;
  enable();
  list.setAttribute("aria-busy", "true"); // read the answer out when it is whole
  $("speed").textContent = "";
  const view = new AnswerView();
  toEnd();
  let fault = null;
  try {
    for await (const piece of chat(conversation, control.signal)) {
      if (piece.text) view.append(piece.text);
      if (piece.finish) ended(piece);
    }
  } catch (error) {
    if (!control.signal.aborted) fault = error;
  }
  if (running !== control) return; // a new chat was begun meanwhile
  view.end();
  if (view.text) conversation.push({ role: "assistant", content: view.text });
  if (fault) failed(fault);
  running = null;
  list.setAttribute("aria-busy", "false");
  enable();
}

function ended({ finish, timings }) {
  const speed = timings?.predicted_per_second;
  $("speed").textContent = speed ? `${timings.predicted_n} tokens, ${speed.toFixed(1)} a second` : "";
  if (finish === "length") remark("The answer ends here because it reached its limit.");
}

function remark(text) {
  const follow = atEnd();
  add("remark", text);
  if (follow) toEnd();
}

function failed(error) {
  const text = error instanceof ServerError ? error.message : `The page made a mistake: ${error}`;
  if (!(error instanceof ServerError)) console.error(error);
  const box = add("fault");
  box.setAttribute("role", "alert");
  const words = document.createElement("span");
  words.textContent = text;
  const again = document.createElement("button");
  again.type = "button";
  again.className = "quiet";
  again.textContent = "Try again";
  again.onclick = () => {
    if (running || server.status !== "ok") return;
    box.remove();
    if (conversation.at(-1).role === "assistant") dropAnswer();
    answer();
  };
  box.append(words, again);
  toEnd();
}

// A broken answer's beginning is not kept when it is asked for again.
function dropAnswer() {
  conversation.pop();
  list.querySelector(".assistant:last-child")?.remove();
}

function send() {
  const text = input.value.trim();
  if (!text || running || server.status !== "ok") return;
  input.value = "";
  grow();
  for (const box of list.querySelectorAll(".fault")) box.remove();
  // A question that got no answer is still asked: templates want the roles in turn.
  const last = conversation.at(-1);
  if (last?.role === "user") last.content += `\n\n${text}`;
  else conversation.push({ role: "user", content: text });
  add("message user", text);
  answer();
}

function begin() {
  running?.abort();
  running = null;
  conversation.length = 0;
  list.replaceChildren();
  list.setAttribute("aria-busy", "false");
  $("welcome").hidden = false;
  $("speed").textContent = "";
  enable();
  input.focus();
}

// --- Input ------------------------------------------------------------------------------------

function grow() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
  enable();
}

input.addEventListener("input", grow);
input.addEventListener("keydown", (event) => {
  // An input method's own Enter (229 in Safari) chooses a word; it does not send.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  input.focus();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  input.focus();
});
$("new").addEventListener("click", begin);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});

// Seen from another computer (--host), the promise would be false.
$("privacy").hidden = !["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);

watch();
