// Where the cells of a detector lie, and where the particle's straight line goes through them.
import type { Detector, Layer } from "./types";

export interface Cells {
  count: number;
  layer: Uint16Array; // position of the layer of each cell
  // Ends of each cell along the slow axis of its layer, the fast one, and the depth.
  slow: Float32Array; // (count, 2)
  fast: Float32Array; // (count, 2)
  begins: number[]; // first cell of each layer, and the number of cells at last
}

export function cellsOf(detector: Detector): Cells {
  const begins = [0];
  for (const layer of detector.layers) {
    begins.push(begins[begins.length - 1] + slowBins(layer) * fastBins(layer));
  }
  const count = begins[begins.length - 1];
  const cells: Cells = {
    count,
    layer: new Uint16Array(count),
    slow: new Float32Array(2 * count),
    fast: new Float32Array(2 * count),
    begins,
  };
  detector.layers.forEach((layer, index) => {
    let cell = begins[index];
    for (let i = 0; i < slowBins(layer); i += 1) {
      for (let j = 0; j < fastBins(layer); j += 1) {
        cells.layer[cell] = index;
        cells.slow.set([layer.edges[0][i], layer.edges[0][i + 1]], 2 * cell);
        cells.fast.set([layer.edges[1][j], layer.edges[1][j + 1]], 2 * cell);
        cell += 1;
      }
    }
  });
  return cells;
}

export function slowBins(layer: Layer): number {
  return layer.edges[0].length - 1;
}

export function fastBins(layer: Layer): number {
  return layer.edges[1].length - 1;
}

// How far the window of a layer is moved along its slow and fast axis under a condition, in mm.
export function shiftOf(detector: Detector, layer: Layer, condition: number[]): [number, number] {
  if (!layer.shift) return [0, 0];
  const { axis, condition: name, step } = layer.shift;
  const column = detector.conditions.findIndex((c) => c.name === name);
  const moved = step * condition[column];
  return axis === layer.axes[0] ? [moved, 0] : [0, moved];
}

export function incidentEnergy(detector: Detector, condition: number[]): number {
  const parts = detector.energy.map((column) => condition[column]);
  return parts.length === 1 ? parts[0] : Math.hypot(...parts);
}

// Impact in mm and slopes of the particle's line along the axes of the first grid of cells.
export function lineOf(
  detector: Detector,
  condition: number[],
): { entry: number[]; slope: number[] } {
  const { impact, momentum, angles, slopes } = detector.line;
  const entry = impact.map((column) => (column === null ? 0 : condition[column]));
  let slope = [0, 0];
  if (momentum) {
    const [first, second, along] = momentum.map((column) => condition[column]);
    slope = [first / along, second / along];
  } else if (angles) {
    const [theta, phi] = angles.map((column) => condition[column]);
    slope = [Math.tan(theta) * Math.cos(phi), Math.tan(theta) * Math.sin(phi)];
  } else if (slopes) {
    slope = slopes.map((column) => condition[column]);
  }
  return { entry: [entry[0] ?? 0, entry[1] ?? 0], slope };
}

// Where the line is at a depth, along the slow and the fast axis of a grid.
export function lineAt(
  detector: Detector,
  layer: Layer,
  line: { entry: number[]; slope: number[] },
  depth: number,
): [number, number] {
  const at = line.entry.map((e, k) => e + depth * line.slope[k]);
  const axis = (name: string) => {
    const k = detector.line.axes.indexOf(name);
    return k < 0 ? 0 : at[k];
  };
  return [axis(layer.axes[0]), axis(layer.axes[1])];
}

// Distance in mm of the middle of each cell from the particle's line; for rings, from their axis.
export function distances(detector: Detector, cells: Cells, condition: number[]): Float32Array {
  const out = new Float32Array(cells.count);
  const line = lineOf(detector, condition);
  detector.layers.forEach((layer, index) => {
    const [s0, f0] = shiftOf(detector, layer, condition);
    const [s1, f1] = lineAt(detector, layer, line, layer.depth);
    for (let cell = cells.begins[index]; cell < cells.begins[index + 1]; cell += 1) {
      const slow = 0.5 * (cells.slow[2 * cell] + cells.slow[2 * cell + 1]);
      const fast = 0.5 * (cells.fast[2 * cell] + cells.fast[2 * cell + 1]);
      out[cell] = layer.kind === "polar" ? fast : Math.hypot(slow + s0 - s1, fast + f0 - f1);
    }
  });
  return out;
}
