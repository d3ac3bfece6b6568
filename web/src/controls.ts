// One control for each condition: a slider, logarithmic where the geometry says so, a dial for an
// angle all around, and buttons for a category. What the model was not trained on is marked.
import { quantity } from "./format";
import { possible } from "./state";
import type { Condition, Detector, Model } from "./types";

const STEPS = 1000;

// The value at a share of the way from `low` to `high`: these themselves at the ends, and between
// them rounded to five digits.
export function along(scale: string, low: number, high: number, share: number): number {
  if (share <= 0) return low;
  if (share >= 1) return high;
  const raw = scale === "log" ? low * (high / low) ** share : low + share * (high - low);
  return Number(raw.toPrecision(5));
}

export class Controls {
  private readonly fields: Field[];

  constructor(
    root: HTMLElement,
    detector: Detector,
    model: Model,
    change: (column: number, value: number) => void,
    sweep: (column: number) => void,
  ) {
    root.replaceChildren();
    this.fields = detector.conditions.map((condition, column) => {
      const set = (value: number) => change(column, value);
      const field =
        condition.scale === "category"
          ? new Choice(condition, detector, set)
          : new Slider(condition, model.trained[column], model.allowed[column], set, () =>
              sweep(column),
            );
      root.append(field.element);
      return field;
    });
  }

  set(values: number[]): void {
    this.fields.forEach((field, column) => field.set(values[column]));
  }

  disable(disabled: boolean): void {
    for (const field of this.fields) {
      for (const input of field.element.querySelectorAll<HTMLInputElement>("input, button")) {
        input.disabled = disabled;
      }
      field.element.classList.toggle("disabled", disabled);
      field.element.querySelector(".dial")?.setAttribute("aria-disabled", String(disabled));
    }
  }
}

interface Field {
  element: HTMLElement;
  set(value: number): void;
}

function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

class Slider implements Field {
  readonly element: HTMLElement;
  private readonly slider: HTMLInputElement | null = null;
  private readonly dial: Dial | null = null;
  private readonly input: HTMLInputElement;
  private readonly shown = make("output", { class: "shown" });
  private readonly warning = make("p", { class: "warning", role: "status", hidden: "" });
  private readonly low: number;
  private readonly high: number;

  constructor(
    private readonly condition: Condition,
    private readonly trained: [number, number],
    private readonly allowed: [number, number],
    private readonly change: (value: number) => void,
    sweep: () => void,
  ) {
    this.low = Math.min(condition.low, trained[0]);
    this.high = Math.max(condition.high, trained[1]);
    const words = condition.label || condition.name;
    const unit = condition.unit ? ` [${condition.unit}]` : "";
    const id = `c-${condition.name}`;
    this.input = make("input", { type: "number", step: "any", id, autocomplete: "off" });
    this.input.addEventListener("change", () => this.typed());
    const head = make("label", { for: id }, `${words}${unit}`);
    const play = make("button", { type: "button", class: "sweep" }, "Sweep");
    play.setAttribute("aria-label", `Sweep ${words}: the same shower along its trained range`);
    play.addEventListener("click", sweep);
    const top = make("div", { class: "row" }, head, this.shown);
    const control = make("div", { class: "row" });
    if (condition.scale === "angle") {
      this.dial = new Dial(words, this.low, this.high, (value) => this.moved(value));
      control.append(this.dial.element);
    } else {
      this.slider = make("input", {
        type: "range",
        min: "0",
        max: String(STEPS),
        step: "1",
        "aria-label": words,
        "data-condition": condition.name,
      });
      this.slider.addEventListener("input", () => {
        const share = Number(this.slider?.value) / STEPS;
        this.moved(along(condition.scale, this.low, this.high, share));
      });
      control.append(make("div", { class: "track" }, this.mark(), this.slider));
    }
    control.append(this.input, play);
    const ends = make("div", { class: "ends" });
    const end = (value: number) => quantity(value, condition.unit === "rad" ? "" : condition.unit);
    ends.append(make("span", {}, end(this.low)), make("span", {}, end(this.high)));
    this.element = make("div", { class: "condition" }, top, control, ends, this.warning);
    if (this.dial) ends.remove();
  }

  set(value: number): void {
    if (this.slider) this.slider.value = String(Math.round(STEPS * this.share(value)));
    this.dial?.set(value);
    if (document.activeElement !== this.input) {
      this.input.value = String(Number(value.toPrecision(6)));
      this.input.setAttribute("aria-invalid", "false");
    }
    this.shown.value = quantity(value, this.condition.unit);
    this.slider?.setAttribute("aria-valuetext", this.shown.value);
    const outside = value < this.allowed[0] || value > this.allowed[1];
    this.warning.hidden = !outside;
    this.element.classList.toggle("outside", outside);
    if (outside) {
      const range = this.trained.map((end) => quantity(end, this.condition.unit)).join(" to ");
      this.warning.textContent = `Outside the trained range, ${range}: nothing is known about such showers.`;
    }
  }

