// The table of numbers, the two profiles, and the words about Geant4's band.
import type { App } from "./app";
import { ink } from "./colours";
import { energy, number, quantity, seconds } from "./format";
import { type Summary, band, bands } from "./observables";
import type { Shown } from "./pane";
import { type Profile, drawProfile } from "./profiles";
import type { Detector } from "./types";

type Row = [string, ...string[]];

export function fillTable(
  table: HTMLElement,
  shown: Shown[],
  geant4: Summary[],
  count: number,
  backend: string,
): void {
  const column = (of: (s: Shown) => string) => shown.map(of);
  const range = (of: (s: Summary) => number, text: (v: number) => string) => {
    if (!geant4.length) return [];
    const { low, high } = band(geant4.map(of), count);
    return [`${text(low)}–${text(high)}`];
  };
  const three = (value: number) => value.toFixed(3);
  const rows: Row[] = [
    ["incident", ...column((s) => energy(s.summary.incident))],
    ["deposited", ...column((s) => energy(s.summary.total))],
    ["response", ...column((s) => three(s.summary.response)), ...range((s) => s.response, three)],
    [
      "cells lit",
      ...column((s) => number(Math.round(s.summary.lit), 5)),
      ...range(
        (s) => s.lit,
        (v) => String(Math.round(v)),
      ),
    ],
  ];
  if (shown.some((s) => s.seconds !== null)) {
    rows.push(["time each", ...column((s) => (s.seconds === null ? "–" : seconds(s.seconds)))]);
  }
  const heads = shown.map((s) => s.title.split(",")[0]);
  const head = ["", ...heads, ...(geant4.length ? ["Geant4, 68\u00a0%"] : [])];
  const cells = (tag: "th" | "td", texts: string[]) =>
    texts.map((text, k) => {
      const cell = document.createElement(k === 0 ? "th" : tag);
      if (k === 0) cell.scope = "row";
      else if (cell instanceof HTMLTableCellElement && tag === "th") cell.scope = "col";
      cell.textContent = text;
      return cell;
    });
  const line = (tag: "th" | "td", texts: string[]) => {
    const row = document.createElement("tr");
    row.append(...cells(tag, texts));
    return row;
  };
  const thead = document.createElement("thead");
  thead.append(line("th", head));
  const tbody = document.createElement("tbody");
  tbody.append(
    ...rows.map((row) => line("td", [...row, ...Array(head.length - row.length).fill("")])),
  );
  const caption = document.createElement("caption");
  caption.className = "hidden";
  caption.textContent = `Numbers of the showers, made by ${backend}`;
  table.replaceChildren(caption, thead, tbody);
}

const DASHES = [[], [7, 4]];
const INKS = ["one", "two"];

export function drawProfiles(
  detector: Detector,
  shown: Shown[],
  geant4: Summary[],
  count: number,
): void {
  const { layers, rings } = detector;
  const few = layers.length <= 8;
  const names = layers.map((layer, k) =>
    few
      ? { at: k + 0.5, text: layer.name, row: layers.length > 3 ? k % 2 : 0 }
      : { at: k, text: String(k), row: 0 },
  );
  one("layers", "layers", {
    ticks: few ? names : names.filter((_, k) => k % 10 === 0),
    bins: layers.length,
    label: few ? "layer" : "layer, from the front",
    log: false,
  });
  one("rings", "rings", {
    ticks: rings.map((r, k) => ({ at: k, text: number(r), row: 0 })),
    bins: rings.length - 1,
    label: "distance from the particle's line [mm]",
    log: true,
  });

  function one(
    id: string,
    of: "layers" | "rings",
    given: Pick<Profile, "ticks" | "bins" | "label" | "log">,
  ): void {
    const canvas = document.getElementById(id) as HTMLCanvasElement;
    // One layer has no profile.
    const none = of === "layers" && layers.length === 1;
    canvas.hidden = none;
    (canvas.previousElementSibling as HTMLElement).hidden = none;
    if (none) return;
    const parent = canvas.parentElement as HTMLElement;
    const style = getComputedStyle(parent);
    const width =
      parent.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (width <= 0) return;
    const profile: Profile = {
      ...given,
      bands: geant4.length ? bands(geant4, count, of) : null,
      series: shown.map((s, k) => ({
        values: s.summary[of],
        colour: ink(INKS[k]),
        dash: DASHES[k],
      })),
    };
    drawProfile(canvas, profile, width);
    const shares = Array.from(shown[0].summary[of], (v) => number(100 * v, 2)).join(", ");
    canvas.setAttribute(
      "aria-label",
      `Share of the incident energy in each ${of === "layers" ? "layer" : "ring"}, in per cent: ${shares}.`,
    );
  }
}

// What the band is, in a sentence.
export function legend(app: App, geant4: Summary[], conditions: number[][]): void {
  const text = document.getElementById("band") as HTMLElement;
  const below = document.getElementById("legend") as HTMLElement;
  below.textContent = "Both profiles show the share of the incident energy in each bin.";
  const { model, description, blind } = app;
  if (blind) {
    text.textContent = "The band of Geant4 is hidden during the test.";
    return;
  }
  if (!model.reference) {
    text.textContent = "No Geant4 showers of this particle and read-out are shipped.";
    return;
  }
  const { source } = description.references[model.reference];
  if (!geant4.length) {
    text.textContent = `No Geant4 shower is near this condition (${source}).`;
    return;
  }
  const incident = geant4.map((s) => s.incident);
  const [low, high] = [energy(Math.min(...incident)), energy(Math.max(...incident))];
  const range = low === high ? `of ${low}` : `from ${low} to ${high}`;
  const others = otherRanges(app.detector, conditions);
  const what =
    app.asked.average > 1
      ? `Band: their mean with the scatter of averages of ${app.asked.average}`
      : "Band: the middle 68 % of them; dashes: their mean";
  text.textContent = `Geant4: the ${geant4.length} showers nearest in condition, ${range}${others} (${source}). ${what}.`;
}

// The ranges of the conditions beside the energy: compared showers come in elsewhere too.
function otherRanges(detector: Detector, conditions: number[][]): string {
  return detector.conditions
    .map(({ role, label, name, unit }, column) => {
      if (role === "energy" || role === "particle") return "";
      const values = conditions.map((condition) => condition[column]);
      const ends = [Math.min(...values), Math.max(...values)];
      const [low, high] = ends.map((v) => quantity(v, unit, 2));
      return `, ${label || name} ${low === high ? low : `${low} to ${high}`}`;
    })
    .join("");
}
