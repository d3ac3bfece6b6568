// What the page shows, and its form as the part of the address behind '#': a link holds all of it.
import { START, type View } from "./scene";
import type { Description, Model } from "./types";

export const AVERAGES = [1, 10, 100];
export const GEANT4 = "geant4";

export interface State {
  model: string;
  beside: string; // "", GEANT4 or the name of a model of the same detector
  condition: number[];
  seed: bigint;
  number: number; // of the first shower under the seed
  average: number;
  layer: number; // that is looked at, where layers are summed; -1 for that with most energy
  view: View;
  theme: "" | "dark" | "light"; // "" follows the system
}

export function modelOf(description: Description, name: string): Model {
  return description.models.find((model) => model.name === name) ?? description.models[0];
}

export function firstState(description: Description, model: Model): State {
  return {
    model: model.name,
    beside: description.models.length === 1 && model.reference ? GEANT4 : "",
    condition: [...model.start],
    seed: 0n,
    number: 0,
    average: 1,
    layer: -1,
    view: { ...START },
    theme: "",
  };
}

export function encode(description: Description, state: State): string {
  const model = modelOf(description, state.model);
  const detector = description.detectors[model.detector];
  const query = new URLSearchParams({ model: state.model });
  if (state.beside) query.set("beside", state.beside);
  detector.conditions.forEach((c, k) => query.set(`c.${c.name}`, String(state.condition[k])));
  query.set("seed", String(state.seed));
  query.set("shower", String(state.number));
  query.set("average", String(state.average));
  if (state.layer >= 0) query.set("layer", String(state.layer));
  const { azimuth, polar, zoom } = state.view;
  query.set("view", [azimuth, polar, zoom].map((v) => v.toFixed(3)).join("~"));
  if (state.theme) query.set("theme", state.theme);
  return query.toString();
}

// The state of a link; what it lacks, or what cannot be, is that of the first picture.
export function decode(description: Description, hash: string): State {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const model = modelOf(description, query.get("model") ?? "");
  const detector = description.detectors[model.detector];
  const state = firstState(description, model);
  const beside = query.get("beside");
  if (query.has("model")) state.beside = "";
  if (beside === GEANT4 && model.reference) state.beside = GEANT4;
  const other = description.models.find((m) => m.name === beside);
  if (other && other !== model && other.detector === model.detector) state.beside = other.name;
  detector.conditions.forEach((c, k) => {
    const text = query.get(`c.${c.name}`);
    const value = text === null || text.trim() === "" ? Number.NaN : Number(text);
    if (possible(value, c.scale, c.low, c.high)) state.condition[k] = value;
  });
  const seed = query.get("seed") ?? "";
  if (/^\d{1,20}$/.test(seed) && BigInt(seed) < 2n ** 64n) state.seed = BigInt(seed);
  state.number = whole(query.get("shower"), 0, 1e9) ?? state.number;
  const average = whole(query.get("average"), 1, 100);
  if (average !== null && AVERAGES.includes(average)) state.average = average;
  state.layer = whole(query.get("layer"), 0, detector.layers.length - 1) ?? -1;
  const view = (query.get("view") ?? "").split("~").map(Number);
  if (view.length === 3 && view.every(Number.isFinite)) {
    state.view = { azimuth: view[0], polar: view[1], zoom: view[2] };
  }
  const theme = query.get("theme");
  if (theme === "dark" || theme === "light") state.theme = theme;
  return state;
}

export function possible(value: number, scale: string, low: number, high: number): boolean {
  if (!Number.isFinite(value) || Math.abs(value) > 1e30) return false;
  if (scale === "log") return value > 0;
  if (scale === "category") return Number.isInteger(value) && value >= low && value <= high;
  return true;
}

function whole(text: string | null, low: number, high: number): number | null {
  if (text === null || !/^\d+$/.test(text)) return null;
  const value = Number(text);
  return value >= low && value <= high ? value : null;
}
