/**
 * One ping that never pauses, for outages of any length: `PingStream` sends in trains, and a train ends with
 * the first ICMP error (ping's -w) or counts what it had to send at most.
 */
import { inNamespace, Program, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';

export interface Outage {
  readonly sent: number;
  /** Between the first answer and the last; what is under way at the end is not counted. */
  readonly lost: number;
  /** The longest time without an answer. */
  readonly seconds: number;
}

export class SteadyPing {
  readonly #program: Program;
  readonly #intervalSeconds: number;

  private constructor(program: Program, intervalSeconds: number) {
    this.#program = program;
    this.#intervalSeconds = intervalSeconds;
  }

  /** From a host's container; resolves with the first answer. Ends by itself after a minute. */
  static async start(
    from: HostPlan,
    address: string,
    intervalSeconds: number,
  ): Promise<SteadyPing> {
    const argv = ['timeout', '60', 'ping', '-n', '-i', String(intervalSeconds), address];
    const program = new Program(inNamespace(from.container, argv));
    await waitFor(`an answer to ${from.container}`, 5_000, () =>
      program.stdout.includes(' bytes from ') ? true : undefined,
    );
    return new SteadyPing(program, intervalSeconds);
  }

  async end(): Promise<Outage> {
    this.#program.kill('SIGINT');
    await this.#program.ended;
    const answered = this.#program.stdout.matchAll(/ bytes from .*icmp_seq=(\d+)/g);
    return outageIn(
      Array.from(answered, ([, request]) => Number(request)),
      this.#intervalSeconds,
    );
  }
}

/** Of the numbers of the requests that were answered. */
function outageIn(answered: readonly number[], intervalSeconds: number): Outage {
  const requests = [...new Set(answered)].sort((a, b) => a - b);
  const gaps = requests.slice(1).map((request, at) => request - (requests[at] ?? request) - 1);
  const lost = gaps.reduce((sum, gap) => sum + gap, 0);
  const seconds = Math.max(0, ...gaps) * intervalSeconds;
  return { sent: requests.length + lost, lost, seconds };
}
