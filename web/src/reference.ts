// Geant4's showers for the page, from the file that src/caloforge/explore/reference.py writes.
import { incidentEnergy, lineOf } from "./cells";
import type { Observer, Summary } from "./observables";

const NEAR = 40; // showers of the band, at most
const FACTOR = 1.5; // between their incident energies and the one asked for, at most

export class Reference {
  readonly count: number;
  private readonly conditions: Float32Array;
  private readonly begins: Uint32Array;
  private readonly energies: Float32Array;
  private readonly places: Uint16Array | Uint32Array;
  private readonly columns: number;
  private readonly summaries = new Map<number, Summary>();
  private readonly widths: number[];

  constructor(
    buffer: ArrayBuffer,
    private readonly observer: Observer,
  ) {
    const [count, cells, columns, lit] = new Uint32Array(buffer, 0, 4);
    if (cells !== observer.cells.count || columns !== observer.detector.conditions.length) {
      throw new Error("Geant4's showers belong to another detector.");
    }
    this.count = count;
    this.columns = columns;
    let at = 16;
    this.conditions = new Float32Array(buffer, at, count * columns);
    at += 4 * count * columns;
    this.begins = new Uint32Array(buffer, at, count + 1);
    at += 4 * (count + 1);
    this.energies = new Float32Array(buffer, at, lit);
    at += 4 * lit;
    this.places =
      cells <= 65536 ? new Uint16Array(buffer, at, lit) : new Uint32Array(buffer, at, lit);
    // The extent of each condition, by which distances are measured.
    this.widths = observer.detector.conditions.map((_, c) => {
      const values = Array.from({ length: count }, (_, k) => this.conditions[k * columns + c]);
      return Math.max(...values) - Math.min(...values) || 1;
    });
  }

  condition(index: number): number[] {
    return Array.from(this.conditions.subarray(index * this.columns, (index + 1) * this.columns));
  }

  // All cells of a shower in MeV.
  shower(index: number): Float32Array {
    const out = new Float32Array(this.observer.cells.count);
    for (let k = this.begins[index]; k < this.begins[index + 1]; k += 1) {
      out[this.places[k]] = this.energies[k];
    }
    return out;
  }

  summary(index: number): Summary {
    let found = this.summaries.get(index);
    if (!found) {
      const condition = this.condition(index);
      const ring = this.ring(condition);
      const [a, b] = [this.begins[index], this.begins[index + 1]];
      const { places, energies } = this;
      found = this.observer.sparse(
        places.subarray(a, b),
        energies.subarray(a, b),
        condition,
        ring,
      );
      this.summaries.set(index, found);
    }
    return found;
  }

  // Where the particle always comes in at one place, all showers have the same rings.
  private fixedRing: Uint16Array | null = null;
  private ring(condition: number[]): Uint16Array {
    const { detector } = this.observer;
    const still = !detector.line.moves && detector.layers.every((layer) => !layer.shift);
    if (!still) return this.observer.ringOfCells(condition);
    this.fixedRing ??= this.observer.ringOfCells(condition);
    return this.fixedRing;
  }

  // The showers most like a condition, nearest first: of the same categories, with an incident
  // energy within FACTOR. The energy counts four times as much as the other conditions.
  near(condition: number[]): number[] {
    const { detector } = this.observer;
    const energy = incidentEnergy(detector, condition);
    const found: [number, number][] = [];
    for (let k = 0; k < this.count; k += 1) {
      const other = this.condition(k);
      const step = Math.abs(Math.log(incidentEnergy(detector, other) / energy));
      if (step > Math.log(FACTOR)) continue;
      let far = (4 * step) ** 2;
      let same = true;
      detector.conditions.forEach((c, column) => {
        if (c.role === "particle" && other[column] !== condition[column]) same = false;
        if (["energy", "momentum", "azimuth", "particle"].includes(c.role)) return;
        far += ((other[column] - condition[column]) / this.widths[column]) ** 2;
      });
      const [a, b] = [lineOf(detector, other).slope, lineOf(detector, condition).slope];
      far += 4 * ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2);
      if (same) found.push([far, k]);
    }
    return found
      .sort((x, y) => x[0] - y[0])
      .slice(0, NEAR)
      .map(([, k]) => k);
  }

  // Whether the particle flies as steeply as in some of Geant4's showers.
  steepest(): number {
    const { detector } = this.observer;
    let most = 0;
    for (let k = 0; k < this.count; k += 1) {
      most = Math.max(most, Math.hypot(...lineOf(detector, this.condition(k)).slope));
    }
    return most;
  }
}
