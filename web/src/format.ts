// Numbers with units, for people.

export function number(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 1);
  return Number(value.toPrecision(digits)).toString();
}

export function energy(mev: number, digits = 3): string {
  const size = Math.abs(mev);
  if (size === 0) return "0 MeV";
  const units: [number, string][] = [
    [1e6, "TeV"],
    [1e3, "GeV"],
    [1, "MeV"],
    [1e-3, "keV"],
  ];
  const [factor, unit] = units.find(([f]) => size >= 0.9995 * f) ?? units[3];
  return `${number(mev / factor, digits)} ${unit}`;
}

export function quantity(value: number, unit: string, digits = 3): string {
  if (unit === "MeV") return energy(value, digits);
  if (unit === "rad") return `${number(value, digits)} rad (${number((value * 180) / Math.PI)}°)`;
  return unit ? `${number(value, digits)} ${unit}` : number(value, digits);
}

export function seconds(value: number): string {
  if (value >= 1) return `${number(value)} s`;
  return value >= 1e-3 ? `${number(value * 1e3)} ms` : `${number(value * 1e6)} µs`;
}

// Greek names of axes as they are written in formulas.
export function axisName(axis: string): string {
  const greek: Record<string, string> = { alpha: "α", eta: "η", phi: "φ", theta: "θ" };
  return greek[axis] ?? axis;
}
