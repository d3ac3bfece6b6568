// The page: it keeps a state, asks the back end for the showers of that state, and draws them.
import type { Backend } from "./backend";
import { BlindTest } from "./blind";
import { type Cells, cellsOf, incidentEnergy, lineOf } from "./cells";
import { scaleOf } from "./colours";
import { Controls, along } from "./controls";
import { energy } from "./format";
import { Noise } from "./noise";
import { manyLayers, panelsOf, valuesOf } from "./maps";
import { Observer, type Summary, average } from "./observables";
import { Pane, type Shown } from "./pane";
import { Reference } from "./reference";
import { type State, GEANT4, decode, encode, firstState, modelOf } from "./state";
import { drawProfiles, fillTable, legend } from "./summary";
import type { Description, Detector, Model } from "./types";

export class App {
  state: State;
  asked!: State; // the state of which the showers on the page are
  model!: Model;
  detector!: Detector;
  cells!: Cells;
  reference: Reference | null = null;
  blind: BlindTest | null = null;
  shown: Shown[] = [];
  steep = Infinity; // steepest slope of Geant4's showers
  controls!: Controls;
  panes: Pane[] = [];
  showers = 0; // pictures of new showers that were drawn
  firstPicture = 0; // ms after the page was asked for
  onChange: () => void = () => {};
  private observer!: Observer;
  private noises = new Map<number, Noise>();
  private references = new Map<string, Promise<ArrayBuffer>>();
  private wanted = false;
  private working = false;
  private sweeping = 0; // the timer of a sweep
  private swept = 0; // the condition that it moves
  private openings = 0;

  constructor(
    readonly description: Description,
    readonly backend: Backend,
  ) {
    this.state = decode(description, location.hash);
  }

  // --- what is shown -----------------------------------------------------------------------
  async open(state: State): Promise<void> {
    this.stopSweep();
    this.openings += 1;
    const opening = this.openings;
    const model = modelOf(this.description, state.model);
    const detector = this.description.detectors[model.detector];
    this.backend.prepare?.(model);
    const cells = cellsOf(detector);
    const observer = new Observer(detector, cells);
    const reference = await this.loadReference(model, observer);
    // Showers that are being made belong to the detector that is still shown.
    this.wanted = false;
    while (this.working) await frame();
    if (opening !== this.openings) return; // while this one waited, another was asked for
    Object.assign(this, { state, model, detector, cells, observer, reference });
    // What was shown belongs to the detector before, and so does a blind test.
    this.shown = [];
    this.blind = null;
    element("numbers").hidden = true;
    this.steep = reference?.steepest() ?? Infinity;
    if (state.layer < 0) {
      const shares = Array.from(this.typical()?.layers ?? [1]);
      state.layer = shares.indexOf(Math.max(...shares));
    }
    this.controls = new Controls(
      element("conditions"),
      detector,
      model,
      (column, value) => this.move(column, value),
      (column) => this.sweep(column),
    );
    for (const pane of this.panes) pane.scene?.dispose();
    this.panes = [];
    element("panes").replaceChildren();
    this.refresh();
  }

  private async loadReference(model: Model, observer: Observer): Promise<Reference | null> {
    const name = model.reference;
    if (!name) return null;
    if (!this.references.has(name)) {
      const { file } = this.description.references[name];
      const load = fetch(file).then((answer) => {
        if (!answer.ok) throw new Error(`Geant4's showers (${file}) cannot be loaded.`);
        return answer.arrayBuffer();
      });
      this.references.set(name, load);
      // The next one who needs them asks again.
      load.catch(() => this.references.delete(name));
    }
    return new Reference(await (this.references.get(name) as Promise<ArrayBuffer>), observer);
  }

  // Change a part of the state and draw again.
  change(part: Partial<State>): void {
    Object.assign(this.state, part);
    this.refresh();
  }

  move(column: number, value: number): void {
    this.stopSweep();
    this.state.condition[column] = value;
    this.refresh();
  }

  // The newest state is drawn; states between that came while showers were made are left out.
  refresh(): void {
    this.wanted = true;
    // Until the first model is there, `open` is on its way and asks for the picture itself.
    if (!this.working && this.controls) void this.work();
  }

  private async work(): Promise<void> {
    this.working = true;
    while (this.wanted) {
      this.wanted = false;
      // A copy: the state may change while its showers are made, and they are not of the new one.
      const asked = { ...this.state, condition: [...this.state.condition] };
      this.controls.set(this.blind ? this.blindCondition() : asked.condition);
      let failed = "";
      try {
        this.shown = this.blind ? await this.pair(this.blind) : await this.side(asked);
        this.asked = asked;
        this.draw();
      } catch (error) {
        const before = this.shown.length ? " The page still shows the shower before." : "";
        failed = `${(error as Error).message}${before}`;
      }
      element("main").classList.toggle("before", failed !== "");
      fail(failed || this.remark());
      this.onChange();
      await frame();
    }
    this.working = false;
  }

