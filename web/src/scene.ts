// The calorimeter in three dimensions: cells lit by the logarithm of their energy, the outlines of
// the layers and the particle's line. Depth goes to the right, the second axis upwards.
//
// Cells are drawn in the order of their energy and not of their distance, the faint ones nearly
// transparent: the core of a shower is seen through what lies before it, in the maps' colours.
import {
  BoxGeometry,
  BufferAttribute,
  BufferGeometry,
  Color,
  DynamicDrawUsage,
  InstancedBufferAttribute,
  InstancedBufferGeometry,
  Line,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  PerspectiveCamera,
  Scene as World,
  ShaderMaterial,
  Spherical,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { type Cells, lineAt, lineOf, shiftOf } from "./cells";
import { type Scale, colour, ink, isDark, place } from "./colours";
import type { Detector, Layer } from "./types";

const VERTEX = `
attribute vec4 low;
attribute vec4 high;
attribute vec4 tint;
varying vec4 paint;
void main() {
  vec3 share = position + 0.5;
  float slow = mix(low.x, high.x, share.x);
  float fast = mix(low.y, high.y, share.y);
  float depth = mix(low.z, high.z, share.z);
  // The sides of a piece of a ring lie inside the ring: they are not drawn.
  if (high.w > 0.5 && abs(normal.x) > 0.5) {
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    return;
  }
  vec2 across = low.w > 0.5 ? fast * vec2(cos(slow), sin(slow)) : vec2(slow, fast);
  // Faces are told apart by their brightness, from three sides as if lit from above.
  float face = 0.72 + 0.28 * normal.y * normal.y + 0.12 * normal.z * normal.z;
  paint = vec4(tint.rgb * face, tint.a);
  gl_Position = projectionMatrix * modelViewMatrix * vec4(depth, across.y, -across.x, 1.0);
}`;
const FRAGMENT = `
varying vec4 paint;
void main() { gl_FragColor = paint; }`;

export interface View {
  azimuth: number; // rad, about the vertical
  polar: number; // rad, from the vertical
  zoom: number; // 1 shows what is worth seeing
}

export const START: View = { azimuth: -0.55, polar: 1.2, zoom: 1 };

export class Scene {
  private readonly renderer: WebGLRenderer;
  private readonly world = new World();
  private readonly camera = new PerspectiveCamera(32, 1, 1, 100);
  private readonly controls: OrbitControls;
  private readonly geometry = new InstancedBufferGeometry();
  private readonly low: InstancedBufferAttribute;
  private readonly high: InstancedBufferAttribute;
  private readonly tint: InstancedBufferAttribute;
  private readonly outline: LineSegments;
  private readonly particle: Line;
  private readonly outlineInk = new LineBasicMaterial({ transparent: true });
  private readonly particleInk = new LineBasicMaterial({ transparent: true, depthTest: false });
  private readonly distance: number; // of the camera at zoom 1, mm
  private readonly sizes = new ResizeObserver(() => this.resize());
  private frame = 0; // in which the next picture is drawn
  private drawn: { energies: ArrayLike<number>; condition: number[]; scale: Scale } | null = null;
  onView: (view: View) => void = () => {};

  // Throws where the browser has no WebGL. `part` is what is worth seeing: a range of depths and a
  // transverse distance, in mm.
  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly detector: Detector,
    private readonly cells: Cells,
    part: { depths: [number, number]; reach: number },
  ) {
    const software = isSoftware();
    this.renderer = new WebGLRenderer({ canvas, antialias: !software });
    this.renderer.setPixelRatio(software ? 1 : Math.min(2, window.devicePixelRatio));
    const [front, back] = part.depths;
    const middle = 0.5 * (front + back);
    this.distance = 2.6 * Math.hypot(0.5 * (back - front), part.reach);
    const [first, last] = extent(detector);
    this.camera.far = 20 * (this.distance + last - first);
    this.camera.near = this.distance / 100;
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.target.set(middle, 0, 0);
    this.controls.minDistance = this.distance / 8;
    this.controls.maxDistance = this.distance * 4;
    this.controls.addEventListener("change", () => {
      this.onView(this.view);
      this.request();
    });

    const box = new BoxGeometry(1, 1, 1, segments(detector), 1, 1);
    this.geometry.setIndex(box.index);
    this.geometry.setAttribute("position", box.getAttribute("position"));
    this.geometry.setAttribute("normal", box.getAttribute("normal"));
    const pieces = mostPieces(detector);
    const attribute = () => {
      const made = new InstancedBufferAttribute(new Float32Array(4 * pieces), 4);
      made.setUsage(DynamicDrawUsage);
      return made;
    };
    this.low = attribute();
    this.high = attribute();
    this.tint = attribute();
    this.geometry.setAttribute("low", this.low);
    this.geometry.setAttribute("high", this.high);
    this.geometry.setAttribute("tint", this.tint);
    this.geometry.instanceCount = 0;
    const material = new ShaderMaterial({
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      transparent: true,
      depthWrite: false,
      depthTest: false,
    });
    const lit = new Mesh(this.geometry, material);
    lit.frustumCulled = false;
    this.outline = new LineSegments(outlines(detector), this.outlineInk);
    this.particle = new Line(new BufferGeometry(), this.particleInk);
    this.particle.geometry.setAttribute("position", new BufferAttribute(new Float32Array(6), 3));
    this.particle.frustumCulled = false;
    this.particle.renderOrder = 1; // over the cells
    this.world.add(lit, this.outline, this.particle);
    this.theme();
    this.view = START;
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.sizes.observe(canvas.parentElement as HTMLElement);
    this.resize();
  }

  get view(): View {
    const seen = new Spherical().setFromVector3(
      this.camera.position.clone().sub(this.controls.target),
    );
    return { azimuth: seen.theta, polar: seen.phi, zoom: this.distance / seen.radius };
  }

  set view(view: View) {
    const polar = Math.min(Math.PI - 0.01, Math.max(0.01, view.polar));
    const zoom = Math.min(8, Math.max(0.25, view.zoom));
    const offset = new Vector3().setFromSpherical(
      new Spherical(this.distance / zoom, polar, view.azimuth),
    );
    this.camera.position.copy(this.controls.target).add(offset);
    this.camera.lookAt(this.controls.target);
    this.request();
  }

  // Energies (V,) in MeV under a condition.
  show(energies: ArrayLike<number>, condition: number[], scale: Scale): void {
    this.drawn = { energies, condition, scale };
    const { detector, cells } = this;
    const dark = isDark();
    const shifts = detector.layers.map((layer) => shiftOf(detector, layer, condition));
    const lit: number[] = [];
    let count = 0;
    for (let cell = 0; cell < cells.count; cell += 1) {
      if (place(energies[cell], scale) >= 0) lit.push(cell);
    }
    lit.sort((a, b) => energies[a] - energies[b]);
    for (const cell of lit) {
      const t = place(energies[cell], scale);
      const index = cells.layer[cell];
      const layer = detector.layers[index];
      const [s, f] = shifts[index];
      const [s0, s1] = [cells.slow[2 * cell] + s, cells.slow[2 * cell + 1] + s];
      const [f0, f1] = [cells.fast[2 * cell] + f, cells.fast[2 * cell + 1] + f];
      const [r, g, b] = colour(t, dark);
      const polar = layer.kind === "polar" ? 1 : 0;
      const pieces = polar ? piecesOf(s1 - s0) : 1;
      for (let k = 0; k < pieces; k += 1) {
        const [a0, a1] = [k, k + 1].map((at) => s0 + ((s1 - s0) * at) / pieces);
        this.low.setXYZW(count, a0, f0, layer.z[0], polar);
        this.high.setXYZW(count, a1, f1, layer.z[1], pieces > 1 ? 1 : 0);
        this.tint.setXYZW(count, r, g, b, 0.05 + 0.75 * t * t);
        count += 1;
      }
    }
    for (const attribute of [this.low, this.high, this.tint]) {
      attribute.clearUpdateRanges();
      attribute.addUpdateRange(0, 4 * count);
      attribute.needsUpdate = true;
    }
    this.geometry.instanceCount = count;
    this.drawLine(condition);
    this.request();
  }

  theme(): void {
    this.world.background = new Color(ink("scene"));
    this.outlineInk.color = new Color(ink("outline"));
    this.particleInk.color = new Color(ink("particle"));
    if (this.drawn) this.show(this.drawn.energies, this.drawn.condition, this.drawn.scale);
    this.request();
  }

  // A picture is drawn when something has changed, and not otherwise.
  request(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.renderer.render(this.world, this.camera);
    });
  }

  // The picture, for files.
  copy(): HTMLCanvasElement {
    this.renderer.render(this.world, this.camera);
    const copied = document.createElement("canvas");
    copied.width = this.canvas.width;
    copied.height = this.canvas.height;
    copied.getContext("2d")?.drawImage(this.canvas, 0, 0);
    return copied;
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.sizes.disconnect();
    this.controls.dispose();
    this.geometry.dispose();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }

  private drawLine(condition: number[]): void {
    const [front, back] = extent(this.detector);
    const line = lineOf(this.detector, condition);
    const grid = this.detector.layers.find((layer) => layer.kind === "grid");
    const ends = this.particle.geometry.getAttribute("position") as BufferAttribute;
    [Math.min(0, front) - 0.25 * (back - front), back].forEach((depth, k) => {
      const [a, b] = grid ? lineAt(this.detector, grid, line, depth) : [0, 0];
      ends.setXYZ(k, depth, b, -a);
    });
    ends.needsUpdate = true;
  }

  private key(event: KeyboardEvent): void {
    const view = this.view;
    const step = 0.1;
    if (event.key === "ArrowLeft") view.azimuth -= step;
    else if (event.key === "ArrowRight") view.azimuth += step;
    else if (event.key === "ArrowUp") view.polar -= step;
    else if (event.key === "ArrowDown") view.polar += step;
    else if (event.key === "+" || event.key === "=") view.zoom *= 1.15;
    else if (event.key === "-") view.zoom /= 1.15;
    else if (event.key === "Home") Object.assign(view, START);
    else return;
    event.preventDefault();
    this.view = view;
    this.onView(this.view);
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement as HTMLElement;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    // On a narrow pane the whole depth stays in sight.
    this.camera.fov =
      (2 * Math.atan(0.29 * Math.max(1, 1.5 / this.camera.aspect)) * 180) / Math.PI;
    this.camera.updateProjectionMatrix();
    this.request();
  }
}

