// Showers made in the browser by onnxruntime-web, in one thread. The WASM file lies beside the
// page.
import * as ort from "onnxruntime-web/wasm";
import type { Backend } from "./backend";
import type { Description, Made, Model } from "./types";

// As the server says it.
function noNumbers(name: string): string {
  return (
    `The model '${name}' makes energies that are no numbers under this condition; choose one ` +
    "inside its trained range."
  );
}

export class Onnx implements Backend {
  readonly title = "ONNX in this browser, one thread";
  private readonly sessions = new Map<string, Promise<ort.InferenceSession>>();

  constructor(private readonly description: Description) {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = {
      wasm: new URL("ort-wasm-simd-threaded.wasm", document.baseURI).href,
    };
  }

  async generate(model: Model, condition: Float32Array, noise: Float32Array): Promise<Made> {
    const session = await this.session(model);
    const count = noise.length / model.noise;
    const columns = this.description.detectors[model.detector].conditions.length;
    const feeds = {
      noise: new ort.Tensor("float32", noise, [count, model.noise]),
      condition: new ort.Tensor("float32", condition, [count, columns]),
    };
    const begin = performance.now();
    const { energies } = await session.run(feeds);
    const seconds = (performance.now() - begin) / 1000;
    const values = energies.data as Float32Array;
    if (!values.every(Number.isFinite)) throw new Error(noNumbers(model.name));
    return { energies: values, seconds };
  }

  prepare(model: Model): void {
    // An error is told when the first shower is asked for.
    this.session(model).catch(() => {});
  }

  private session(model: Model): Promise<ort.InferenceSession> {
    let session = this.sessions.get(model.name);
    if (!session) {
      session = ort.InferenceSession.create(model.onnx as string, {
        executionProviders: ["wasm"],
        graphOptimizationLevel: "all",
      }).catch((error: unknown) => {
        this.sessions.delete(model.name); // the next shower tries again
        throw new Error(`This browser cannot run ${model.onnx}: ${(error as Error).message}`);
      });
      this.sessions.set(model.name, session);
    }
    return session;
  }
}
