/** A real etcd for the lab and the tests: one member, one process, its data in a directory given. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { systemError } from '../errors.js';
import { Program, waitFor } from './programs.js';

export interface EtcdServerOptions {
  /** Holds the data; made by etcd. */
  readonly directory: string;
  /** Where clients reach it, in this process's network namespace; default 127.0.0.1. */
  readonly address?: string;
  /** TCP port for clients; that for peers, which a single member never uses, is the next. */
  readonly port: number;
  /** TLS: the server's certificate, and what client certificates are checked by. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  readonly flags?: readonly string[];
}

export class EtcdServer {
  readonly endpoint: string;
  readonly #options: EtcdServerOptions;
  #program: Program;

  private constructor(options: EtcdServerOptions) {
    this.#options = options;
    const { address = '127.0.0.1', port, tls } = options;
    this.endpoint = `${tls === undefined ? 'http' : 'https'}://${address}:${port}`;
    this.#program = this.#launch();
  }

  /** Starts etcd and waits until it answers. */
  static async start(options: EtcdServerOptions): Promise<EtcdServer> {
    const server = new EtcdServer(options);
    try {
      await server.#ready();
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  /** Stops it from running without ending it: connections stay open and silent. */
  freeze(): void {
    this.#program.kill('SIGSTOP');
  }

  thaw(): void {
    this.#program.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    this.#program.kill('SIGKILL');
    await this.#program.ended;
  }

  /** Starts it again on the same data, after `kill` or `stop`. */
  async restart(): Promise<void> {
    this.#program = this.#launch();
    await this.#ready();
  }

  async stop(): Promise<void> {
    this.thaw();
    await this.#program.stop();
  }

  /** Resolves when etcd has ended, for whatever cause, with its last line as the reason. */
  async ended(): Promise<Error> {
    const code = await this.#program.ended;
    const [last = ''] = this.#program.stderr.trim().split('\n').slice(-1);
    return systemError(`etcd ended with code ${code}${last === '' ? '' : `: ${last}`}`);
  }

  #launch(): Program {
    const { address = '127.0.0.1', port, directory, tls, flags = [] } = this.#options;
    const argv = ['etcd', `--data-dir=${join(directory, 'etcd')}`, '--log-level=error'];
    argv.push(`--listen-client-urls=${this.endpoint}`, `--advertise-client-urls=${this.endpoint}`);
    argv.push(`--listen-peer-urls=http://${address}:${port + 1}`);
    argv.push(`--initial-advertise-peer-urls=http://${address}:${port + 1}`);
    argv.push(`--initial-cluster=default=http://${address}:${port + 1}`);
    if (tls !== undefined) argv.push(`--cert-file=${tls.cert}`, `--key-file=${tls.key}`);
    if (tls?.clientCa !== undefined) {
      argv.push('--client-cert-auth', `--trusted-ca-file=${tls.clientCa}`);
    }
    return new Program([...argv, ...flags]);
  }

  /** Listening is enough: a single member elects itself before it serves. */
  async #ready(): Promise<void> {
    const { address = '127.0.0.1', port } = this.#options;
    await waitFor('etcd', 15_000, async () => {
      if (!this.#program.running) throw await this.ended();
      return connects(address, port);
    });
  }
}

/** True when somebody accepts; undefined when not. */
function connects(host: string, port: number): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(undefined);
    });
  });
}
