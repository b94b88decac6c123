/** Three members of one etcd on the loopback, to be ended and started again one by one. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { Program, waitFor } from '../../src/testbed/programs.js';
import { freePort } from './etcd.js';

interface Member {
  readonly argv: readonly string[];
  readonly endpoint: string;
  program: Program | undefined;
}

export class EtcdCluster {
  readonly endpoints: readonly string[];
  /** At the first member. */
  readonly client: Etcd3;
  readonly #directory: string;
  readonly #members: readonly Member[];

  private constructor(directory: string, members: readonly Member[]) {
    this.#directory = directory;
    this.#members = members;
    this.endpoints = members.map(({ endpoint }) => endpoint);
    this.client = new Etcd3({ hosts: this.endpoints[0] ?? '' });
  }

  static async start(): Promise<EtcdCluster> {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-etcd-'));
    const ports = [await freePort(), await freePort(), await freePort()];
    const peer = (port: number): string => `http://127.0.0.1:${port + 1}`;
    const initial = ports.map((port, index) => `m${index}=${peer(port)}`).join(',');
    const members = ports.map((port, index) => {
      const endpoint = `http://127.0.0.1:${port}`;
      const argv = ['etcd', `--name=m${index}`, `--data-dir=${join(directory, `m${index}`)}`];
      argv.push(`--listen-client-urls=${endpoint}`, `--advertise-client-urls=${endpoint}`);
      argv.push(`--listen-peer-urls=${peer(port)}`, `--initial-advertise-peer-urls=${peer(port)}`);
      argv.push(`--initial-cluster=${initial}`, '--log-level=error');
      return { argv, endpoint, program: new Program(argv) };
    });
    const cluster = new EtcdCluster(directory, members);
    await waitFor('a quorum of etcd', 30_000, async () =>
      cluster.client
        .get('none')
        .exec()
        .then(
          () => true as const,
          () => undefined,
        ),
    );
    return cluster;
  }

  async kill(index: number): Promise<void> {
    const member = this.#members[index];
    member?.program?.kill('SIGKILL');
    await member?.program?.ended;
  }

  restart(index: number): Promise<void> {
    const member = this.#members[index];
    if (member !== undefined) member.program = new Program(member.argv);
    return Promise.resolve();
  }

  async end(): Promise<void> {
    this.client.close();
    await Promise.all(this.#members.map(async ({ program }) => program?.stop()));
    await rm(this.#directory, { recursive: true });
  }
}
