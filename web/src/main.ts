// Start of the page: loads the description, connects the buttons, and opens the first picture.
import { App, element, fail } from "./app";
import { openBackend } from "./backend";
import { forgetInks } from "./colours";
import { energy, number } from "./format";
import { download, picture, sized, table } from "./save";
import { AVERAGES, GEANT4, decode, encode, modelOf } from "./state";
import type { Shown } from "./pane";
import type { Description, Model } from "./types";

async function start(): Promise<void> {
  const answer = await fetch("explorer.json");
  if (!answer.ok) throw new Error("The page's description, explorer.json, cannot be loaded.");
  const description = (await answer.json()) as Description;
  const app = new App(description, await openBackend(description));
  theme(app);
  connect(app);
  // For the console of the browser: the energies shown, the link, how long things took.
  Object.assign(window, { explorer: app });
  await app.open(app.state);
}

function button(id: string): HTMLButtonElement {
  return element(id) as HTMLButtonElement;
}

function select(id: string): HTMLSelectElement {
  return element(id) as HTMLSelectElement;
}

function input(id: string): HTMLInputElement {
  return element(id) as HTMLInputElement;
}

function options(list: HTMLSelectElement, values: [string, string][], chosen: string): void {
  list.replaceChildren(...values.map(([value, text]) => new Option(text, value)));
  list.value = chosen;
}

function connect(app: App): void {
  const { description, state } = app;
  const open = (part: object) =>
    guarded(
      app.open({ ...app.state, ...part }).catch((error: unknown) => {
        listed = null; // the list names again what is shown
        follow(app);
        throw error;
      }),
    );
  options(
    select("model"),
    description.models.map((m) => [m.name, m.name]),
    state.model,
  );
  select("model").addEventListener("change", () => {
    const model = modelOf(description, select("model").value);
    const same = model.detector === app.model?.detector;
    const fresh = decode(description, `model=${encodeURIComponent(model.name)}`);
    const beside = app.state.beside === GEANT4 && model.reference ? GEANT4 : "";
    const { seed, average, theme: colours, condition, view } = app.state;
    const kept = same ? { condition, view } : {};
    void open({
      ...fresh,
      beside,
      seed,
      number: app.state.number,
      average,
      theme: colours,
      ...kept,
    });
  });
  select("beside").addEventListener("change", () =>
    app.change({ beside: select("beside").value }),
  );
  button("another").addEventListener("click", () => {
    const step = app.state.average;
    app.change({ number: app.state.number + step });
  });
  button("reset").addEventListener("click", () => {
    void open({ ...app.first(), theme: app.state.theme });
  });
  input("seed").addEventListener("change", () => {
    const text = input("seed").value.trim();
    const ok = /^\d{1,20}$/.test(text) && BigInt(text) < 2n ** 64n;
    input("seed").setAttribute("aria-invalid", String(!ok));
    if (ok) app.change({ seed: BigInt(text) });
    else fail("The seed is a whole number from 0 to 2^64 - 1.");
  });
  input("number").addEventListener("change", () => {
    const value = Number(input("number").value);
    const ok = Number.isInteger(value) && value >= 0 && value <= 1e9;
    input("number").setAttribute("aria-invalid", String(!ok));
    if (ok) app.change({ number: value });
    else fail("The number of a shower is a whole number from 0 to a thousand million.");
  });
  const choice = element("average").querySelector(".choice") as HTMLElement;
  for (const count of AVERAGES) {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "average", value: String(count) });
    radio.addEventListener("change", () => app.change({ average: count }));
    label.append(radio, String(count));
    choice.append(label);
  }
  input("layer").addEventListener("input", () =>
    app.change({ layer: Number(input("layer").value) }),
  );
  blind(app);
  saving(app);
  app.onChange = () => follow(app);
  window.addEventListener("hashchange", () => {
    const now = encode(description, app.state);
    if (location.hash.replace(/^#/, "") === now) return;
    guarded(app.open(decode(description, location.hash)).then(() => theme(app)));
  });
  // As a link it would replace the state that the address holds.
  document.querySelector(".skip")?.addEventListener("click", (event) => {
    event.preventDefault();
    element("controls").focus();
  });
  // The width for content: a scroll bar takes some of that of the window.
  const { documentElement: root } = document;
  let width = root.clientWidth;
  new ResizeObserver(() => {
    if (root.clientWidth !== width) app.draw();
    width = root.clientWidth;
  }).observe(root);
}

function blind(app: App): void {
  button("blind").addEventListener("click", () => {
    if (app.blind) app.endBlind();
    else app.startBlind();
  });
  button("end").addEventListener("click", () => app.endBlind());
  button("next").addEventListener("click", () => {
    app.blind?.next();
    app.refresh();
  });
  for (const [id, first] of [
    ["answer-a", true],
    ["answer-b", false],
  ] as const) {
    button(id).addEventListener("click", () => {
      if (!app.blind) return;
      const right = app.blind.answer(first);
      element("score").textContent = `${right ? "Right." : "Wrong."} ${app.blind.score()}`;
      app.refresh();
    });
  }
}

function saving(app: App): void {
  // Files are of what is shown, whatever was asked for since.
  const name = () => `${app.asked.model}-${app.asked.seed}-${app.asked.number}`;
  const words = (shown: Shown[]) => {
    const { asked, detector, description } = app;
    const conditions = detector.conditions
      .map((c, k) => `${c.name} = ${asked.condition[k]} ${c.unit}`.trim())
      .join(", ");
    const made = `seed ${asked.seed}, shower ${asked.number}, average of ${asked.average}`;
    return [
      `CaloForge ${description.version}: ${shown.map((s) => s.title).join(" | ")}`,
      `${detector.title}: ${conditions}; ${made}`,
    ];
  };
  button("link").addEventListener("click", async () => {
    history.replaceState(null, "", app.link());
    try {
      await navigator.clipboard.writeText(app.link());
      say("The link was copied.");
    } catch {
      say("The link is in the address of the page.");
    }
  });
  button("png").addEventListener("click", () => {
    const columns = app.panes.map((pane) => pane.pictures());
    const profiles = ["layers", "rings"].map((id) => sized(element(id) as HTMLCanvasElement));
    const remarks = words(app.shown);
    guarded(picture([...columns, profiles], remarks).then((p) => download(p, `${name()}.png`)));
  });
  button("csv").addEventListener("click", () => {
    const shown = app.shown[0];
    const { energies, condition } = shown;
    download(table(app.detector, app.cells, energies, condition, words([shown])), `${name()}.csv`);
  });
  button("hdf5").hidden = !app.backend.save;
  button("hdf5").addEventListener("click", () => {
    const { asked, model, backend } = app;
    if (!backend.save) return;
    const { condition, seed, number: first, average } = asked;
    const { rows, noise } = app.inputs(model, condition, seed, first, average);
    guarded(backend.save(model, rows, noise, seed).then((f) => download(f, `${name()}.hdf5`)));
  });
  button("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme === "dark";
    app.state.theme = dark ? "light" : "dark";
    theme(app);
    follow(app);
  });
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => theme(app));
}