  private async side(asked: State): Promise<Shown[]> {
    const { condition, seed, number, average: count } = asked;
    const shown = [await this.make(this.model, condition, seed, number, count)];
    if (asked.beside === GEANT4) {
      const geant4 = this.geant4(asked);
      if (geant4) shown.push(geant4);
    } else if (asked.beside) {
      const other = modelOf(this.description, asked.beside);
      shown.push(await this.make(other, condition, seed, number, count));
    }
    return shown;
  }

  // Showers of a generator: the noise of numbers `first` and following under a seed.
  private async make(
    model: Model,
    condition: number[],
    seed: bigint,
    first: number,
    count: number,
  ): Promise<Shown> {
    const { rows, noise } = this.inputs(model, condition, seed, first, count);
    const made = await this.backend.generate(model, rows, noise);
    const title = count > 1 ? `${model.name}, mean of ${count} showers` : model.name;
    return this.gather(title, made.energies, count, Array(count).fill(condition), made.seconds);
  }

  inputs(model: Model, condition: number[], seed: bigint, first: number, count: number) {
    let noise = this.noises.get(model.noise);
    if (!noise || noise.seed !== seed) {
      noise = new Noise(seed, model.noise);
      this.noises.set(model.noise, noise);
    }
    const rows = new Float32Array(count * condition.length);
    for (let k = 0; k < count; k += 1) rows.set(condition, k * condition.length);
    return { rows, noise: noise.rows(first, count) };
  }

  // The Geant4 shower most like the condition; "another shower" takes the next one.
  private geant4({ condition, average: most, number }: State): Shown | null {
    const near = this.reference?.near(condition) ?? [];
    if (!near.length) return null;
    const count = Math.min(most, near.length);
    const chosen = count > 1 ? near.slice(0, count) : [near[number % near.length]];
    return this.fromGeant4(chosen);
  }

  private fromGeant4(chosen: number[]): Shown {
    const reference = this.reference as Reference;
    const all = new Float32Array(chosen.length * this.cells.count);
    chosen.forEach((index, k) => all.set(reference.shower(index), k * this.cells.count));
    const conditions = chosen.map((index) => reference.condition(index));
    const incident = incidentEnergy(this.detector, conditions[0]);
    const count = chosen.length;
    const title = count > 1 ? `Geant4, mean of ${count} showers` : `Geant4, ${energy(incident)}`;
    return this.gather(title, all, count, conditions, null);
  }

  private gather(
    title: string,
    all: Float32Array,
    count: number,
    conditions: number[][],
    seconds: number | null,
  ): Shown {
    const size = this.cells.count;
    const { cut } = this.detector;
    let ring = this.observer.ringOfCells(conditions[0]);
    const each: Summary[] = [];
    const mean = new Float32Array(size);
    for (let k = 0; k < count; k += 1) {
      const one = all.subarray(k * size, (k + 1) * size);
      if (conditions[k] !== conditions[0]) ring = this.observer.ringOfCells(conditions[k]);
      each.push(this.observer.summary(one, conditions[k], ring));
      for (let cell = 0; cell < size; cell += 1)
        if (one[cell] >= cut) mean[cell] += one[cell] / count;
    }
    const summary = average(each);
    const took = seconds === null ? null : seconds / count;
    const condition = conditions[0];
    return { title, energies: mean, all, count, condition, summary, seconds: took };
  }

  // --- the blind test ----------------------------------------------------------------------
  startBlind(): void {
    const { reference, model } = this;
    if (!reference) return;
    const inside = (condition: number[]) =>
      condition.every((v, k) => v >= model.allowed[k][0] && v <= model.allowed[k][1]);
    const showers = Array.from({ length: reference.count }, (_, k) => k);
    const known = showers.filter((k) => inside(reference.condition(k)));
    if (!known.length) return;
    this.stopSweep();
    this.blind = new BlindTest(known);
    this.refresh();
  }

  endBlind(): void {
    this.blind = null;
    this.refresh();
  }

  private blindCondition(): number[] {
    const { blind, reference } = this;
    return (reference as Reference).condition((blind as BlindTest).round.shower);
  }

  private async pair(blind: BlindTest): Promise<Shown[]> {
    const { round } = blind;
    const made = await this.make(this.model, this.blindCondition(), round.seed, 0, 1);
    const real = this.fromGeant4([round.shower]);
    const pair = round.geant4First ? [real, made] : [made, real];
    return pair.map((shown, k) => {
      const origin = shown === real ? "Geant4" : this.model.name;
      const letter = "AB"[k];
      const title = round.answered ? `${letter}: ${origin}` : letter;
      return { ...shown, title, seconds: null };
    });
  }