function extent(detector: Detector): [number, number] {
  const depths = detector.layers.flatMap((layer) => layer.z);
  return [Math.min(...depths), Math.max(...depths)];
}

// Long arcs are drawn in pieces of at most an eighth of the circle.
function piecesOf(arc: number): number {
  return Math.max(1, Math.ceil(arc / (Math.PI / 4) - 1e-6));
}

function mostPieces(detector: Detector): number {
  return detector.layers.reduce((sum, layer) => {
    const cells = (layer.edges[0].length - 1) * (layer.edges[1].length - 1);
    const arc = layer.edges[0][1] - layer.edges[0][0];
    return sum + cells * (layer.kind === "polar" ? piecesOf(arc) : 1);
  }, 0);
}

// Straight lines for the arc of a piece.
function segments(detector: Detector): number {
  const arcs = detector.layers.map((layer) => {
    const arc = layer.edges[0][1] - layer.edges[0][0];
    return layer.kind === "polar" ? arc / piecesOf(arc) : 0;
  });
  return Math.max(1, Math.ceil(Math.max(...arcs) / 0.16));
}

// Whether pictures are computed by the processor, which is slow. It is asked once: every question
// makes a context of WebGL.
let software: boolean | undefined;
function isSoftware(): boolean {
  if (software !== undefined) return software;
  const probe = document.createElement("canvas").getContext("webgl2");
  const name = probe?.getExtension("WEBGL_debug_renderer_info")
    ? String(probe.getParameter(0x9246))
    : "";
  probe?.getExtension("WEBGL_lose_context")?.loseContext();
  software = /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
  return software;
}

