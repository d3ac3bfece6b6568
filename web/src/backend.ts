// What makes showers: the server of `caloforge explore`, or the browser itself on a static site.
import type { Description, Made, Model } from "./types";

export interface Backend {
  // Words for the page.
  readonly title: string;
  // Showers (N, V) from conditions (N, C) in physical units and noise (N, Z).
  generate(model: Model, condition: Float32Array, noise: Float32Array): Promise<Made>;
  // Begin to load what a model needs, before its first shower is asked for.
  prepare?(model: Model): void;
  // The same showers as a file, where the back end can write one.
  save?(model: Model, condition: Float32Array, noise: Float32Array, seed: bigint): Promise<Blob>;
}

export async function openBackend(description: Description): Promise<Backend> {
  if (description.backend === "server") return new Server();
  const { Onnx } = await import("./onnx.js");
  return new Onnx(description);
}

class Server implements Backend {
  readonly title = "Python on this machine";

  async generate(model: Model, condition: Float32Array, noise: Float32Array): Promise<Made> {
    const answer = await this.ask("generate", model, condition, noise, 0n);
    const energies = new Float32Array(await answer.arrayBuffer());
    return { energies, seconds: Number(answer.headers.get("X-Seconds")) };
  }

  async save(
    model: Model,
    condition: Float32Array,
    noise: Float32Array,
    seed: bigint,
  ): Promise<Blob> {
    return (await this.ask("save", model, condition, noise, seed)).blob();
  }

  private async ask(
    what: string,
    model: Model,
    condition: Float32Array,
    noise: Float32Array,
    seed: bigint,
  ): Promise<Response> {
    const count = noise.length / model.noise;
    const body = new Float32Array(condition.length + noise.length);
    body.set(condition);
    body.set(noise, condition.length);
    const query = new URLSearchParams({
      model: model.name,
      count: String(count),
      seed: String(seed),
    });
    let answer: Response;
    try {
      answer = await fetch(`${what}?${query}`, { method: "POST", body });
    } catch {
      throw new Error("The command `caloforge explore` does not answer; start it again.");
    }
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }
}