// The colours that were chosen, or else the system's.
function theme(app: App): void {
  const light = matchMedia("(prefers-color-scheme: light)").matches;
  const chosen = app.state.theme || (light ? "light" : "dark");
  document.documentElement.dataset.theme = chosen;
  button("theme").textContent = chosen === "dark" ? "Light" : "Dark";
  forgetInks();
  app.theme();
}

let saying = 0;
let listed: Model | null = null; // the model for which the lists were filled
// Everything beside the pictures follows the state.
function follow(app: App): void {
  const { state, description, model, detector } = app;
  if (!model) return; // the first one is on its way
  if (listed !== model) {
    listed = model;
    select("model").value = model.name;
    const others = description.models.filter((m) => m !== model && m.detector === model.detector);
    const beside: [string, string][] = [["", "nothing"]];
    if (model.reference) beside.push([GEANT4, "Geant4 shower"]);
    beside.push(...others.map((m): [string, string] => [m.name, m.name]));
    options(select("beside"), beside, state.beside);
    element("about").textContent = `${detector.title}. ${model.text}`;
  }
  select("beside").value = state.beside;
  select("beside").disabled = app.blind !== null;
  for (const [id, value] of [
    ["seed", state.seed],
    ["number", state.number],
  ] as const) {
    if (document.activeElement === input(id)) continue; // somebody is typing
    input(id).value = String(value);
    input(id).setAttribute("aria-invalid", "false");
  }
  for (const radio of element("average").querySelectorAll("input")) {
    radio.checked = Number(radio.value) === state.average;
    radio.disabled = app.blind !== null;
  }
  for (const id of ["another", "reset", "seed", "number"]) {
    (element(id) as HTMLInputElement).disabled = app.blind !== null;
  }
  app.controls.disable(app.blind !== null);
  // The showers of a test are not those of seed and number, and their names would tell too much.
  for (const id of ["png", "csv", "hdf5"]) {
    button(id).disabled = app.blind !== null || !app.shown.length;
  }
  element("layer-row").hidden = !app.hasManyLayers();
  input("layer").max = String(detector.layers.length - 1);
  input("layer").value = String(state.layer);
  const layer = detector.layers[state.layer];
  const depth = layer.z.map((z) => number(z, 4)).join(" to ");
  const known = detector.depths_known ? `, at ${depth} mm` : "";
  element("layer-name").textContent = `${layer.name}${known}`;
  button("blind").disabled = !model.reference;
  button("blind").setAttribute("aria-pressed", String(app.blind !== null));
  element("test").hidden = !app.blind;
  if (app.blind) {
    const answered = app.blind.round.answered;
    element("question").textContent =
      "One shower is Geant4's, the other the generator's, under the same condition. Which one is Geant4?";
    button("answer-a").disabled = answered;
    button("answer-b").disabled = answered;
    button("next").hidden = !answered;
    if (!answered) element("score").textContent = app.blind.score();
  }
  element("version").textContent =
    `CaloForge ${description.version}; showers are made by ${app.backend.title}.`;
  // Browsers refuse an address that changes too often, and nobody can listen that fast.
  window.clearTimeout(saying);
  saying = window.setTimeout(() => {
    history.replaceState(null, "", `#${encode(app.description, app.state)}`);
    say(summary(app));
  }, 400);
}

function summary(app: App): string {
  return app.shown
    .map(({ title, summary: s }) => {
      return `${title}: ${energy(s.total)} of ${energy(s.incident)}, response ${s.response.toFixed(3)}.`;
    })
    .join(" ");
}

function say(sentence: string): void {
  element("said").textContent = sentence;
}

function guarded(work: Promise<unknown>): void {
  work.catch((error: unknown) => fail((error as Error).message));
}

start().catch((error: unknown) => fail((error as Error).message));
