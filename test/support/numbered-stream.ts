/** A steady stream of numbered datagrams between two containers, and what became of them. */
import { join } from 'node:path';
import { inNamespace, Program, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { ROOT } from './test-lab.js';

const SCRIPT = join(ROOT, 'test', 'support', 'paced-datagrams.py');
const PORT = 9_001;

export interface StreamResult {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  /** Out of order, or twice. */
  readonly late: number;
  /** Milliseconds without a datagram that were not the sender's. */
  readonly longestSilenceMs: number;
}

export class NumberedStream {
  readonly #server: Program;
  readonly #client: Program;

  private constructor(server: Program, client: Program) {
    this.#server = server;
    this.#client = client;
  }

  /** `rate`: datagrams a second. */
  static async start(from: HostPlan, to: HostPlan, rate: number): Promise<NumberedStream> {
    const address = to.containerAddress;
    const run = (plan: HostPlan, words: readonly (string | number)[]): Program =>
      new Program(inNamespace(plan.container, ['python3', SCRIPT, ...words.map(String)]));
    const server = run(to, ['serve', address, PORT]);
    await waitFor('the receiver', 5_000, () => server.stdout.includes('listening') || undefined);
    return new NumberedStream(server, run(from, ['send', address, PORT, rate]));
  }

  /** Resolves once a datagram has arrived. */
  async flows(): Promise<void> {
    await waitFor(
      'the first datagram',
      20_000,
      () => this.#server.stdout.includes('receiving') || undefined,
    );
  }

  async end(): Promise<StreamResult> {
    const code = await this.#client.stop(10_000);
    if (code !== 0) throw new Error(`the sender ended with ${code}: ${this.#client.stderr}`);
    await waitFor('the last datagram', 5_000, () => !this.#server.running || undefined);
    const line = this.#server.stdout.split('\n').find((text) => text.startsWith('{'));
    if (line === undefined) throw new Error(`the receiver failed: ${this.#server.stderr}`);
    return JSON.parse(line) as StreamResult;
  }
}
