"use strict";
// Patients live. All text goes in by textContent; the language is the browser's, or what was chosen here.

const WORDS = {
  en: {
    language: "Français", leave: "Sign out", live: "● Live", connecting: "◌ Connecting…", down: "✕ Not connected",
    stale: "No connection to the server: what you see is not current.",
    signin: "Sign in", signinText: "Open the login link that the server printed, or paste a token.",
    token: "Token", enter: "Enter", badToken: "This token is not accepted.",
    alerts: "Alerts", noAlerts: "No open alerts.", patients: "Patients", noPatients: "Nothing was heard of a patient yet.",
    acknowledge: "Acknowledge", acknowledging: "Sending…", failed: "Not sent: try again", more: "Show more patients",
    by: "taken by", late: "found in late data", CRITICAL: "Critical", WARNING: "Warning", INFO: "Info",
    ago: "ago", nobody: "Sensor without a patient", day: "d", none: "no values yet",
  },
  fr: {
    language: "English", leave: "Se déconnecter", live: "● En direct", connecting: "◌ Connexion…", down: "✕ Non connecté",
    stale: "Pas de connexion au serveur : ce que vous voyez n’est pas à jour.",
    signin: "Se connecter", signinText: "Ouvrez le lien de connexion affiché par le serveur, ou collez un jeton.",
    token: "Jeton", enter: "Entrer", badToken: "Ce jeton n’est pas accepté.",
    alerts: "Alertes", noAlerts: "Aucune alerte ouverte.", patients: "Patients", noPatients: "Aucun patient n’a encore donné de signe.",
    acknowledge: "Prendre en charge", acknowledging: "Envoi…", failed: "Non envoyé : réessayer", more: "Afficher plus de patients",
    by: "prise en charge par", late: "trouvée dans des données tardives", CRITICAL: "Critique", WARNING: "Avertissement", INFO: "Info",
    ago: "", nobody: "Capteur sans patient", day: "j", none: "pas encore de valeurs",
  },
};
const METRICS = {
  heart_rate: ["Heart rate", "Fréquence cardiaque"], spo2: ["SpO₂", "SpO₂"],
  respiratory_rate: ["Respiratory rate", "Fréquence respiratoire"], systolic: ["Systolic pressure", "Pression systolique"],
  diastolic: ["Diastolic pressure", "Pression diastolique"], mean_pressure: ["Mean pressure", "Pression moyenne"],
  body_temperature: ["Temperature", "Température"], blood_glucose: ["Blood glucose", "Glycémie"], weight: ["Weight", "Poids"],
  perfusion_index: ["Perfusion index", "Indice de perfusion"], hrv_sdnn: ["HRV (SDNN)", "VFC (SDNN)"], steps: ["Steps", "Pas"],
  etco2: ["EtCO₂", "EtCO₂"], peak_flow: ["Peak flow", "Débit de pointe"], fall: ["Fall", "Chute"],
  ambient_temperature: ["Room temperature", "Température ambiante"], ambient_humidity: ["Room humidity", "Humidité ambiante"],
  battery: ["Battery", "Batterie"], ecg: ["ECG (mean)", "ECG (moyenne)"], ppg: ["PPG (mean)", "PPG (moyenne)"],
};
const UNITS = { Cel: "°C", "mm[Hg]": "mmHg", "{steps}": "", "1": "" };
const RANK = { CRITICAL: 3, WARNING: 2, INFO: 1 };
const OLD_MS = 5 * 60_000;

const $ = (id) => document.getElementById(id);
const saved = () => { try { return localStorage.getItem("language"); } catch { return null; } };
let language = saved() || (navigator.language.toLowerCase().startsWith("fr") ? "fr" : "en");
let clockOffset = 0; // the server's clock minus ours, ms
let canAcknowledge = false;
const alerts = new Map();
const told = new Set(); // alerts that a live frame has spoken of: what was asked for earlier is older
const patients = new Map();
const w = (key) => WORDS[language][key];

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function ask(path, options = {}) {
  const response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  const date = Date.parse(response.headers.get("date") || "");
  if (date) clockOffset = date - Date.now();
  if (response.status === 401) { signIn(); throw new Error("unauthenticated"); }
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.status === 204 ? null : response.json();
}

// A socket that comes back by itself, from where it was.
function stream(path, onFrame, onStart, onState) {
  let cursor = null, socket = null, wait = 500, ended = false, timer = 0;
  const open = () => {
    if (ended) return;
    onState("connecting");
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (cursor) url.searchParams.set("since", cursor);
    const fresh = !cursor;
    let first = true;
    socket = new WebSocket(url);
    socket.onmessage = (event) => {
      const frame = JSON.parse(event.data);
      cursor = frame.cursor;
      wait = 500;
      if (first) { first = false; onState("live"); if (fresh) onStart(); }
      onFrame(frame);
    };
    socket.onclose = (event) => {
      if (ended) return;
      onState("down");
      if (event.code === 4400 || event.code === 4410) cursor = null;
      if (event.code === 4401) { signIn(); return; }
      // A right has ended: where it is all of them, this asks to sign in again.
      if (event.code === 4403) ask("/v1/me").catch(() => {});
      timer = setTimeout(open, wait + Math.random() * 250);
      wait = Math.min(wait * 2, 15_000);
    };
  };
  open();
  return () => { ended = true; clearTimeout(timer); if (socket) socket.close(); };
}