  private share(value: number): number {
    const { low, high } = this;
    const share =
      this.condition.scale === "log"
        ? Math.log(value / low) / Math.log(high / low)
        : (value - low) / (high - low);
    return Math.min(1, Math.max(0, share));
  }

  private moved(value: number): void {
    this.input.value = String(value);
    this.change(value);
  }

  private typed(): void {
    const value = this.input.value.trim() === "" ? Number.NaN : Number(this.input.value);
    const ok = possible(value, this.condition.scale, this.low, this.high);
    this.input.setAttribute("aria-invalid", String(!ok));
    if (ok) this.change(value);
    else {
      this.warning.hidden = false;
      const above = this.condition.scale === "log" ? " above 0" : "";
      this.warning.textContent = `Expected a number${above}.`;
    }
  }

  // The trained range on the slider's track.
  private mark(): HTMLElement {
    const mark = make("div", { class: "trained" });
    const [a, b] = this.trained.map((end) => this.share(end));
    mark.style.left = `${100 * a}%`;
    mark.style.width = `${100 * (b - a)}%`;
    return mark;
  }
}

class Choice implements Field {
  readonly element: HTMLElement;
  private readonly inputs: HTMLInputElement[] = [];

  constructor(condition: Condition, detector: Detector, change: (value: number) => void) {
    const words = condition.label || condition.name;
    const buttons = make("div", { class: "choice" });
    for (let value = condition.low; value <= condition.high; value += 1) {
      const named = condition.role === "particle" ? detector.particles[value] : undefined;
      const input = make("input", {
        type: "radio",
        name: `c-${condition.name}`,
        value: String(value),
      });
      input.addEventListener("change", () => change(value));
      buttons.append(make("label", {}, input, make("span", {}, named ?? String(value))));
      this.inputs.push(input);
    }
    this.element = make("fieldset", { class: "condition" }, make("legend", {}, words), buttons);
  }

  set(value: number): void {
    for (const input of this.inputs) input.checked = Number(input.value) === value;
  }
}

// A hand that points where the particle flies to, as seen along its way: 0 to the right, π/2 up.
class Dial {
  readonly element: SVGSVGElement;
  private readonly hand: SVGLineElement;
  private now = 0;

  constructor(
    words: string,
    private readonly low: number,
    high: number,
    private readonly change: (value: number) => void,
  ) {
    const draw = <K extends keyof SVGElementTagNameMap>(tag: K, given: Record<string, string>) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(given)) element.setAttribute(key, value);
      return element;
    };
    this.element = draw("svg", { viewBox: "-40 -40 80 80", class: "dial", tabindex: "0" });
    this.element.setAttribute("role", "slider");
    this.element.setAttribute("aria-label", words);
    this.element.setAttribute("aria-valuemin", String(low));
    this.element.setAttribute("aria-valuemax", String(high));
    this.hand = draw("line", { x1: "0", y1: "0", x2: "32", y2: "0" });
    this.element.append(draw("circle", { r: "34" }), this.hand, draw("circle", { r: "3" }));
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      this.point(event);
    });
    this.element.addEventListener("pointermove", (event) => {
      if (this.element.hasPointerCapture(event.pointerId)) this.point(event);
    });
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  set(value: number): void {
    this.now = value;
    this.hand.setAttribute("x2", String(32 * Math.cos(value)));
    this.hand.setAttribute("y2", String(-32 * Math.sin(value)));
    this.element.setAttribute("aria-valuenow", String(value));
    this.element.setAttribute("aria-valuetext", quantity(value, "rad"));
  }

  private turn(value: number): void {
    if (this.element.closest(".disabled")) return;
    const span = 2 * Math.PI; // also where the detector's range is narrower
    const turned = this.low + ((((value - this.low) % span) + span) % span);
    this.change(Number(turned.toPrecision(5)));
  }

  private point(event: PointerEvent): void {
    const box = this.element.getBoundingClientRect();
    const x = event.clientX - box.left - box.width / 2;
    const y = event.clientY - box.top - box.height / 2;
    if (Math.hypot(x, y) > 2) this.turn(Math.atan2(-y, x));
  }

  private key(event: KeyboardEvent): void {
    const degree = Math.PI / 180;
    const steps: Record<string, number> = {
      ArrowRight: 5,
      ArrowUp: 5,
      ArrowLeft: -5,
      ArrowDown: -5,
      PageUp: 30,
      PageDown: -30,
    };
    if (event.key === "Home") this.turn(0);
    else if (event.key in steps) this.turn(this.now + steps[event.key] * degree);
    else return;
    event.preventDefault();
  }
}
