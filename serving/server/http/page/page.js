// The page asks the server as any client does: /page/models for what there is, the actions of /v1/models for images.
const $ = (id) => document.getElementById(id);
const MODES = {
  sample: "Sample", interpolate: "Walk between seeds", mix: "Mix styles",
  reconstruct: "Reconstruct", translate: "Translate", upscale: "Upscale",
};
const WAIT = 120; // milliseconds after the last change of a control
let card = null, file = null, token = "", timer = 0, asked = new AbortController();

const mode = () => document.querySelector("input[name=mode]:checked")?.value;
const takesFile = () => ["reconstruct", "translate", "upscale"].includes(mode());

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) $("token-row").hidden = false;
  const text = await answer.text();
  let reason = text;
  try { reason = JSON.parse(text).error ?? text; } catch { /* not of this server, such as a proxy's */ }
  throw new Error(typeof reason === "string" && reason ? reason : `the server answered ${answer.status}`);
}

function fail(error) {
  if (error.name === "AbortError") return;
  say(error instanceof TypeError ? "the server does not answer" : error.message, true);
}

function fill(select, values, texts = values) {
  select.replaceChildren(...values.map((value, index) => new Option(texts[index], value)));
}

// The ability that a mode runs, as the card describes it.
function ability() {
  const all = card.abilities;
  if (mode() === "translate") return all[$("direction").value];
  if (mode() === "mix") return all.map;
  if (mode() === "reconstruct" || mode() === "upscale") return all[mode()];
  return all.generate ?? all.step;
}

function findModes() {
  const all = card.abilities, draws = all.generate ?? all.step, modes = [];
  if (draws) modes.push("sample");
  if (draws && !draws.iteration) modes.push("interpolate");
  if (all.map && all.synthesize) modes.push("mix");
  if (all.reconstruct) modes.push("reconstruct");
  if (translations().length) modes.push("translate");
  if (all.upscale) modes.push("upscale");
  return modes;
}

const translations = () => Object.keys(card.abilities).filter((name) => name === "translate" || name.startsWith("translate_"));
const input = (feed) => ability()?.inputs.find((one) => one.feed === feed);

function describe() {
  $("about").textContent = card.name;
  $("summary").textContent = card.summary;
  const { data, recipe } = card;
  const made = [
    recipe.steps && `${recipe.steps} steps${recipe.batch_size ? ` of ${recipe.batch_size} examples` : ""}`,
    recipe.seed !== undefined && `seed ${recipe.seed}`, recipe.exported && `exported: ${recipe.exported}`,
  ].filter(Boolean).join(", ");
  const facts = {
    Family: card.family, Paper: card.paper, License: card.license,
    Data: [data.name, data.split, `${data.count} examples`, data.license].filter(Boolean).join(", "),
    Training: made,
    Scores: card.scores.map(({ metric, value, std }) => `${metric} ${value.toPrecision(4)}${std ? ` ± ${std.toPrecision(2)}` : ""}`).join("\n"),
    Version: card.version,
  };
  $("facts").replaceChildren(...Object.entries(facts).filter(([, text]) => text).flatMap(([name, text]) => {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    return [term, value];
  }));
}

// Show the controls of this model and mode.
function arrange() {
  for (const row of document.querySelectorAll("[data-for]")) row.hidden = !row.dataset.for.split(" ").includes(mode());
  $("direction-row").hidden = mode() !== "translate";
  const label = input("label"), iteration = ability()?.iteration;
  $("label-row").hidden = !label;
  if (label) {
    const before = $("label").value, classes = label.classes ?? [];
    fill($("label"), takesFile() ? classes : ["", ...classes], takesFile() ? classes : ["drawn from the seed", ...classes]);
    if (classes.includes(before)) $("label").value = before;
  }
  $("truncation-row").hidden = !input("truncation") || takesFile();
  $("steps-row").hidden = !(mode() === "sample" && iteration?.kind === "gibbs");
  if (iteration) $("steps").placeholder = iteration.count;
  if (mode() === "mix") {
    $("layers").max = card.abilities.map.outputs.find((one) => one.kind === "style").shape[1];
    if (!$("layers").dataset.moved) $("layers").value = Math.floor($("layers").max / 2);
  }
  $("given").hidden = !takesFile() || !file;
}

// Digits go as they are: a seed has up to 64 bits, a number of JavaScript 53. What is no number the server refuses.
const whole = (text) => /^-?(0|[1-9]\d*)$/.test(text.trim()) ? text.trim() : JSON.stringify(text);

function makeRequest() {
  const named = mode() === "translate" && translations().length > 1 ? `${card.name}.${$("direction").value}` : card.name;
  const path = `v1/models/${named}:${mode()}`;
  if (takesFile()) {
    const query = new URLSearchParams();
    if (mode() === "reconstruct") query.set("resize", "true");
    if (input("label")) query.set("label", $("label").value);
    return { path: query.size ? `${path}?${query}` : path, body: file };
  }
  const fields = { seed: whole($("seed").value) };
  if (mode() === "sample") {
    if ($("count").value !== "1") fields.count = whole($("count").value);
    if (!$("steps-row").hidden && $("steps").value) fields.steps = whole($("steps").value);
  } else fields.to = whole($("to").value);
  if (mode() === "interpolate") fields.position = $("position").value;
  if (mode() === "mix") fields.layers = $("layers").value;
  if (input("label") && $("label").value) fields.label = JSON.stringify($("label").value);
  if (input("truncation")) fields.truncation = $("truncation").value;
  return { path, body: `{${Object.entries(fields).map(([name, value]) => `"${name}": ${value}`).join(", ")}}` };
}

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function makeCommand({ path, body }) {
  const parts = ["curl", "--fail-with-body"];
  if (token) parts.push('-H "Authorization: Bearer $TOKEN"');
  parts.push("-H 'Accept: image/png'");
  parts.push(takesFile() ? `--data-binary ${quote(`@${file?.name ?? "image.png"}`)}` : `-d ${quote(body)}`);
  return [...parts, `-o ${quote(`${card.name}.png`)}`, quote(new URL(path, document.baseURI).href)].join(" ");
}

