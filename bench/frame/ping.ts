/** Pings whose every round trip is kept, for percentiles; and the first reply after a start. */
import { systemError } from '../../src/errors.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import type { HostPlan } from '../../src/testbed/topology.js';

export interface PingSeries {
  readonly sent: number;
  /** Round trips in milliseconds, in the order of the replies. */
  readonly roundTrips: readonly number[];
}

/** Reads the lines of iputils ping. */
export function parseSeries(output: string): PingSeries {
  const sent = /(\d+) packets transmitted/.exec(output);
  if (sent === null) throw systemError(`ping printed no summary: ${output.slice(-200)}`);
  const roundTrips = [...output.matchAll(/icmp_seq=\d+ .*time=([\d.]+) ms/g)].map((match) =>
    Number(match[1]),
  );
  return { sent: Number(sent[1]), roundTrips };
}

/** The value below which `share` of them lie (nearest rank). */
export function percentile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError('percentile of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

interface SeriesOptions {
  /** At most 3,500, of which what ping prints is kept whole. */
  readonly count: number;
  /** Without it the next ping goes out as soon as the last was answered (`ping -A`). */
  readonly intervalSeconds?: number;
  /** When it ends at the latest; needed without an interval. */
  readonly deadlineSeconds?: number;
  readonly signal: AbortSignal;
}

export async function pingSeries(
  from: HostPlan,
  address: string,
  { count, intervalSeconds, deadlineSeconds, signal }: SeriesOptions,
): Promise<PingSeries> {
  const argv = ['ping', '-n', '-c', String(count), '-W', '2'];
  argv.push(...(intervalSeconds === undefined ? ['-A'] : ['-i', String(intervalSeconds)]));
  if (deadlineSeconds !== undefined) argv.push('-w', String(deadlineSeconds));
  const seconds = deadlineSeconds ?? count * (intervalSeconds ?? 1);
  const { stdout } = await run(inNamespace(from.container, [...argv, address]), {
    timeoutMs: (seconds + 10) * 1_000,
    accept: [0, 1],
    signal,
  });
  return parseSeries(stdout);
}

/** Pings from now on; `firstReply` resolves with when the first answer came (epoch, ms). */
export class PingUntilReply {
  readonly #program: Program;

  constructor(from: HostPlan, address: string) {
    const argv = ['ping', '-n', '-D', '-i', '0.02', address];
    this.#program = new Program(inNamespace(from.container, argv));
  }

  async firstReply(deadlineMs: number): Promise<number> {
    return waitFor('a reply from the last subnet', deadlineMs, () => {
      const reply = /^\[([\d.]+)\] \d+ bytes from /m.exec(this.#program.stdout);
      return reply === null ? undefined : Number(reply[1]) * 1_000;
    });
  }

  async stop(): Promise<void> {
    await this.#program.stop();
  }
}
