// The noise of CaloForge's showers, in the browser: shower k under a seed has the same numbers as
// in `caloforge generate --seed SEED`, so that a shower seen here can be made again there.
//
// 256 showers share one stream of Philox4x64-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405)
// with the seed as key and [0, 0, block, 0] as counter. Normals come from its 32-bit halves by the
// ziggurat of 256 layers (Marsaglia and Tsang 2000, doi:10.18637/jss.v005.i08), in the order in
// which NumPy draws 32-bit floats.

const BLOCK = 256;
const RADIUS = 3.6541528853610088; // where the tail of the ziggurat begins
const AREA = 0.00492867323399; // of each of its layers

// Philox's multipliers and the steps of its keys, each as two 32-bit halves (high, low).
const M0: [number, number] = [0xd2e7470e, 0xe14c6c93];
const M1: [number, number] = [0xca5a8263, 0x95121157];
const W0: [number, number] = [0x9e3779b9, 0x7f4a7c15];
const W1: [number, number] = [0xbb67ae85, 0x84caa73b];

const TWO16 = 0x10000;

// The product of two 32-bit numbers: its high and low halves.
const product = new Uint32Array(2);
function multiply(a: number, b: number): void {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const low = al * bl;
  const middle = ah * bl + (low >>> 16); // below 2^33, exact in a double
  const other = al * bh + (middle % TWO16);
  product[0] = ah * bh + Math.floor(middle / TWO16) + Math.floor(other / TWO16);
  product[1] = (other % TWO16) * TWO16 + (low & 0xffff);
}

// A 64-bit product of 64-bit numbers: the upper half (high, low), then the lower half.
const wide = new Uint32Array(4);
function multiplyWide(m: [number, number], high: number, low: number): void {
  multiply(m[1], low);
  const low0 = product[1];
  const carry0 = product[0];
  multiply(m[1], high);
  const ha = product[0];
  const la = product[1];
  multiply(m[0], low);
  const hb = product[0];
  const lb = product[1];
  multiply(m[0], high);
  const middle = carry0 + la + lb;
  const upper = product[1] + ha + hb + Math.floor(middle / 0x100000000);
  wide[0] = product[0] + Math.floor(upper / 0x100000000);
  wide[1] = upper;
  wide[2] = middle;
  wide[3] = low0;
}

class Philox {
  private readonly counter = new Uint32Array(8); // four 64-bit words, each (high, low)
  private readonly state = new Uint32Array(8);
  private readonly key = new Uint32Array(4);
  private next = 8; // 32-bit halves of the state that were handed out

  constructor(
    private readonly seed: bigint,
    block: number,
  ) {
    this.counter[5] = block;
    this.counter[4] = Math.floor(block / 0x100000000);
  }

  // The next 32 random bits: the low half of each 64-bit word comes first.
  bits(): number {
    if (this.next === 8) {
      this.advance();
      this.next = 0;
    }
    const word = this.next >> 1;
    const half = this.next & 1;
    this.next += 1;
    return this.state[2 * word + 1 - half];
  }

  private advance(): void {
    const { counter, key, state } = this;
    counter[1] += 1;
    if (counter[1] === 0) counter[0] += 1;
    state.set(counter);
    key[0] = Number((this.seed >> 32n) & 0xffffffffn);
    key[1] = Number(this.seed & 0xffffffffn);
    key[2] = 0;
    key[3] = 0;
    for (let round = 0; round < 10; round += 1) {
      if (round > 0) {
        addTo(key, 0, W0);
        addTo(key, 2, W1);
      }
      multiplyWide(M0, state[0], state[1]);
      const [h0, h1, l0, l1] = wide;
      multiplyWide(M1, state[4], state[5]);
      const [g0, g1, k0, k1] = wide;
      const a0 = g0 ^ state[2] ^ key[0];
      const a1 = g1 ^ state[3] ^ key[1];
      const c0 = h0 ^ state[6] ^ key[2];
      const c1 = h1 ^ state[7] ^ key[3];
      state[0] = a0;
      state[1] = a1;
      state[2] = k0;
      state[3] = k1;
      state[4] = c0;
      state[5] = c1;
      state[6] = l0;
      state[7] = l1;
    }
  }
}

function addTo(words: Uint32Array, at: number, step: [number, number]): void {
  const low = words[at + 1] + step[1];
  words[at + 1] = low;
  words[at] = words[at] + step[0] + (low > 0xffffffff ? 1 : 0);
}

// The tables of the ziggurat for 23 random bits.
const edges = new Uint32Array(256);
const widths = new Float32Array(256);
const heights = new Float32Array(256);
{
  const bits = 2 ** 23;
  let x = RADIUS;
  let outer = x;
  const q = AREA / Math.exp(-0.5 * x * x);
  edges[0] = (x / q) * bits;
  edges[1] = 0;
  widths[0] = q / bits;
  widths[255] = x / bits;
  heights[0] = 1;
  heights[255] = Math.exp(-0.5 * x * x);
  for (let i = 254; i >= 1; i -= 1) {
    x = Math.sqrt(-2 * Math.log(AREA / x + Math.exp(-0.5 * x * x)));
    edges[i + 1] = (x / outer) * bits;
    outer = x;
    heights[i] = Math.exp(-0.5 * x * x);
    widths[i] = x / bits;
  }
}

const fround = Math.fround;

function uniform(stream: Philox): number {
  return (stream.bits() >>> 8) / 16777216;
}

function normal(stream: Philox): number {
  for (;;) {
    const r = stream.bits();
    const layer = r & 0xff;
    const place = (r >>> 9) & 0x7fffff;
    let x = fround(place * widths[layer]);
    if ((r >>> 8) & 1) x = -x;
    if (place < edges[layer]) return x;
    if (layer === 0) {
      for (;;) {
        const xx = fround(fround(-1 / RADIUS) * fround(Math.log1p(-uniform(stream))));
        const yy = -fround(Math.log1p(-uniform(stream)));
        if (yy + yy > xx * xx) {
          const tail = fround(fround(RADIUS) + xx);
          return (place >>> 8) & 1 ? -tail : tail;
        }
      }
    }
    const height = fround((heights[layer - 1] - heights[layer]) * uniform(stream));
    if (fround(height + heights[layer]) < Math.exp(-0.5 * x * x)) return x;
  }
}

// The noise of any shower under a seed. Streams begin at multiples of 256 showers and are kept as
// far as they were drawn.
export class Noise {
  private readonly blocks = new Map<number, { stream: Philox; rows: Float32Array[] }>();

  constructor(
    readonly seed: bigint,
    readonly size: number,
  ) {}

  // Normals (count, size) of the showers from number `first` on.
  rows(first: number, count: number): Float32Array {
    const out = new Float32Array(count * this.size);
    for (let k = 0; k < count; k += 1) out.set(this.row(first + k), k * this.size);
    return out;
  }

  private row(number: number): Float32Array {
    const index = Math.floor(number / BLOCK);
    let block = this.blocks.get(index);
    if (!block) {
      if (this.blocks.size > 1) this.blocks.clear(); // memory stays bounded
      block = { stream: new Philox(this.seed, index), rows: [] };
      this.blocks.set(index, block);
    }
    while (block.rows.length <= number % BLOCK) {
      const row = new Float32Array(this.size);
      for (let i = 0; i < this.size; i += 1) row[i] = normal(block.stream);
      block.rows.push(row);
    }
    return block.rows[number % BLOCK];
  }
}
