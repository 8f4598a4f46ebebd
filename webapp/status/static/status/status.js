// Refreshes the System Status page in place, and copies its plain-text report. Without it the page reloads.
"use strict";

const PERIOD = 5000; // ms from an answer to the next question
const PATIENCE = 5000; // ms to wait for an answer; the server takes 2 s at most

const byId = (id) => document.getElementById(id);
let timer;
let asking = false;

async function refresh() {
  clearTimeout(timer);
  if (asking || document.hidden) return; // visibilitychange asks again
  asking = true;
  try {
    const response = await fetch(location.href, {
      headers: { Accept: "text/html" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!fresh.getElementById("status")) throw new Error("not the status page"); // a proxy's error page
    show(fresh);
  } catch {
    showSilence();
  }
  asking = false;
  timer = setTimeout(refresh, PERIOD);
}

function show(fresh) {
  const sheet = (page) => page.querySelector("link[rel=stylesheet]").getAttribute("href");
  if (sheet(fresh) !== sheet(document)) return location.reload(); // a new release with another style
  document.title = fresh.title;
  document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").getAttribute("href");
  update(byId("status"), fresh.getElementById("status"));
}

// Make `old` equal to `fresh`, touching only what differs: focus, selection and screen readers stay undisturbed.
function update(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh.cloneNode(true));
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const [olds, freshes] = [[...old.childNodes], [...fresh.childNodes]];
  freshes.forEach((node, i) => (i < olds.length ? update(olds[i], node) : old.append(node.cloneNode(true))));
  olds.slice(freshes.length).forEach((node) => node.remove());
}

// No answer at all: the last facts stay, under a banner that says so.
function showSilence() {
  const [heading, reason] = byId("summary").querySelectorAll("h2, p");
  if (heading.textContent === "Unreachable") return;
  document.querySelector(".banner").className = "banner bad";
  document.querySelector(".banner use").setAttribute("href", "#bad");
  document.title = "Unreachable · System Status";
  heading.textContent = "Unreachable";
  reason.textContent = "The site does not answer. What is below is what it told last; this page keeps asking.";
}

async function copy() {
  const button = byId("copy");
  const text = byId("text").textContent;
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    // The clipboard API is for HTTPS and localhost only; a NodePort is neither.
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = done ? "Copied" : "Press Ctrl+C in the report";
  if (!done) byId("report").open = true;
  setTimeout(() => (button.textContent = "Copy report"), 2000);
}

byId("copy").hidden = false;
byId("copy").addEventListener("click", copy);
document.addEventListener("visibilitychange", refresh);
timer = setTimeout(refresh, PERIOD);
