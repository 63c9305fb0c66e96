// The pair as this node sees it: its status every second, its events as they come. Text is only ever set as text.
"use strict";

const EVENTS_SHOWN = 200;
const LAGS_KEPT = 120;
const KINDS = {
  leads: "lead", in_sync: "good", rejoined: "good", resumed: "good", alone: "bad", plan_failed: "bad", accepts: "warn",
  archived: "warn", hands_over: "warn", renounces: "warn", paused: "warn", refused: "bad", missed: "bad",
};
const lags = [];
const byId = (id) => document.getElementById(id);

function made(tag, text, className) {
  const one = document.createElement(tag);
  if (text !== undefined) one.textContent = text;
  if (className) one.className = className;
  return one;
}

const bytes = (n) => n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`;
const age = (s) => s < 1 ? `${Math.round(s * 1000)} ms ago` : s < 120 ? `${s.toFixed(0)} s ago` : `${Math.round(s / 60)} min ago`;
const clock = (us) => new Date(us / 1000).toLocaleTimeString([], { hour12: false });
const words = (text) => String(text).replaceAll("_", " ");

function look(role, lost) {
  if (lost) return "lost";
  return ["leader", "follower", "halted"].includes(role) ? role : "busy";
}

function showNode(number, here, role, rows, lost) {
  const card = byId(`node-${number}`);
  card.className = `node ${look(role, lost)}`;
  const head = made("h2");
  head.append(made("span", `Node ${number}`), made("span", here ? "this node" : "the peer, as heard"));
  const list = made("dl");
  for (const [name, value, bad] of rows) {
    if (value === null || value === undefined || value === "") continue;
    list.append(made("dt", name), made("dd", value, bad ? "bad" : ""));
  }
  card.replaceChildren(head, made("p", lost ? "not heard" : role, "role"), list);
}

function show(told) {
  const { postgres, peer, kine } = told;
  document.title = `${told.cluster}: node ${told.node} ${told.role}`;
  byId("cluster").textContent = told.cluster;
  const lost = ["silent", "refused", "half"].includes(peer.view) || !peer.role;
  showNode(told.node, true, told.role, [
    ["term", told.term + (told.provisional ? ", provisional" : "")],
    ["Postgres", postgres.health, postgres.health !== "up"],
    ["revision", postgres.revision],
    ["Kine", kine.target ? `on ${kine.target === "own" ? "own" : "the peer's"} Postgres${kine.frozen ? ", frozen" : ""}` : "does not run", !kine.target],
    ["doing", told.step && words(told.step)],
    ["paused", told.pair_paused ? "yes" : null],
    ["clock", told.clock.uncertainty_us < 1e6 ? `${(told.clock.offset_us / 1000).toFixed(2)} ± ${(told.clock.uncertainty_us / 1000).toFixed(2)} ms` : null],
    ["switchover", told.switchover_at && new Date(told.switchover_at).toLocaleString()],
  ], false);
  showNode(1 - told.node, false, peer.role ?? "unknown", [
    ["term", peer.term],
    ["Postgres", peer.postgres_ok === undefined ? null : peer.postgres_ok ? "up" : "down", peer.postgres_ok === false],
    ["revision", peer.revision],
    ["evidence", words(peer.view ?? "none"), lost],
    ["heard", peer.heard_age_s === null ? "never" : age(peer.heard_age_s), lost],
    ["paths", `${told.paths.filter((one) => one.connected).length} of ${told.paths.length} up`, !told.paths.some((one) => one.connected)],
  ], lost);
  showLink(told, lost);
  showRisks(told);
  showVerdict(told.last_verdict);
  byId("verdict-line").textContent = sentence(told, lost);
}

function sentence(told, lost) {
  if (told.role === "halted") return `Halted: ${told.halted}`;
  if (told.step) return `Busy: ${words(told.step.replace("/", ", "))}.`;
  if (told.role === "leader" && told.in_sync) return `Node ${told.node} leads; every acknowledged write is on both nodes.`;
  if (told.role === "leader") return `Node ${told.node} leads alone${lost ? ": its peer is not heard" : "; its peer is catching up"}.`;
  if (told.role === "follower" && told.in_sync) return `Node ${1 - told.node} leads; this node has every acknowledged write.`;
  if (told.role === "follower") return `Node ${1 - told.node} leads; this node follows and is not in sync.`;
  return words(told.why ?? told.role);
}

function showLink(told, lost) {
  const link = byId("link");
  const leader = told.role === "leader" ? told.node : told.peer.role === "leader" && !lost ? 1 - told.node : null;
  const flows = leader !== null && !lost && told.lag_bytes !== null;
  link.className = !flows ? "" : told.in_sync ? "in_sync" : "catching_up";
  byId("arrow").setAttribute("transform", leader === 1 ? "translate(106 20) rotate(180)" : "translate(94 20)");
  const parts = [];
  if (told.lag_rows !== null) parts.push(`${told.lag_rows} rows`);
  if (told.lag_bytes !== null) parts.push(bytes(told.lag_bytes));
  if (told.lag_s) parts.push(`${(told.lag_s * 1000).toFixed(1)} ms`);
  byId("lag").textContent = flows ? (told.in_sync ? "in sync" : "catching up") : "no replication";
  byId("spark-text").textContent = told.progress
    ? `copying: ${told.progress.rows} of ${told.progress.total} rows`
    : flows ? `${parts.join(", ")} behind` : "";
  lags.push(told.lag_bytes ?? 0);
  while (lags.length > LAGS_KEPT) lags.shift();
  const top = Math.max(4096, ...lags);
  const step = 200 / (LAGS_KEPT - 1);
  const line = lags.map((lag, index) => `${index ? "L" : "M"}${((LAGS_KEPT - lags.length + index) * step).toFixed(1)} ${(42 - 40 * lag / top).toFixed(1)}`);
  byId("spark").querySelector("path").setAttribute("d", line.join(""));
}

function showRisks(told) {
  const said = told.at_risk.map((text) => made("p", text[0].toUpperCase() + text.slice(1)));
  if (told.writes_at_risk) said.push(made("p", `${told.writes_at_risk} writes are on this node alone`));
  byId("risks").replaceChildren(...(said.length ? said : [made("p", "Nothing is at risk: either node may fail now.", "none")]));
}

function showVerdict(verdict) {
  byId("verdict").replaceChildren(...(verdict ? [
    made("h2", "Last verdict"),
    made("p", `Node ${verdict.winner} won the split of ${new Date(verdict.at_us / 1000).toLocaleString()}, and leads since in term ${verdict.term}.`),
    made("p", verdict.reason, "quiet"),
  ] : []));
}

function addEvent(event) {
  const line = made("li");
  const at = made("time", event.at_us ? clock(event.at_us) : "");
  if (event.at_us) at.dateTime = new Date(event.at_us / 1000).toISOString();
  line.append(at, made("span", words(event.kind), `kind ${KINDS[event.kind] ?? ""}`), made("span", event.message, "said"));
  const list = byId("events");
  list.prepend(line);
  while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
}

function live(on) {
  byId("live").className = `quiet ${on ? "on" : "off"}`;
  byId("live").textContent = on ? "live" : "this node does not answer";
}

async function ask(route) {
  const answer = await fetch(route, { signal: AbortSignal.timeout(3000) });
  if (!answer.ok) throw new Error(`${route}: ${answer.status}`);
  return answer.json();
}

async function keepLooking() {
  for (;;) {
    try {
      if (!document.hidden) show(await ask("/v1/status"));
      live(true);
    } catch {
      live(false);
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}

async function begin() {
  let newest = 0;
  try {
    for (const event of await ask("/v1/history?count=100")) {
      addEvent(event);
      newest = event.id;
    }
  } catch { /* the status says that the node does not answer */ }
  const stream = new EventSource(`/v1/events?after=${newest}`);
  stream.onmessage = (message) => addEvent(JSON.parse(message.data));
  stream.addEventListener("missed", (message) => {
    const { from, to } = JSON.parse(message.data);
    addEvent({ kind: "missed", message: `events ${from} to ${to} are in the node's history no more` });
  });
}

keepLooking();
begin();