function icon(severity) {
  const shapes = { CRITICAL: "M6 1h8l5 5v8l-5 5H6l-5-5V6z", WARNING: "M10 1 19 18H1z", INFO: "M10 1a9 9 0 1 0 0 18 9 9 0 0 0 0-18z" };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  for (const [d, fill] of [[shapes[severity], "currentColor"], ["M9 6h2v6H9zM9 13.5h2v2H9z", "Canvas"]]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    path.setAttribute("fill", fill);
    svg.append(path);
  }
  return svg;
}

function badge(severity) {
  const node = make("span", `badge ${severity}`);
  node.append(icon(severity), make("span", "", w(severity)));
  return node;
}

function age(at) {
  const s = Math.max(0, Math.round((Date.now() + clockOffset - Date.parse(at)) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} ${w("day")}`;
}

const number = (value) => value === null ? "–" : new Intl.NumberFormat(language, { maximumFractionDigits: 2 }).format(value);
const isOpen = (alert) => alert.state === "open" || alert.state === "acknowledged" || alert.state === "snoozed";

function takeAlert(alert) {
  if (isOpen(alert)) alerts.set(alert.id, alert); else alerts.delete(alert.id);
}

function alertNode(alert) {
  const node = make("li", `alert ${alert.severity}`);
  node.append(badge(alert.severity));
  node.append(make("p", "text", `${alert.patient_id || w("nobody")} — ${language === "fr" ? alert.message_fr : alert.message}`));
  const facts = [new Date(alert.started_at).toLocaleString(language === "fr" ? "fr-FR" : "en-GB"), alert.sensor_id];
  if (alert.retrospective) facts.push(w("late"));
  if (alert.acknowledged_by) facts.push(`${w("by")} ${alert.acknowledged_by}`);
  node.append(make("p", "meta", facts.filter(Boolean).join(" · ")));
  if (alert.state === "open" && canAcknowledge) {
    const button = make("button", "", w(alert.sending || "acknowledge"));
    button.type = "button";
    button.disabled = alert.sending === "acknowledging";
    button.addEventListener("click", () => acknowledge(alert));
    node.append(button);
  }
  return node;
}

async function acknowledge(alert) {
  alert.sending = "acknowledging";
  drawAlerts();
  try {
    await ask(`/v1/alerts/${alert.id}/acknowledge`, { method: "POST" });
  } catch {
    alert.sending = "failed";
    drawAlerts();
  }
}

function drawAlerts() {
  const focused = document.activeElement?.closest?.("li")?.dataset.id;
  const sorted = [...alerts.values()].sort((a, b) =>
    (a.state === "open" ? 0 : 1) - (b.state === "open" ? 0 : 1) || RANK[b.severity] - RANK[a.severity] || (a.raised_at < b.raised_at ? 1 : -1));
  $("alerts").replaceChildren(...sorted.map((alert) => {
    const node = alertNode(alert);
    node.dataset.id = alert.id;
    return node;
  }));
  if (focused) document.querySelector(`li[data-id="${CSS.escape(focused)}"] button`)?.focus();
  $("alerts-none").hidden = sorted.length > 0;
  const open = sorted.filter((alert) => alert.state === "open" && !alert.retrospective).length;
  document.title = open ? `(${open}) FAJMA` : "FAJMA";
  for (const patient of patients.values()) drawPatient(patient);
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const patient = patients.get(entry.target.dataset.id);
    if (!patient) continue;
    if (entry.isIntersecting && !patient.close) watch(patient);
    if (!entry.isIntersecting && patient.close) { patient.close(); patient.close = null; }
  }
}, { rootMargin: "200px" });

function watch(patient) {
  const path = encodeURIComponent(patient.id);
  const take = (readings) => {
    for (const reading of readings) {
      const known = patient.values.get(reading.metric);
      if (!known || Date.parse(reading.at) >= Date.parse(known.at)) patient.values.set(reading.metric, reading);
    }
    drawPatient(patient);
  };
  const latest = () => ask(`/v1/patients/${path}/latest`).then((page) => take(page.readings)).catch(() => {});
  patient.close = stream(`/ws/patients/${path}`, (frame) => { if (frame.sensor_data.length) take(frame.sensor_data); }, latest, () => {});
}

function drawPatient(patient) {
  const worst = [...alerts.values()].filter((a) => a.patient_id === patient.id && a.state === "open")
    .sort((a, b) => RANK[b.severity] - RANK[a.severity])[0];
  const title = make("h3");
  title.append(make("span", "", patient.id));
  if (worst) title.append(badge(worst.severity));
  const list = make("dl", "values");
  for (const metric of Object.keys(METRICS).filter((m) => patient.values.has(m))) {
    const reading = patient.values.get(metric);
    const value = make("dd", "number", number(reading.value));
    value.append(" ", make("small", "", UNITS[reading.unit] ?? reading.unit));
    const old = Date.now() + clockOffset - Date.parse(reading.at) > OLD_MS;
    list.append(make("dt", "", METRICS[metric][language === "fr" ? 1 : 0]), value, make("dd", old ? "age old" : "age", age(reading.at)));
  }
  patient.node.className = `patient ${worst ? worst.severity : ""}`;
  patient.node.replaceChildren(title, patient.values.size ? list : make("p", "note", w("none")));
}

let nextPatients = null;
async function loadPatients(cursor, limit = 48) {
  const page = await ask(`/v1/patients?limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  for (const { id } of page.patients) {
    if (patients.has(id)) continue;
    const patient = { id, values: new Map(), node: make("article", "patient"), close: null };
    patient.node.dataset.id = id;
    patients.set(id, patient);
    drawPatient(patient);
    $("patients").append(patient.node);
    seen.observe(patient.node);
  }
  nextPatients = page.next_cursor;
  $("more").hidden = !nextPatients;
  $("patients-none").hidden = patients.size > 0;
}

async function loadAlerts() {
  const found = [];
  for (const state of ["open", "acknowledged"]) {
    let cursor = null;
    do {
      const page = await ask(`/v1/alerts?state=${state}&limit=500${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
      found.push(...page.alerts);
      cursor = page.next_cursor;
    } while (cursor && found.length < 2000);
  }
  for (const alert of found) if (!told.has(alert.id)) takeAlert(alert);
  drawAlerts();
}

let downSince = 0, closeAlerts = null, linkState = "connecting";
function link(state) {
  linkState = state;
  if (state === "live") downSince = 0; else downSince ||= Date.now();
  $("link").textContent = w(state);
  $("link").className = `link ${state === "live" ? "up" : "down"}`;
  if (state === "live") $("stale").hidden = true;
}

function draw() {
  document.documentElement.lang = language;
  for (const [id, key] of [["language", "language"], ["leave", "leave"], ["signin-title", "signin"], ["signin-text", "signinText"],
    ["token-label", "token"], ["signin-button", "enter"], ["alerts-title", "alerts"], ["alerts-none", "noAlerts"],
    ["patients-title", "patients"], ["patients-none", "noPatients"], ["more", "more"], ["stale", "stale"]]) $(id).textContent = w(key);
  if (!$("main").hidden) link(linkState);
  drawAlerts();
}

function signIn() {
  if (closeAlerts) closeAlerts();
  closeAlerts = null;
  for (const patient of patients.values()) if (patient.close) { patient.close(); patient.close = null; }
  $("main").hidden = $("leave").hidden = true;
  $("signin").hidden = false;
  $("link").textContent = $("who").textContent = "";
}

async function start() {
  const me = await ask("/v1/me");
  $("signin").hidden = true;
  $("main").hidden = $("leave").hidden = false;
  $("who").textContent = `${me.subject} · ${me.role}`;
  canAcknowledge = me.role === "admin" || me.role === "doctor";
  closeAlerts = stream("/ws/alerts", (frame) => {
    if (!frame.alerts.length) return;
    for (const alert of frame.alerts) { told.add(alert.id); takeAlert(alert); }
    drawAlerts();
  }, () => { alerts.clear(); told.clear(); loadAlerts().catch(() => {}); }, link);
  await loadPatients(null);
}

$("language").addEventListener("click", () => {
  language = language === "fr" ? "en" : "fr";
  try { localStorage.setItem("language", language); } catch { /* a private window keeps nothing */ }
  draw();
});
$("leave").addEventListener("click", () => ask("/logout", { method: "POST" }).then(() => location.reload(), () => {}));
$("more").addEventListener("click", () => loadPatients(nextPatients).catch(() => {}));
$("signin-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const response = await fetch("/login", { method: "POST", headers: { authorization: `Bearer ${$("token").value.trim()}` } });
  if (response.ok) location.reload(); else $("signin-error").textContent = w("badToken");
});
setInterval(() => {
  if (downSince && Date.now() - downSince > 4000) $("stale").hidden = $("main").hidden;
  for (const patient of patients.values()) if (patient.close) drawPatient(patient);
}, 1000);
// A patient who is heard for the first time appears without a reload.
setInterval(() => { if (!$("main").hidden && !nextPatients) loadPatients(null, Math.min(patients.size + 48, 10_000)).catch(() => {}); }, 15_000);
draw();
start().catch(() => {});
