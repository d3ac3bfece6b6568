// Colours of energies, and of the page's own parts as its style sheet sets them.

// Viridis (Smith and van der Walt 2015), every eighth of the way.
const VIRIDIS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

// Red, green and blue from 0 to 1. `t` goes from 0, faint, to 1, bright; on a light page faint
// cells are light.
export function colour(t: number, dark: boolean): [number, number, number] {
  const place = (dark ? t : 1 - t) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const share = place - below;
  const mix = (k: number) =>
    (VIRIDIS[below][k] + share * (VIRIDIS[below + 1][k] - VIRIDIS[below][k])) / 255;
  return [mix(0), mix(1), mix(2)];
}

export function css(t: number, dark: boolean): string {
  const [r, g, b] = colour(t, dark).map((v) => Math.round(255 * v));
  return `rgb(${r},${g},${b})`;
}

// The energies of the colours: from `low` to `high` MeV, on a logarithmic scale.
export interface Scale {
  low: number;
  high: number;
}

export const DECADES = 4;

// A scale for pictures that are looked at together: four decades below the brightest cell, not
// below the detector's cut.
export function scaleOf(pictures: ArrayLike<number>[], cut: number): Scale {
  let high = 0;
  for (const picture of pictures) {
    for (let k = 0; k < picture.length; k += 1) if (picture[k] > high) high = picture[k];
  }
  if (!(high > 0)) return { low: 0.1, high: 1 };
  return { low: Math.max(high / 10 ** DECADES, Math.min(cut, high / 10)), high };
}

// Where an energy lies on a scale, from 0 to 1; -1 for empty cells. The detector's cut has been
// applied to each shower: the mean of several may well lie below it.
export function place(energy: number, scale: Scale): number {
  if (!(energy > 0)) return -1;
  const t = Math.log(energy / scale.low) / Math.log(scale.high / scale.low);
  return Math.min(1, Math.max(0, t));
}

export function isDark(): boolean {
  return document.documentElement.dataset.theme !== "light";
}

// Asking the browser for a style costs time, and pictures ask often.
const known = new Map<string, string>();

// A colour variable of the style sheet.
export function ink(name: string): string {
  let found = known.get(name);
  if (found === undefined) {
    found = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    known.set(name, found);
  }
  return found;
}

// To be called when the colours of the page have changed.
export function forgetInks(): void {
  known.clear();
}
