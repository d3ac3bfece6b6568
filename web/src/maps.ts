// Layers unrolled: each cell of a layer in the colour of its energy, with axes in mm and rad.
import { type Cells, shiftOf } from "./cells";
import { type Scale, css, ink, isDark, place } from "./colours";
import { axisName, energy, number } from "./format";
import type { Detector, Layer } from "./types";

// With more layers than this, layers with the same cells are summed, and one can be looked at.
const MOST = 8;
const FONT = '12px system-ui, "Segoe UI", sans-serif';
const LEFT = 54;
const RIGHT = 12;
const TOP = 28;
const BOTTOM = 34;

// What one map shows: a layer, or the sum of several with the same cells.
export interface Panel {
  title: string;
  layer: Layer;
  members: number[]; // positions of the layers that are summed
}

interface Placed {
  panel: Panel;
  x: number;
  y: number;
  width: number;
  height: number;
  values: Float64Array;
  shift: [number, number];
  total: string; // the energy above the map; empty where there is no room for it
}

export function manyLayers(detector: Detector): boolean {
  return detector.layers.length > MOST;
}

// The maps of a detector; `chosen` is the layer that is looked at where layers are summed.
export function panelsOf(detector: Detector, chosen: number): Panel[] {
  const { layers } = detector;
  const whole = (layer: Layer, index: number): Panel => ({
    title: layer.name,
    layer,
    members: [index],
  });
  if (!manyLayers(detector)) return layers.map(whole);
  const groups: Panel[] = [];
  layers.forEach((layer, index) => {
    const open = groups[groups.length - 1];
    if (open && JSON.stringify(open.layer.edges) === JSON.stringify(layer.edges)) {
      open.members.push(index);
    } else groups.push({ title: "", layer, members: [index] });
  });
  for (const group of groups) {
    const count = group.members.length;
    const part = group.layer.name.split(" ")[0];
    group.title = count > 1 ? `${part}, ${count} layers` : group.layer.name;
  }
  return [...groups, whole(layers[chosen], chosen)];
}

// The energies that a map shows, summed over its layers.
export function valuesOf(panel: Panel, cells: Cells, energies: ArrayLike<number>): Float64Array {
  const [first] = panel.members;
  const size = cells.begins[first + 1] - cells.begins[first];
  const values = new Float64Array(size);
  for (const index of panel.members) {
    const begin = cells.begins[index];
    for (let k = 0; k < size; k += 1) values[k] += energies[begin + k];
  }
  return values;
}