// Front and back of each block of layers with the same cells, and the edges between them.
function outlines(detector: Detector): BufferGeometry {
  const points: number[] = [];
  const add = (a: number[], b: number[]) => points.push(...a, ...b);
  for (const [first, last] of blocks(detector.layers)) {
    const border = borderOf(first);
    const [front, back] = [first.z[0], last.z[1]];
    border.forEach(([a, b], k) => {
      const [c, d] = border[(k + 1) % border.length];
      for (const depth of [front, back]) add([depth, b, -a], [depth, d, -c]);
      const corners = first.kind === "grid" || k % (border.length / 4) === 0;
      if (corners) add([front, b, -a], [back, b, -a]);
    });
  }
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(points), 3));
  return geometry;
}

function borderOf(layer: Layer): [number, number][] {
  const ends = (edges: number[]): [number, number] => [edges[0], edges[edges.length - 1]];
  const [slow, fast] = [ends(layer.edges[0]), ends(layer.edges[1])];
  if (layer.kind === "grid") {
    return [
      [slow[0], fast[0]],
      [slow[1], fast[0]],
      [slow[1], fast[1]],
      [slow[0], fast[1]],
    ];
  }
  return Array.from({ length: 64 }, (_, k) => {
    const angle = (2 * Math.PI * k) / 64;
    return [fast[1] * Math.cos(angle), fast[1] * Math.sin(angle)];
  });
}

// First and last layer of each run of layers that follow one another with the same cells.
export function blocks(layers: Layer[]): [Layer, Layer][] {
  const found: [Layer, Layer][] = [];
  for (const layer of layers) {
    const open = found[found.length - 1];
    const same = open && JSON.stringify(open[0].edges) === JSON.stringify(layer.edges);
    if (same && Math.abs(open[1].z[1] - layer.z[0]) < 1e-6) open[1] = layer;
    else found.push([layer, layer]);
  }
  return found;
}
