// The numbers and profiles that the page shows, for generated and for Geant4's showers alike.
import { type Cells, distances, incidentEnergy } from "./cells";
import type { Detector } from "./types";

export interface Summary {
  incident: number; // MeV
  total: number; // deposited, MeV
  response: number; // deposited over incident energy
  lit: number; // cells with energy
  layers: Float64Array; // share of the incident energy in each layer
  rings: Float64Array; // share of the incident energy in each ring around the line
}

// The middle 68 % of some showers, and their mean.
export interface Band {
  mean: number;
  low: number;
  high: number;
}

export class Observer {
  private readonly all: Uint32Array;

  constructor(
    readonly detector: Detector,
    readonly cells: Cells,
  ) {
    this.all = Uint32Array.from({ length: cells.count }, (_, cell) => cell);
  }

  // Which ring each cell lies in; the number of rings where it lies outside all of them.
  ringOfCells(condition: number[]): Uint16Array {
    const { rings } = this.detector;
    const far = distances(this.detector, this.cells, condition);
    return Uint16Array.from(far, (r) => {
      let ring = 0;
      while (ring < rings.length - 1 && r >= rings[ring + 1]) ring += 1;
      return ring;
    });
  }

  // Cells below the detector's cut count as empty, as in every metric.
  summary(energies: ArrayLike<number>, condition: number[], ring: Uint16Array): Summary {
    return this.sparse(this.all, energies, condition, ring);
  }

  // As `summary`, from the cells with energy alone.
  sparse(
    places: ArrayLike<number>,
    energies: ArrayLike<number>,
    condition: number[],
    ring: Uint16Array,
  ): Summary {
    const incident = incidentEnergy(this.detector, condition);
    const layers = new Float64Array(this.detector.layers.length);
    const rings = new Float64Array(this.detector.rings.length - 1);
    let total = 0;
    let lit = 0;
    for (let k = 0; k < places.length; k += 1) {
      const energy = energies[k];
      if (energy <= 0 || energy < this.detector.cut) continue;
      const cell = places[k];
      total += energy;
      lit += 1;
      layers[this.cells.layer[cell]] += energy / incident;
      if (ring[cell] < rings.length) rings[ring[cell]] += energy / incident;
    }
    return { incident, total, response: total / incident, lit, layers, rings };
  }
}

// The mean of several showers' numbers.
export function average(summaries: Summary[]): Summary {
  const n = summaries.length;
  const mean = (value: (s: Summary) => number) =>
    summaries.reduce((sum, s) => sum + value(s), 0) / n;
  return {
    incident: mean((s) => s.incident),
    total: mean((s) => s.total),
    response: mean((s) => s.response),
    lit: mean((s) => s.lit),
    layers: Float64Array.from(summaries[0].layers, (_, k) => mean((s) => s.layers[k])),
    rings: Float64Array.from(summaries[0].rings, (_, k) => mean((s) => s.rings[k])),
  };
}

// What Geant4's showers do: for one shower the middle 68 % of them; for the average of `count` the
// mean plus and minus what such an average and the mean itself scatter.
export function band(values: number[], count: number): Band {
  const n = values.length;
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  if (count === 1) return { mean, low: quantile(values, 0.16), high: quantile(values, 0.84) };
  const square = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, n - 1);
  const error = Math.sqrt(square * (1 / count + 1 / n));
  return { mean, low: Math.max(0, mean - error), high: mean + error };
}

export function bands(summaries: Summary[], count: number, of: "layers" | "rings"): Band[] {
  return Array.from(summaries[0][of], (_, k) =>
    band(
      summaries.map((s) => s[of][k]),
      count,
    ),
  );
}

function quantile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
