// The description of the page (explorer.json), as src/caloforge/explore/describe.py writes it.
// Energies are in MeV, lengths in mm, angles in rad.

export interface Condition {
  name: string;
  unit: string;
  low: number;
  high: number;
  scale: "linear" | "log" | "angle" | "category";
  label: string;
  role: string;
  axis: string;
}

export interface Layer {
  id: number;
  name: string;
  kind: "polar" | "grid";
  axes: [string, string]; // the slow axis and the fast one
  edges: [number[], number[]];
  z: [number, number];
  depth: number; // where the particle's line is asked for its position
  shift: { axis: string; condition: string; step: number } | null;
}

export interface Line {
  axes: string[];
  impact: (number | null)[];
  momentum: number[] | null;
  angles: number[] | null;
  slopes: number[] | null;
  moves: boolean;
}

export interface Detector {
  name: string;
  title: string;
  cut: number;
  particles: string[];
  conditions: Condition[];
  layers: Layer[];
  depths_known: boolean;
  energy: number[];
  line: Line;
  rings: number[];
}

export interface Model {
  name: string;
  text: string;
  detector: string;
  noise: number;
  trained: [number, number][];
  allowed: [number, number][];
  start: number[];
  reference: string | null;
  onnx: string | null;
}

export interface Description {
  version: string;
  backend: "server" | "onnx";
  models: Model[];
  detectors: Record<string, Detector>;
  references: Record<string, { file: string; source: string; count: number }>;
}

// Showers (N, V) in MeV, row after row, and the seconds that they took.
export interface Made {
  energies: Float32Array;
  seconds: number;
}
