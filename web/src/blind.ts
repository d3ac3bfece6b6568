// The blind test: one shower is Geant4's and one is the generator's, under the same condition.

export interface Round {
  shower: number; // of Geant4's
  seed: bigint; // of the generator's
  geant4First: boolean;
  answered: boolean;
}

export class BlindTest {
  rounds = 0;
  right = 0;
  round: Round;

  constructor(private readonly showers: number[]) {
    this.round = this.draw();
  }

  next(): void {
    this.round = this.draw();
  }

  // Whether the answer, "the first one is Geant4's", is right; it counts once.
  answer(first: boolean): boolean {
    const right = first === this.round.geant4First;
    if (!this.round.answered) {
      this.rounds += 1;
      if (right) this.right += 1;
      this.round.answered = true;
    }
    return right;
  }

  score(): string {
    if (!this.rounds) return "";
    const { right, rounds } = this;
    const words = `${right} of ${rounds} right; guessing gives ${rounds / 2} on average.`;
    return rounds < 5
      ? words
      : `${words} ${percent(chance(right, rounds))} of pure guessers do as well or better.`;
  }

  private draw(): Round {
    const random = crypto.getRandomValues(new Uint32Array(3));
    return {
      shower: this.showers[random[0] % this.showers.length],
      seed: BigInt(random[1]),
      geant4First: (random[2] & 1) === 1,
      answered: false,
    };
  }
}

// The probability of `right` or more heads in `rounds` throws of a coin.
export function chance(right: number, rounds: number): number {
  let ways = 1;
  let sum = 0;
  for (let k = 0; k <= rounds; k += 1) {
    if (k >= right) sum += ways;
    ways = (ways * (rounds - k)) / (k + 1);
  }
  return sum / 2 ** rounds;
}

function percent(share: number): string {
  return share < 0.01 ? "Less than 1 %" : `${Math.round(100 * share)} %`;
}
