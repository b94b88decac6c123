/** A real `flannelette run` in its host's namespace, watched from outside while it starts and works. */
import { mkdir, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { dirname } from 'node:path';
import { requestJson } from '../../src/daemon/status-client.js';
import { statusSocketPath } from '../../src/daemon/options.js';
import type { DaemonStatus } from '../../src/daemon/status.js';
import { systemError } from '../../src/errors.js';
import { inNamespace, Program, waitFor } from '../../src/testbed/programs.js';
import { lastWords, subnetFileOf } from '../../src/testbed/daemon-process.js';
import type { HostPlan } from '../../src/testbed/topology.js';
import { cpuSecondsOf, memoryOf, type Memory } from '../../src/testbed/proc.js';

const START_LIMIT_MS = 60_000;
const POLL_MS = 10;

export class BenchDaemon {
  readonly plan: HostPlan;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly #program: Program;

  private constructor(plan: HostPlan, program: Program, startedAt: number) {
    this.plan = plan;
    this.startedAt = startedAt;
    this.#program = program;
  }

  /** `fresh` forgets what an earlier run left beside subnet.env. */
  static async start(
    plan: HostPlan,
    command: readonly string[],
    storeFlags: readonly string[],
    fresh = true,
  ): Promise<BenchDaemon> {
    const subnetFile = subnetFileOf(plan);
    const directory = dirname(subnetFile);
    if (fresh) await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    const argv = [...command, 'run', ...storeFlags, '--iface=eth0', '--mode=batch'];
    argv.push(`--subnet-file=${subnetFile}`, '--iptables-forward-rules=false', '--v=1');
    const startedAt = Date.now();
    return new BenchDaemon(plan, new Program(inNamespace(plan.host, argv)), startedAt);
  }

  /** Milliseconds from the start until /readyz says 200; throws when there are not `routes` then. */
  async ready(routes: number): Promise<number> {
    for (const deadline = Date.now() + START_LIMIT_MS; ;) {
      if (!this.#program.running) throw await this.#ended();
      if ((await this.#get('/readyz').catch(() => undefined))?.code === 200) break;
      if (Date.now() > deadline) throw systemError(`not ready within ${START_LIMIT_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    const took = Date.now() - this.startedAt;
    const found = /^flannelette_routes (\d+)$/m.exec((await this.#get('/metrics')).body)?.[1];
    if (Number(found) !== routes) {
      throw systemError(`ready with ${found ?? 'no'} routes instead of ${routes}`);
    }
    return took;
  }

  /** When (epoch, ms) a table of `routes` was first given to the data plane after `since`. */
  async published(routes: number, since: number): Promise<number> {
    return waitFor(`${routes} routes on ${this.plan.host}`, 60_000, async () => {
      if (!this.#program.running) throw await this.#ended();
      return publicationOf(this.#program.stderr, routes, since);
    });
  }

  status(): Promise<DaemonStatus> {
    const path = statusSocketPath(subnetFileOf(this.plan));
    return requestJson(path, '/status', 30_000) as Promise<DaemonStatus>;
  }

  memory(): Promise<Memory> {
    return memoryOf(this.#program.pid ?? 0);
  }

  cpuSeconds(): Promise<number> {
    return cpuSecondsOf(this.#program.pid ?? 0);
  }

  async stop(): Promise<void> {
    if ((await this.#program.stop()) !== 0) throw await this.#ended();
  }

  async #ended(): Promise<Error> {
    const code = await this.#program.ended;
    const output = lastWords(this.#program.stderr);
    return systemError(`the daemon of ${this.plan.host} ended with code ${code}: ${output}`);
  }

  #get(path: string): Promise<{ code: number; body: string }> {
    const socketPath = statusSocketPath(subnetFileOf(this.plan));
    return new Promise((resolve, reject) => {
      const query = request({ socketPath, path, agent: false, timeout: 10_000 }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => {
          body += text;
        });
        response.on('error', reject).on('end', () => {
          resolve({ code: response.statusCode ?? 0, body });
        });
      });
      query.on('error', reject).end();
    });
  }
}

/** Reads the debug log: the first publication of `routes` routes at or after `since`. */
export function publicationOf(log: string, routes: number, since: number): number | undefined {
  for (const line of log.split('\n')) {
    if (!line.startsWith('{') || !line.includes('"routes published"')) continue;
    const entry = JSON.parse(line) as { time: number; routes: number };
    if (entry.routes === routes && entry.time >= since) return entry.time;
  }
  return undefined;
}
