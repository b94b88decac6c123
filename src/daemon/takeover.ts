/**
 * A daemon that begins where a running one ends, without a gap (`flannelette run --takeover`):
 *
 *   successor                                        predecessor, which forwards
 *   PUT /takeover/1  (the status socket)  -------->  sends its descriptors to SUBNETFILE.take
 *   lease, routes, rules; nothing is changed of
 *   device and port
 *   PUT /switch/1                         -------->  stops its threads, answers, ends; device,
 *   begins to forward; then its own                  routes, rules and subnet.env stay
 *   status socket
 *
 * Whatever goes wrong before the switch ends the successor, and the predecessor goes on. The number is the
 * version of this exchange: one that the predecessor does not know is refused.
 */
import { closeSync } from 'node:fs';
import { HandoverPlace } from '../dataplane/dataplane.js';
import { errnoOf, FlannelletteError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Forwarder } from '../network/forwarder.js';
import type { InheritedTunnel } from '../network/registry.js';
import { statusSocketPath } from './options.js';
import { requestJson } from './status-client.js';

/** A predecessor of another version is not taken over from. */
export const TAKEOVER_VERSION = 1;

const ANSWER_MS = 5_000;
/** Nobody is there any more. */
const GONE: readonly (string | undefined)[] = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'];

/** Where the predecessor leaves its descriptors. */
function handoverPath(subnetFile: string): string {
  return `${subnetFile}.take`;
}

/** The predecessor's part; each call throws a system error when it cannot be. */
export class HandoverServer {
  readonly #path: string;
  readonly #forwarder: () => Forwarder | undefined;
  readonly #backend: () => string | undefined;

  constructor(
    subnetFile: string,
    forwarder: () => Forwarder | undefined,
    backend: () => string | undefined,
  ) {
    this.#path = handoverPath(subnetFile);
    this.#forwarder = forwarder;
    this.#backend = backend;
  }

  /** Gives copies of the descriptors away, and goes on. */
  give(version: string): { readonly tunnel: string } {
    return { tunnel: this.#handover(version).give(this.#path) };
  }

  /** Ends forwarding for good. */
  end(version: string): void {
    this.#handover(version).end();
  }

  #handover(version: string): NonNullable<Forwarder['handover']> {
    if (version !== String(TAKEOVER_VERSION)) {
      throw systemError(
        `takeover version ${JSON.stringify(version)}: expected ${TAKEOVER_VERSION}, which this daemon knows`,
      );
    }
    const forwarder = this.#forwarder();
    if (forwarder === undefined) throw systemError('this daemon forwards nothing yet');
    if (forwarder.handover === undefined) {
      throw systemError(
        `the ${this.#backend() ?? 'present'} backend cannot be taken over: expected the udp backend; restart the daemon`,
      );
    }
    return forwarder.handover;
  }
}

/** The successor's view of the daemon before it. */
export class Predecessor {
  readonly #socket: string;
  readonly #log: Logger;
  readonly #version: number;
  #tunnel: { readonly name: string; readonly descriptors: readonly number[] } | undefined;
  #settle!: (error?: Error) => void;
  /** Resolves when the predecessor has ceased to forward, or is gone; rejects when it goes on. */
  readonly switched: Promise<void>;

  private constructor(socket: string, log: Logger, version: number) {
    this.#socket = socket;
    this.#log = log;
    this.#version = version;
    this.switched = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    this.switched.catch(() => undefined);
  }

  /** Undefined when no daemon answers for this subnet file. */
  static async find(
    subnetFile: string,
    log: Logger,
    version = TAKEOVER_VERSION,
  ): Promise<Predecessor | undefined> {
    const socket = statusSocketPath(subnetFile);
    try {
      await requestJson(socket, '/status', ANSWER_MS);
    } catch (error) {
      if (GONE.includes(errnoOf(error))) return undefined;
      throw error;
    }
    return new Predecessor(socket, log, version);
  }

  /** Gets copies of its descriptors; rejects with a system error when it does not give them. */
  async ask(subnetFile: string): Promise<void> {
    const place = new HandoverPlace(handoverPath(subnetFile));
    try {
      await this.#request('takeover');
      const { message, descriptors } = place.receive();
      this.#tunnel = { name: message, descriptors };
      this.#log.info({ tunnel: message }, 'descriptors received; the daemon before still forwards');
    } catch (error) {
      throw this.#refusal(error);
    } finally {
      place.close();
    }
  }

  /** Its tunnel, once; throws a system error when it is another one than `name`. */
  take(name: string): InheritedTunnel | undefined {
    const tunnel = this.#tunnel;
    if (tunnel === undefined) return undefined;
    this.#tunnel = undefined;
    const { descriptors } = tunnel;
    if (tunnel.name !== name) {
      closeAll(descriptors);
      throw this.#refusal(
        systemError(`its tunnel is ${tunnel.name}: expected ${name}, as lease and network are`),
      );
    }
    const pairs = (descriptors.length - 1) / 2;
    return {
      tun: descriptors.slice(0, pairs),
      udp: descriptors.slice(pairs, -1),
      until: descriptors.at(-1),
      switchOver: () => this.#switchOver(),
    };
  }

  async #switchOver(): Promise<void> {
    const started = performance.now();
    try {
      await this.#request('switch');
      const ms = Math.round(performance.now() - started);
      this.#log.info({ ms }, 'the daemon before has stopped; forwarding in its place');
    } catch (error) {
      if (!GONE.includes(errnoOf(error))) {
        const refusal = this.#refusal(error);
        this.#settle(refusal);
        throw refusal;
      }
      this.#log.warn(
        { error: messageOf(error) },
        'the daemon before is gone; forwarding in its place',
      );
    }
    this.#settle();
  }

  #request(what: 'takeover' | 'switch'): Promise<unknown> {
    const path = `/${what}/${this.#version}`;
    return requestJson(this.#socket, path, ANSWER_MS, { method: 'PUT' });
  }

  #refusal(cause: unknown): Error {
    if (cause instanceof FlannelletteError && cause.message.startsWith('cannot take over')) {
      return cause;
    }
    return systemError(
      `cannot take over from the daemon at ${this.#socket}, which goes on: ${messageOf(cause)}`,
      { field: '--takeover', cause },
    );
  }
}

/** Descriptors that are not used after all. */
export function closeAll(descriptors: readonly number[]): void {
  for (const fd of descriptors) closeSync(fd);
}
