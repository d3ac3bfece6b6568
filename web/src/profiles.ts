// Profiles as steps: one line for each shower that is shown, over Geant4's band.
import { ink } from "./colours";
import { prepare } from "./maps";
import type { Band } from "./observables";

const FONT = '12px system-ui, "Segoe UI", sans-serif';
const LEFT = 50;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 52;

export interface Profile {
  ticks: { at: number; text: string; row: number }[]; // on the horizontal axis, in bins
  bins: number;
  label: string; // of the horizontal axis
  log: boolean;
  bands: Band[] | null;
  series: { values: ArrayLike<number>; colour: string; dash: number[] }[];
}

export function drawProfile(canvas: HTMLCanvasElement, profile: Profile, width: number): void {
  const height = 200;
  const pen = prepare(canvas, width, height);
  const box = { x: LEFT, y: TOP, width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
  const [low, high] = range(profile);
  const across = (bin: number) => box.x + (bin / profile.bins) * box.width;
  const up = (value: number) => {
    const share = profile.log
      ? Math.log(Math.max(value, low) / low) / Math.log(high / low)
      : (value - low) / (high - low);
    return box.y + box.height * (1 - Math.min(1.02, Math.max(0, share)));
  };
  axes(pen, profile, box, low, high, across, up);
  if (profile.bands) {
    pen.fillStyle = ink("band");
    profile.bands.forEach((band, bin) => {
      const [top, bottom] = [up(band.high), up(band.low)];
      pen.fillRect(across(bin), top, across(bin + 1) - across(bin) + 0.3, bottom - top);
    });
    steps(
      pen,
      profile.bands.map((b) => b.mean),
      ink("geant4"),
      [3, 3],
      across,
      up,
    );
  }
  for (const { values, colour, dash } of profile.series) {
    steps(pen, values, colour, dash, across, up);
  }
}

function range(profile: Profile): [number, number] {
  let high = 0;
  for (const { values } of profile.series) high = Math.max(high, ...Array.from(values));
  for (const band of profile.bands ?? []) high = Math.max(high, band.high);
  if (!(high > 0)) high = 1;
  return profile.log ? [high * 1e-5, high * 2] : [0, 1.08 * high];
}

function steps(
  pen: CanvasRenderingContext2D,
  values: ArrayLike<number>,
  colour: string,
  dash: number[],
  across: (bin: number) => number,
  up: (value: number) => number,
): void {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.setLineDash(dash);
  pen.beginPath();
  for (let bin = 0; bin < values.length; bin += 1) {
    pen.lineTo(across(bin), up(values[bin]));
    pen.lineTo(across(bin + 1), up(values[bin]));
  }
  pen.stroke();
  pen.setLineDash([]);
}

function axes(
  pen: CanvasRenderingContext2D,
  profile: Profile,
  box: { x: number; y: number; width: number; height: number },
  low: number,
  high: number,
  across: (bin: number) => number,
  up: (value: number) => number,
): void {
  pen.font = FONT;
  pen.fillStyle = ink("quiet");
  pen.strokeStyle = ink("quiet");
  pen.lineWidth = 1;
  pen.strokeRect(box.x + 0.5, box.y + 0.5, box.width - 1, box.height - 1);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const value of profile.log ? decades(low, high) : round(high)) {
    const text = profile.log ? power(value) : String(Number(value.toPrecision(3)));
    pen.fillText(text, box.x - 5, up(value));
    pen.fillRect(box.x, up(value), 4, 1);
  }
  pen.textBaseline = "alphabetic";
  pen.textAlign = "center";
  const free = [-Infinity, -Infinity];
  for (const { at, text, row } of profile.ticks) {
    const half = 0.5 * pen.measureText(text).width;
    const middle = Math.min(across(at), box.x + box.width + RIGHT - half);
    if (middle - half < free[row]) continue;
    pen.fillText(text, middle, box.y + box.height + 15 + 14 * row);
    free[row] = middle + half + 8;
  }
  const rows = profile.ticks.some(({ row }) => row > 0) ? 2 : 1;
  pen.fillText(profile.label, box.x + 0.5 * box.width, box.y + box.height + 18 + 14 * rows);
}

function decades(low: number, high: number): number[] {
  const found: number[] = [];
  for (let k = Math.ceil(Math.log10(low)); k <= Math.log10(high); k += 1) found.push(10 ** k);
  return found;
}

function round(high: number): number[] {
  const rough = high / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((k) => k >= rough) as number;
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, k) => k * step);
}

function power(value: number): string {
  const k = Math.round(Math.log10(value));
  if (k >= -2 && k <= 2) return String(Number(value.toPrecision(1)));
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const text = [...String(Math.abs(k))].map((d) => digits[Number(d)]).join("");
  return `10${k < 0 ? "⁻" : ""}${text}`;
}
