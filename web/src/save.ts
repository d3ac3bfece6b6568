// Pictures and tables of what the page shows, as files.
import type { Cells } from "./cells";
import { shiftOf } from "./cells";
import { ink } from "./colours";
import type { Detector } from "./types";

export function download(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// The cells of a shower, or of the mean of several, one a line.
export function table(
  detector: Detector,
  cells: Cells,
  energies: ArrayLike<number>,
  condition: number[],
  remarks: string[],
): Blob {
  const lines = [
    ...remarks.map((remark) => `# ${remark}`),
    "layer,name,axes,slow_low,slow_high,fast_low,fast_high,energy_MeV",
  ];
  for (let cell = 0; cell < cells.count; cell += 1) {
    const layer = detector.layers[cells.layer[cell]];
    const [s, f] = shiftOf(detector, layer, condition);
    const edges = [
      cells.slow[2 * cell] + s,
      cells.slow[2 * cell + 1] + s,
      cells.fast[2 * cell] + f,
      cells.fast[2 * cell + 1] + f,
    ].map((edge) => Number(edge.toPrecision(7)));
    const energy = Number(energies[cell]).toPrecision(8);
    lines.push([layer.id, layer.name, layer.axes.join("-"), ...edges, energy].join(","));
  }
  return new Blob([lines.join("\n"), "\n"], { type: "text/csv" });
}

// A picture of the page and its size there.
export interface Picture {
  content: HTMLCanvasElement;
  width: number;
  height: number;
}

export function sized(shown: HTMLCanvasElement, content = shown): Picture {
  return { content, width: shown.clientWidth, height: shown.clientHeight };
}

// All pictures of the page, below one another, with what they show in words.
export async function picture(columns: Picture[][], words: string[]): Promise<Blob> {
  const gap = 16;
  const line = 22;
  const fine = 2;
  const shown = columns.map((column) => column.filter((p) => p.width && p.height));
  const widths = shown.map((column) => Math.max(1, ...column.map((p) => p.width)));
  const heights = shown.map((column) => column.reduce((sum, p) => sum + p.height + gap, 0));
  const width = widths.reduce((sum, w) => sum + w + gap, gap);
  const top = gap + line * words.length + gap;
  const canvas = document.createElement("canvas");
  canvas.width = fine * width;
  canvas.height = fine * (top + Math.max(...heights));
  const pen = canvas.getContext("2d") as CanvasRenderingContext2D;
  pen.scale(fine, fine);
  pen.fillStyle = ink("page");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = ink("text");
  pen.font = '15px system-ui, "Segoe UI", sans-serif';
  words.forEach((text, k) => pen.fillText(text, gap, gap + line * (k + 0.7), width - 2 * gap));
  let x = gap;
  shown.forEach((column, k) => {
    let y = top;
    for (const { content, width: w, height: h } of column) {
      pen.drawImage(content, x, y, w, h);
      y += h + gap;
    }
    x += widths[k] + gap;
  });
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("No picture."))),
      "image/png",
    );
  });
}
