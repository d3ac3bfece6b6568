// Builds the page into src/caloforge/explore/static: the same sources and lock file give the same
// bytes. `make web` runs it after `npm ci`; with a folder as its argument it writes there.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "../src/caloforge/explore/static"));
const runtime = "ort-wasm-simd-threaded.wasm";
const packages = ["three", "onnxruntime-web"];
const most = 1_000_000; // bytes of the page without the runtime

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await esbuild.build({
  absWorkingDir: here,
  entryPoints: { explorer: "src/main.ts", onnx: "src/onnx.ts" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none", // the licences are written whole, see below
  external: ["./onnx.js"], // loaded by static sites alone
  define: { "process.env.NODE_ENV": '"production"' },
});
for (const name of ["index.html", "style.css", "icon.svg"]) {
  copyFileSync(join(here, "src", name), join(out, name));
}

const version = (name) =>
  JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8")).version;
// Both have the MIT licence; onnxruntime-web's package does not carry its text.
const mit = readFileSync(join(here, "node_modules/three/LICENSE"), "utf8").trim();
const texts = packages.map((name) => {
  let text = mit;
  if (name !== "three") {
    text = mit.replace(/Copyright .*/, "Copyright (c) Microsoft Corporation");
  }
  return `${name} ${version(name)}\n\n${text}\n`;
});
writeFileSync(
  join(out, "licences.txt"),
  `The page of the explorer holds parts of these packages:\n\n${texts.join("\n\n")}`,
);

const wasm = readFileSync(join(here, "node_modules/onnxruntime-web/dist", runtime));
const facts = {
  package: "onnxruntime-web",
  version: version("onnxruntime-web"),
  wasm: runtime,
  bytes: wasm.length,
  sha256: createHash("sha256").update(wasm).digest("hex"),
};
writeFileSync(join(out, "build.json"), `${JSON.stringify(facts, null, 2)}\n`);

const files = ["index.html", "style.css", "icon.svg", "explorer.js", "onnx.js", "licences.txt"];
const sizes = files.map((name) => [name, statSync(join(out, name)).size]);
const total = sizes.reduce((sum, [, size]) => sum + size, 0);
for (const [name, size] of sizes) console.log(`${String(size).padStart(8)}  ${name}`);
console.log(`${String(total).padStart(8)}  bytes in all`);
if (total > most) throw new Error(`The page has ${total} bytes; expected at most ${most}.`);
