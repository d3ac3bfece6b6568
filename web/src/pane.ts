// One shower on the page: its picture in three dimensions and its layers.
import type { Cells } from "./cells";
import type { Scale } from "./colours";
import { Maps } from "./maps";
import { type Picture, sized } from "./save";
import type { Summary } from "./observables";
import { Scene } from "./scene";
import type { Detector } from "./types";

// A shower, or the mean of several, ready to be drawn.
export interface Shown {
  title: string;
  energies: Float32Array; // (V,) MeV, the mean of `count` showers, each after the detector's cut
  all: Float32Array; // (count, V)
  count: number;
  condition: number[];
  summary: Summary;
  seconds: number | null; // for one shower; null for Geant4's
}

export class Pane {
  readonly element = document.createElement("div");
  readonly maps: Maps;
  readonly mapCanvas = document.createElement("canvas");
  readonly scene: Scene | null = null;
  private readonly heading = document.createElement("span");
  private readonly under = document.createElement("p");
  private pointer: [number, number] | null = null; // where it is on the layers

  constructor(
    which: "one" | "two",
    private readonly detector: Detector,
    cells: Cells,
    part: { depths: [number, number]; reach: number },
  ) {
    this.element.className = `pane ${which}`;
    const title = document.createElement("h2");
    const key = document.createElement("span");
    key.className = "key";
    title.append(key, this.heading);
    const frame = document.createElement("div");
    frame.className = "scene";
    const box = document.createElement("div");
    box.className = "maps";
    this.under.className = "under";
    this.mapCanvas.setAttribute("role", "img");
    box.append(this.mapCanvas);
    this.element.append(title, frame, box, this.under);
    this.maps = new Maps(this.mapCanvas, detector, cells);
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute(
      "aria-label",
      "The calorimeter in three dimensions. The arrow keys turn it, plus and minus zoom, Home " +
        "shows all of it.",
    );
    frame.append(canvas);
    // The frame must be on the page before its size is known; the scene asks again later.
    try {
      this.scene = new Scene(canvas, detector, cells, part);
    } catch {
      const words = document.createElement("p");
      words.className = "none";
      words.textContent =
        "This browser does not offer WebGL, which the picture in three dimensions needs; turn on " +
        "hardware acceleration or use another browser. Layers, numbers and profiles work without it.";
      frame.replaceChildren(words);
    }
    this.mapCanvas.addEventListener("pointermove", (event) => {
      this.pointer = [event.offsetX, event.offsetY];
      this.tell();
    });
    this.mapCanvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.tell();
    });
  }

  // The energy of the cell under the pointer, in words.
  private tell(): void {
    this.under.textContent = this.pointer ? this.maps.at(...this.pointer) : "";
  }

  // `scale` is of the colours in three dimensions, `maps` of those of the layers.
  draw(shown: Shown, scale: Scale, maps: Scale, layer: number): void {
    this.heading.textContent = shown.title;
    this.scene?.show(shown.energies, shown.condition, scale);
    const width = (this.mapCanvas.parentElement as HTMLElement).clientWidth;
    if (width > 0) this.maps.draw(shown.energies, shown.condition, maps, layer, width);
    this.tell();
    const shares = Array.from(shown.summary.layers, (share) => share);
    const most = shares.indexOf(Math.max(...shares));
    this.mapCanvas.setAttribute(
      "aria-label",
      `Energies of the cells, layer by layer: ${shown.summary.lit} cells with energy, most of it ` +
        `in the layer ${this.detector.layers[most].name}.`,
    );
  }

  // Its pictures with their sizes on the page, for files.
  pictures(): Picture[] {
    const { scene, mapCanvas } = this;
    return [...(scene ? [sized(scene.canvas, scene.copy())] : []), sized(mapCanvas)];
  }
}