  // --- sweeps ------------------------------------------------------------------------------
  // The same shower along the trained range of one condition, once. With reduced motion it goes in
  // six steps.
  sweep(column: number): void {
    const running = this.sweeping !== 0 && this.swept === column;
    this.stopSweep();
    if (running) return; // the button of a sweep stops it
    this.swept = column;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const [low, high] = this.model.trained[column];
    const { scale } = this.detector.conditions[column];
    const begin = performance.now();
    const step = () => {
      const share = Math.min(1, (performance.now() - begin) / 6000);
      const place = calm ? Math.floor(share * 5) / 5 : share;
      this.state.condition[column] = along(scale, low, high, place);
      this.refresh();
      this.sweeping = share < 1 ? window.setTimeout(step, calm ? 1200 : 16) : 0;
    };
    this.sweeping = window.setTimeout(step, 0);
  }

  private stopSweep(): void {
    window.clearTimeout(this.sweeping);
    this.sweeping = 0;
  }

  // --- drawing -----------------------------------------------------------------------------
  draw(): void {
    if (!this.shown.length) return;
    const { asked } = this;
    element("numbers").hidden = false;
    this.arrange(this.shown.length);
    this.showers += 1;
    const { detector, cells } = this;
    const energies = this.shown.map((s) => s.energies);
    const scale = scaleOf(energies, detector.cut);
    // The maps have a scale of their own where they show sums of cells.
    const panels = panelsOf(detector, asked.layer);
    const sums = energies.flatMap((e) => panels.map((panel) => valuesOf(panel, cells, e)));
    const maps = manyLayers(detector) ? scaleOf(sums, detector.cut) : scale;
    this.shown.forEach((shown, k) => this.panes[k].draw(shown, scale, maps, asked.layer));
    const near = this.blind ? [] : (this.reference?.near(asked.condition) ?? []);
    const geant4 = near.map((index) => (this.reference as Reference).summary(index));
    const count = this.blind ? 1 : asked.average;
    fillTable(element("table"), this.shown, geant4, count, this.backend.title);
    drawProfiles(detector, this.shown, geant4, count);
    legend(
      this,
      geant4,
      near.map((index) => (this.reference as Reference).condition(index)),
    );
    if (!this.firstPicture) this.firstPicture = performance.now();
  }

  // As many panes as there are showers; they are looked at from the same side.
  private arrange(count: number): void {
    const root = element("panes");
    root.classList.toggle("two", count > 1);
    while (this.panes.length > count) {
      const pane = this.panes.pop() as Pane;
      pane.scene?.dispose();
      pane.element.remove();
    }
    while (this.panes.length < count) {
      const which = this.panes.length ? "two" : "one";
      const pane = new Pane(which, this.detector, this.cells, this.part());
      root.append(pane.element);
      this.panes.push(pane);
      if (!pane.scene) continue;
      pane.scene.view = this.state.view;
      pane.scene.onView = (view) => {
        this.state.view = view;
        for (const other of this.panes) if (other !== pane && other.scene) other.scene.view = view;
        this.onChange();
      };
    }
  }

  // What is worth seeing: the layers with a hundredth of the energy of Geant4's showers, out to
  // the last ring with a thousandth of it; without such showers all layers and half of the rings.
  private part(): { depths: [number, number]; reach: number } {
    const { rings, layers } = this.detector;
    const mean = this.typical();
    const rich = layers.filter((_, k) => !mean || mean.layers[k] > 0.01 * mean.response);
    const depths = rich.flatMap((layer) => layer.z);
    const out = mean
      ? mean.rings.reduce((far, share, k) => (share > 1e-3 * mean.response ? k + 1 : far), 1)
      : Math.ceil(rings.length / 2);
    const reach = rings[Math.min(out, rings.length - 1)];
    return { depths: [Math.min(...depths), Math.max(...depths)], reach };
  }

  // The mean of up to 60 of Geant4's showers.
  private typical(): Summary | null {
    const { reference } = this;
    if (!reference) return null;
    const count = Math.min(60, reference.count);
    const every = reference.count / count;
    return average(
      Array.from({ length: count }, (_, k) => reference.summary(Math.floor(k * every))),
    );
  }

  theme(): void {
    for (const pane of this.panes) pane.scene?.theme();
    this.draw();
  }

  // --- words -------------------------------------------------------------------------------
  // What is wrong with the condition as a whole; the controls mark each one by itself.
  remark(): string {
    const slope = Math.hypot(...lineOf(this.detector, this.asked.condition).slope);
    if (!this.blind && slope > 1.05 * this.steep) {
      return "No Geant4 shower came in at such an angle: nothing is known about such showers.";
    }
    return "";
  }

  hasManyLayers(): boolean {
    return manyLayers(this.detector);
  }

  link(): string {
    return `${location.href.split("#")[0]}#${encode(this.description, this.state)}`;
  }

  first(): State {
    return firstState(this.description, modelOf(this.description, this.state.model));
  }
}

function frame(): Promise<unknown> {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}

export function element(id: string): HTMLElement {
  return document.getElementById(id) as HTMLElement;
}

export function fail(sentence: string): void {
  const message = element("message");
  message.hidden = !sentence;
  if (message.textContent !== sentence) message.textContent = sentence;
}
