/**
 * A running daemon leaves its host to another flannel without a gap, which cannot wait for a port as ours can
 * (`flannelette step-aside`):
 *
 *   free port and route, forward all the same ─> the other has both ─> a second ─> end
 *                                             └─> nobody within the time: take both back
 */
import { readFileSync } from 'node:fs';
import { pause, type Pause } from '../abort.js';
import { sameCidr, type Cidr } from '../config/ipv4.js';
import { kernelRoutesWithin } from '../dataplane/kernel-routes.js';
import { inputError, messageOf, systemError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Aside } from '../network/forwarder.js';
import type { Registration } from '../network/registration.js';
import type { DaemonState } from './state.js';

const SECONDS_MAX = 3_600;
const RETRY_MS = 1_000;
const LOOK_MS = 50;
/** Whoever asked can read the outcome, before there is nobody to ask. */
const TELL_MS = 1_000;
/** flanneld reads the leases after it has made device and route: it is given this long for it. */
const SETTLE_MS = 1_000;
/** RTN_UNICAST (rtnetlink(7)). */
const UNICAST = 1;

/** What is looked for: who has the port, and a route of the whole network. */
export interface Successor {
  readonly port: number;
  readonly network: Cidr;
}

/** In place of the host and its time, for tests. */
export interface Looks {
  readonly isReady: (wanted: Successor) => boolean;
  readonly pause: Pause;
}

export class StepAside {
  readonly #state: DaemonState;
  readonly #log: Logger;
  readonly #end: AbortController;
  readonly #looks: Looks;
  #done = false;
  /** The port could not be taken back, which was said. */
  #refused = false;

  /** `end` is aborted once the other forwards. */
  constructor(
    state: DaemonState,
    log: Logger,
    end: AbortController,
    looks: Looks = { isReady: isForwardedByOthers, pause },
  ) {
    this.#state = state;
    this.#log = log;
    this.#end = end;
    this.#looks = looks;
  }

  get done(): boolean {
    return this.#done;
  }

  /** Throws an input error for a time that is none, a system error when it cannot be done now. */
  begin(seconds: number): void {
    if (!Number.isInteger(seconds) || seconds < 1 || seconds > SECONDS_MAX) {
      throw inputError('within', seconds, `whole seconds from 1 to ${SECONDS_MAX}`);
    }
    const { config, network, phase } = this.#state;
    if (phase !== 'running' || config === undefined || network === undefined) {
      throw systemError(`this daemon is ${phase}: expected one that is running`);
    }
    const { aside, udpPort: port } = network.forwarder;
    if (aside === undefined || port === undefined) {
      throw systemError(
        `the ${config.backend.type} backend has no port to leave: expected the udp backend; stop this daemon, then start the other`,
      );
    }
    aside.step();
    this.#refused = false;
    this.#state.phase = 'standing aside';
    this.#log.info({ port, seconds }, 'the UDP port is free for another flannel');
    void this.#wait(network, aside, { port, network: config.network }, seconds * 1_000);
  }

  async #wait(
    network: Registration,
    aside: Aside,
    wanted: Successor,
    withinMs: number,
  ): Promise<void> {
    const { signal } = this.#end;
    let leftMs = withinMs;
    // A network that was closed meanwhile, for whatever reason, has left all there was.
    const stands = (): boolean =>
      !signal.aborted && this.#state.network === network && this.#state.phase === 'standing aside';
    while (stands()) {
      if (await awaitSuccessor(wanted, leftMs, signal, this.#looks)) {
        if (stands()) await this.#leave();
        return;
      }
      if (!stands() || this.#takeBack(aside)) return;
      leftMs = RETRY_MS;
    }
  }

  async #leave(): Promise<void> {
    this.#done = true;
    this.#state.phase = 'stepped aside';
    this.#log.info('another flannel forwards from now on; stopping');
    await this.#looks.pause(TELL_MS, this.#end.signal);
    this.#end.abort();
  }

  #takeBack(aside: Aside): boolean {
    try {
      aside.back();
    } catch (error) {
      if (!this.#refused) {
        this.#log.error({ error: messageOf(error) }, 'cannot take the UDP port back; retrying');
      }
      this.#refused = true;
      return false;
    }
    this.#state.phase = 'running';
    this.#log.warn('no other flannel forwards; the UDP port is taken back');
    return true;
  }
}

/** True once there is one, which has been ready for a second; false when the time is over, or aborted. */
async function awaitSuccessor(
  wanted: Successor,
  withinMs: number,
  signal: AbortSignal,
  { isReady, pause: wait }: Looks,
): Promise<boolean> {
  const until = performance.now() + withinMs;
  let readySince: number | undefined;
  while (!signal.aborted) {
    const now = performance.now();
    readySince = isSo(() => isReady(wanted)) ? (readySince ?? now) : undefined;
    if (readySince !== undefined && now - readySince >= SETTLE_MS) return true;
    if (readySince === undefined && now >= until) return false;
    await wait(LOOK_MS, signal);
  }
  return false;
}

/** A host that cannot be looked at now, for want of a descriptor, say, has none. */
function isSo(look: () => boolean): boolean {
  try {
    return look();
  } catch {
    return false;
  }
}

/** Of a daemon that stands aside: the port is not its own, nor is a route of the whole network. */
function isForwardedByOthers({ port, network }: Successor): boolean {
  return (
    isBound(readFileSync('/proc/self/net/udp', 'latin1'), port) &&
    kernelRoutesWithin(network).some(
      ({ destination, type, interfaceIndex }) =>
        type === UNICAST && interfaceIndex !== 0 && sameCidr(destination, network),
    )
  );
}

/** From /proc/net/udp (proc(5)): `  12: 0200A80A:205D 00000000:0000 07 ...`. */
export function isBound(table: string, port: number): boolean {
  const text = port.toString(16).toUpperCase().padStart(4, '0');
  return new RegExp(`^\\s*\\d+: [0-9A-F]{8}:${text} `, 'm').test(table);
}