export class Maps {
  private placed: Placed[] = [];
  private scale: Scale = { low: 0.1, high: 1 };

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly detector: Detector,
    private readonly cells: Cells,
  ) {}

  draw(
    energies: ArrayLike<number>,
    condition: number[],
    scale: Scale,
    chosen: number,
    width: number,
  ): void {
    this.scale = scale;
    const panels = panelsOf(this.detector, chosen);
    const columns = Math.max(1, Math.min(panels.length, Math.floor(width / 170)));
    const across = Math.floor(width / columns);
    const high = panels.length < 3 ? 306 : 182;
    const rows = Math.ceil(panels.length / columns);
    const bar = 50;
    const pen = prepare(this.canvas, width, rows * high + bar);
    this.placed = panels.map((panel, k) => ({
      panel,
      x: (k % columns) * across + LEFT,
      y: Math.floor(k / columns) * high + TOP,
      width: Math.min(across - LEFT - RIGHT, 1.4 * (high - TOP - BOTTOM)),
      height: high - TOP - BOTTOM,
      values: valuesOf(panel, this.cells, energies),
      shift: shiftOf(this.detector, panel.layer, condition),
      total: "",
    }));
    for (const placed of this.placed) this.map(pen, placed);
    this.bar(pen, LEFT, rows * high + 16, Math.min(320, width - LEFT - RIGHT - 30));
  }

  // What lies under a point of the canvas, in words.
  at(x: number, y: number): string {
    for (const { panel, x: left, y: top, width, height, values, shift } of this.placed) {
      if (x < left || x >= left + width || y < top || y >= top + height) continue;
      const { layer } = panel;
      const [horizontal, vertical] = spans(layer, shift);
      const i = horizontal.find((x - left) / width);
      const j = vertical.find(1 - (y - top) / height);
      const cell = i * (layer.edges[1].length - 1) + j;
      const range = (edges: number[], k: number, unit: string, by: number) =>
        `${number(edges[k] + by)} to ${number(edges[k + 1] + by)} ${unit}`;
      const [a, b] = layer.axes.map(axisName);
      const unit = layer.kind === "polar" ? "rad" : "mm";
      return (
        `${panel.title}, ${a} ${range(layer.edges[0], i, unit, shift[0])}, ` +
        `${b} ${range(layer.edges[1], j, "mm", shift[1])}: ${energy(values[cell])}`
      );
    }
    return "";
  }

  private map(pen: CanvasRenderingContext2D, placed: Placed): void {
    const { panel, x, y, width, height, values, shift } = placed;
    const { layer } = panel;
    const dark = isDark();
    const [horizontal, vertical] = spans(layer, shift);
    const total = values.reduce((sum, v) => sum + v, 0);
    pen.fillStyle = ink("text");
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
    pen.font = `600 ${FONT}`;
    // Titles begin in the margin: narrow maps have no room for name and total above them.
    pen.fillText(panel.title, x - LEFT + 8, y - 12);
    const long = pen.measureText(panel.title).width;
    pen.font = FONT;
    pen.fillStyle = ink("quiet");
    placed.total = energy(total);
    if (long + pen.measureText(placed.total).width + 8 > width + LEFT - 8) placed.total = "";
    pen.textAlign = "right";
    pen.fillText(placed.total, x + width, y - 12);
    pen.fillStyle = ink("empty");
    pen.fillRect(x, y, width, height);
    const fast = layer.edges[1].length - 1;
    values.forEach((value, cell) => {
      const t = place(value, this.scale);
      if (t < 0) return;
      const i = Math.floor(cell / fast);
      const j = cell % fast;
      const [x0, x1] = [horizontal.at(i) * width, horizontal.at(i + 1) * width];
      const [y0, y1] = [vertical.at(j) * height, vertical.at(j + 1) * height];
      pen.fillStyle = css(t, dark);
      // Half a pixel more, so that no background shines through between cells.
      pen.fillRect(x + x0, y + height - y1, x1 - x0 + 0.5, y1 - y0 + 0.5);
    });
    pen.strokeStyle = ink("quiet");
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    this.axes(pen, placed, horizontal, vertical);
  }

  private axes(
    pen: CanvasRenderingContext2D,
    { panel, x, y, width, height }: Placed,
    horizontal: Span,
    vertical: Span,
  ): void {
    const [a, b] = panel.layer.axes.map(axisName);
    const polar = panel.layer.kind === "polar";
    pen.fillStyle = ink("quiet");
    pen.textAlign = "center";
    for (const k of horizontal.ticks(width / 44)) {
      const text = polar ? angle(horizontal.edges[k]) : number(horizontal.edges[k]);
      pen.fillText(text, x + horizontal.at(k) * width, y + height + 14);
    }
    pen.fillText(`${a} [${polar ? "rad" : "mm"}]`, x + 0.5 * width, y + height + 28);
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const k of vertical.ticks(height / 17)) {
      const down = y + height - vertical.at(k) * height;
      pen.fillText(number(vertical.edges[k]), x - 4, Math.min(down, y + height - 4));
    }
    pen.save();
    pen.translate(x - 46, y + 0.5 * height);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillText(`${b} [mm]`, 0, 0);
    pen.restore();
    pen.textBaseline = "alphabetic";
  }

  private bar(pen: CanvasRenderingContext2D, x: number, y: number, width: number): void {
    const dark = isDark();
    for (let k = 0; k < width; k += 1) {
      pen.fillStyle = css(k / width, dark);
      pen.fillRect(x + k, y, 1.5, 12);
    }
    pen.fillStyle = ink("quiet");
    pen.font = FONT;
    pen.textAlign = "center";
    const { low, high } = this.scale;
    const first = Math.ceil(Math.log10(low) - 1e-9);
    const last = Math.floor(Math.log10(high) + 1e-9);
    let free = -Infinity; // a number that has no room is left out
    for (let power = first; power <= last; power += 1) {
      const t = (power * Math.LN10 - Math.log(low)) / Math.log(high / low);
      const [middle, text] = [x + t * width, energy(10 ** power)];
      const half = 0.5 * pen.measureText(text).width;
      pen.fillRect(middle, y + 12, 1, 4);
      if (middle - half < free) continue;
      pen.fillText(text, middle, y + 28);
      free = middle + half + 8;
    }
    pen.textAlign = "left";
    const sums = this.placed.some(({ panel }) => panel.members.length > 1);
    pen.fillText(sums ? "energy of a cell or a sum of cells" : "energy of a cell", x, y - 5);
  }
}

function angle(value: number): string {
  const quarter = value / (Math.PI / 2);
  const names: Record<string, string> = {
    "-2": "−π",
    "-1": "−π/2",
    "0": "0",
    "1": "π/2",
    "2": "π",
  };
  return names[String(Math.round(quarter * 1000) / 1000)] ?? number(value, 2);
}

// One axis of a map: where the edges of the cells are drawn, from 0 to 1. Rings are drawn equally
// wide, whatever their width in mm, for the inner ones would be too narrow to see.
class Span {
  constructor(
    readonly edges: number[],
    private readonly equal: boolean,
  ) {}

  at(k: number): number {
    const { edges } = this;
    const last = edges.length - 1;
    return this.equal ? k / last : (edges[k] - edges[0]) / (edges[last] - edges[0]);
  }

  find(share: number): number {
    let k = 0;
    while (k < this.edges.length - 2 && share >= this.at(k + 1)) k += 1;
    return k;
  }

  // Which edges carry a number when there is room for so many.
  ticks(room: number): number[] {
    const last = this.edges.length - 1;
    const count = Math.max(1, Math.min(last, Math.floor(room) - 1));
    let step = Math.ceil(last / count);
    // Steps that end at the last edge are rounder, where they are not much wider.
    for (let k = step; k < 2 * step; k += 1) {
      if (last % k === 0) {
        step = k;
        break;
      }
    }
    const found: number[] = [];
    for (let k = 0; k <= last; k += step) found.push(k);
    if (!found.includes(last) && last - found[found.length - 1] > step / 2) found.push(last);
    return found;
  }
}

function spans(layer: Layer, shift: [number, number]): [Span, Span] {
  const moved = (k: 0 | 1) => layer.edges[k].map((edge) => edge + shift[k]);
  return [new Span(moved(0), false), new Span(moved(1), layer.kind === "polar")];
}

// A canvas of `width` x `height` pixels of the page, sharp on fine screens.
export function prepare(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
): CanvasRenderingContext2D {
  const fine = Math.min(3, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * fine), Math.round(height * fine)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  // A thousand small rectangles are painted faster by the processor than by most graphics drivers.
  const settings = { willReadFrequently: true };
  const pen = canvas.getContext("2d", settings) as CanvasRenderingContext2D;
  pen.setTransform(fine, 0, 0, fine, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}