function show(id, blob) {
  const image = $(id);
  if (image.src) URL.revokeObjectURL(image.src);
  image.onload = () => image.classList.toggle("large", image.naturalWidth > 300);
  image.src = URL.createObjectURL(blob);
  image.hidden = false;
}

function clear() {
  $("image").hidden = $("download").hidden = true;
  $("caption").textContent = "";
}

async function make() {
  asked.abort();
  asked = new AbortController();
  for (const id of ["position", "layers", "truncation"]) $(`${id}-value`).textContent = $(id).value;
  if (!card || !mode()) return;
  const request = makeRequest(), { signal } = asked;
  $("command").textContent = makeCommand(request);
  if (takesFile() && !file) {
    clear();
    return say("Choose an image.");
  }
  say("Working.");
  try {
    const type = takesFile() ? "application/octet-stream" : "application/json";
    const headers = { Accept: "image/png", "Content-Type": type };
    const answer = await ask(request.path, { method: "POST", body: request.body, headers, signal });
    const blob = await answer.blob();
    show("image", blob);
    await $("image").decode();
    if (signal.aborted) return;
    const { naturalWidth: width, naturalHeight: height } = $("image");
    $("image").alt = `${MODES[mode()]}: ${card.name}, ${takesFile() ? file.name : request.body}`;
    $("caption").textContent = `${width} × ${height} pixels`;
    $("download").href = $("image").src;
    $("download").download = `${card.name}-${mode()}.png`;
    $("download").hidden = false;
    say("Done.");
  } catch (error) {
    if (signal.aborted) return; // a newer request took its place
    clear(); // an old image beside an error would be taken for its answer
    fail(error);
  }
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(make, WAIT);
}

function take(chosen) {
  if (!chosen) return;
  file = chosen;
  show("input", file);
  arrange();
  make();
}

async function choose() {
  const name = $("model").value;
  clearTimeout(timer);
  asked.abort();
  try {
    const found = await (await ask(`page/models/${encodeURIComponent(name)}`)).json();
    if (name !== $("model").value) return; // another was chosen meanwhile
    card = found;
    document.title = card.name;
    history.replaceState(null, "", `#${card.name}`);
    describe();
    fill($("direction"), translations(), translations().map((one) => one.replaceAll("_", " ")));
    delete $("layers").dataset.moved;
    const modes = findModes();
    $("modes").replaceChildren($("modes").firstElementChild, ...modes.map((one, index) => {
      const label = document.createElement("label"), radio = document.createElement("input");
      Object.assign(radio, { type: "radio", name: "mode", value: one, checked: index === 0 });
      label.append(radio, MODES[one]);
      return label;
    }));
    clear();
    arrange();
    if (modes.length) make();
    else {
      $("command").textContent = "";
      say(`This model makes no images: it has ${Object.keys(card.abilities).join(", ")}.`);
    }
  } catch (error) {
    clear();
    fail(error);
  }
}

async function start() {
  say("Working.");
  try {
    const { models } = await (await ask("page/models")).json();
    $("token-row").hidden = true;
    fill($("model"), models);
    const wanted = location.hash.slice(1);
    if (models.includes(wanted)) $("model").value = wanted;
    if (models.length) await choose();
    else say("This server has no model yet.");
  } catch (error) {
    fail(error);
  }
}

function move(by) {
  if (!/^\d+$/.test($("seed").value)) $("seed").value = "0";
  const seed = BigInt($("seed").value) + by;
  $("seed").value = seed < 0n ? "0" : String(seed);
  later();
}

$("model").addEventListener("change", choose);
$("previous").addEventListener("click", () => move(-1n));
$("next").addEventListener("click", () => move(1n));
$("layers").addEventListener("input", () => { $("layers").dataset.moved = "yes"; });
$("file").addEventListener("change", () => take($("file").files[0]));
$("token-set").addEventListener("click", () => { token = $("token").value; start(); });
$("token").addEventListener("keydown", (event) => { if (event.key === "Enter") $("token-set").click(); }); // a form of several fields without a submit button is not sent by Enter
function changed(event) {
  if (["file", "token"].includes(event.target.id)) return;
  if (event.target.name === "mode" || event.target.id === "direction") arrange();
  later();
}
$("controls").addEventListener("input", changed);
for (const select of document.querySelectorAll("form select")) select.addEventListener("change", changed); // programs that drive a browser send no input
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    say("Copied.");
  } catch { // a page that did not come over https may not
    getSelection().selectAllChildren($("command"));
    say("Selected: copy it by the keyboard.");
  }
});
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault(); // the browser would leave the page for the file
  $("drop").classList.remove("over");
  if (takesFile()) take(event.dataTransfer.files[0]);
});
start();
