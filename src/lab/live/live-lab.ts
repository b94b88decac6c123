/**
 * The standing lab as the live page sees it: samples twice a second, and the commands of the page,
 * each bounded in time. There is at most one load and one change of the lab at a time; a change goes
 * on beside a load, so that its effect shows.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, systemError } from '../../errors.js';
import { endedEarly, type DaemonSettings } from '../../testbed/daemon-process.js';
import { modeOf, type LabScenario, type StandingLab } from '../scenario/lab.js';
import { AFTER_LEAVE } from '../scenario/report.js';
import { join, leave, THIRD_HOST, type Change, type Stage } from '../scenario/third-host.js';
import { addHost, removeContainer, removeHost, type HostPlan } from '../../testbed/topology.js';
import { formatCount } from '../../text.js';
import { IperfTarget, ping, type UdpResult } from '../../testbed/traffic.js';
import type {
  Command,
  IsolatedEvent,
  LabState,
  LoadKind,
  ModeResult,
  PageMode,
  ResultName,
} from './messages.js';
import { buildingState, resultName } from './state.js';
import { addTotals, figuresOf, NO_TOTALS, Sampler, type Totals } from './sampler.js';

const SAMPLE_MS = 500;
const LOAD_SECONDS = 30;
const PING_INTERVAL_SECONDS = 0.2;
/** Fits one datagram at the lab's MTU. */
const UDP_BYTES = 1_372;
/**
 * Samples with traffic that are left out of a result after the load began or the lab changed: TCP
 * finds its pace again, which may take it seconds.
 */
const SETTLING_SAMPLES = 4;

export class LiveLab {
  readonly #lab: StandingLab;
  readonly #scenario: LabScenario;
  readonly #tell: (event: IsolatedEvent) => void;
  readonly #sampler = new Sampler();
  readonly #results = new Map<string, { mode: ResultName; kind: LoadKind; totals: Totals }>();
  #state: LabState;
  #settings: (plan: HostPlan) => DaemonSettings;
  #load: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  #change: Promise<void> | undefined;
  /** What ends the lab, from a change that failed. */
  #settling = 0;

  constructor(lab: StandingLab, scenario: LabScenario, tell: (event: IsolatedEvent) => void) {
    this.#lab = lab;
    this.#scenario = scenario;
    this.#tell = tell;
    this.#settings = lab.settings;
    const { backend } = lab;
    const mode = resultName(backend, modeOf(scenario, lab.near));
    const what = backend.hasModes ? 'mode' : 'backend';
    this.#state = {
      ...buildingState(mode, backend),
      phase: 'live',
      message: `The lab is up: two hosts, ${what} ${mode}.`,
    };
  }

  /** Samples until asked to stop; rejects when a daemon or the store has ended by itself. */
  async run(): Promise<void> {
    const signal = endedEarly([this.#lab.store], this.#scenario.signal);
    try {
      this.#say({});
      while (!this.#scenario.signal.aborted) {
        signal.throwIfAborted();
        await this.#checkDaemons();
        await this.#sample();
        await delay(SAMPLE_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      this.#load?.stop.abort();
      await this.#load?.done;
      await this.#change;
    }
  }

  /** Begins what a command says; the reason when it cannot be done now. */
  accept(command: Command): string | null {
    switch (command.command) {
      case 'ping':
      case 'tcp':
      case 'udp':
        return this.#beginLoad(command.command);
      case 'stop':
        if (this.#load === undefined) return 'there is no load to stop';
        this.#load.stop.abort();
        return null;
      case 'mode':
        if (!this.#lab.backend.hasModes) return 'the kernel forwards: there are no modes';
        if (command.mode === this.#state.mode) return `the mode is ${command.mode} already`;
        return this.#beginChange(`Switching to ${command.mode}`, () =>
          this.#switchMode(command.mode),
        );
      case 'add-host':
        if (this.#state.thirdHost) return 'host-3 is there already';
        return this.#beginChange('host-3 joins', () => this.#addHost());
      case 'remove-host':
        if (!this.#state.thirdHost) return 'host-3 is not there';
        return this.#beginChange('host-3 leaves', () => this.#removeHost());
    }
  }

  #beginLoad(kind: LoadKind): string | null {
    const { load } = this.#state;
    if (load !== null) return `${NAMES[load.kind]} is running: stop it first`;
    const stop = new AbortController();
    const asked = (): void => {
      stop.abort();
    };
    this.#scenario.signal.addEventListener('abort', asked);
    this.#forget(kind, this.#state.mode);
    this.#say({
      load: { kind, seconds: LOAD_SECONDS },
      message: `${NAMES[kind]} for ${LOAD_SECONDS} s: ${this.#wayOf(kind)}.`,
    });
    const done = this.#send(kind, stop.signal)
      .catch((error: unknown) => (stop.signal.aborted ? 'stopped' : `failed: ${messageOf(error)}`))
      .then((outcome) => {
        this.#scenario.signal.removeEventListener('abort', asked);
        this.#load = undefined;
        this.#say({ load: null, message: `${NAMES[kind]} ${outcome}.` });
      });
    this.#load = { stop, done };
    return null;
  }

  #wayOf(kind: LoadKind): string {
    const others = kind === 'ping' && this.#state.thirdHost ? ' and container-3' : '';
    return `container-1 to container-2${others}`;
  }

  /** Sends to the end or the stop; how it went. */
  async #send(kind: LoadKind, signal: AbortSignal): Promise<string> {
    const { near, far } = this.#lab;
    const target = new IperfTarget(far);
    const load = { seconds: LOAD_SECONDS, signal };
    switch (kind) {
      case 'ping': {
        const to = this.#state.thirdHost ? [far, THIRD_HOST] : [far];
        const pings = to.map(({ containerAddress }) =>
          ping(near, containerAddress, {
            count: LOAD_SECONDS / PING_INTERVAL_SECONDS,
            intervalSeconds: PING_INTERVAL_SECONDS,
            signal,
          }),
        );
        const all = await Promise.all(pings);
        const count = (key: 'sent' | 'received'): number =>
          all.reduce((total, result) => total + result[key], 0);
        const average = all[0]?.avgMs;
        const time = average === undefined ? '' : `, ${average.toFixed(2)} ms on average`;
        return `ended: ${count('received')} of ${count('sent')} answered${time}`;
      }
      case 'tcp': {
        const { gbps, retransmits } = await target.tcp(near, load);
        return `ended: ${gbps.toFixed(2)} Gbit/s, ${retransmits} segments sent again`;
      }
      case 'udp': {
        return describeUdp(await target.udp(near, { ...load, bytes: UDP_BYTES }));
      }
    }
  }

  #beginChange(what: string, work: () => Promise<string>): string | null {
    if (this.#state.change !== null) return `${this.#state.change}: wait until that is done`;
    this.#say({ change: what, message: `${what} …` });
    this.#change = work()
      .catch((error: unknown) => `${what}: ${messageOf(error)}`)
      .then((message) => {
        this.#change = undefined;
        this.#settling = SETTLING_SAMPLES;
        this.#say({ change: null, message });
      });
    return null;
  }

  /** The daemons go on in another mode; nothing starts again. */
  async #switchMode(mode: PageMode): Promise<string> {
    const started = performance.now();
    const before = this.#settings;
    this.#settings = (plan) => ({ ...before(plan), mode });
    await Promise.all([...this.#lab.running].map((daemon) => daemon.changeMode(mode)));
    this.#say({ mode });
    const { load } = this.#state;
    if (load !== null) this.#forget(load.kind, mode);
    const ms = (performance.now() - started).toFixed(0);
    return `Mode ${mode}, after ${ms} ms: the daemons, their devices and connections are the same.`;
  }

  async #addHost(): Promise<string> {
    await addHost(THIRD_HOST);
    try {
      const { change } = await join(this.#stage());
      this.#say({ thirdHost: true });
      return describe('host-3 has joined and everybody reaches everybody', change);
    } catch (error) {
      await this.#clearThird();
      throw error;
    }
  }

  async #removeHost(): Promise<string> {
    const daemon = [...this.#lab.running].find(({ plan }) => plan.number === THIRD_HOST.number);
    this.#say({ thirdHost: false });
    if (daemon === undefined) throw systemError('host-3 has no daemon');
    let change: Change;
    try {
      change = await leave(this.#stage(), daemon);
    } finally {
      await this.#clearThird();
    }
    const seen = AFTER_LEAVE[this.#lab.asFound[0].afterLeave];
    return describe(`host-3 has left: ${seen}, for the others`, change);
  }

  /** Removes what there is of the third host. */
  async #clearThird(): Promise<void> {
    const { running, store } = this.#lab;
    for (const daemon of [...running]) {
      if (daemon.plan.number !== THIRD_HOST.number) continue;
      running.delete(daemon);
      await daemon.program.stop();
    }
    // A host that did not come up, or did not leave well, may lack any of these.
    await store.remove(THIRD_HOST).catch(() => undefined);
    await removeContainer(THIRD_HOST).catch(() => undefined);
    await removeHost(THIRD_HOST).catch(() => undefined);
  }

  #stage(): Stage {
    const { near, far, store, running, asFound } = this.#lab;
    const { signal } = this.#scenario;
    return {
      near,
      far,
      store,
      running,
      asFound,
      signal,
      settings: this.#settings,
      progress: () => undefined,
    };
  }

  async #checkDaemons(): Promise<void> {
    for (const daemon of this.#lab.running) {
      if (!daemon.program.running) throw await daemon.ended();
    }
  }

  async #sample(): Promise<void> {
    const { sample, totals } = await this.#sampler.next(this.#lab.running);
    this.#tell({ type: 'sample', sample });
    const { mode, load, change } = this.#state;
    if (change !== null || load === null || load.kind === 'ping') return;
    if (this.#settling > 0) {
      if (totals.deliveredBytes > 0) this.#settling -= 1;
      return;
    }
    const key = `${load.kind} ${mode}`;
    const before = this.#results.get(key)?.totals ?? NO_TOTALS;
    this.#results.set(key, { mode, kind: load.kind, totals: addTotals(before, totals) });
    this.#say({});
  }

  /** A result is of one load: what the last of its kind measured in this mode goes. */
  #forget(kind: LoadKind, mode: ResultName): void {
    this.#results.delete(`${kind} ${mode}`);
    this.#settling = SETTLING_SAMPLES;
  }

  #say(news: Partial<Omit<LabState, 'results'>>): void {
    const results = [...this.#results.values()].map(({ mode, kind, totals }): ModeResult => ({
      mode,
      kind,
      ...figuresOf(totals),
    }));
    this.#state = { ...this.#state, ...news, results };
    this.#tell({ type: 'state', state: this.#state });
  }
}

const NAMES: Readonly<Record<LoadKind, string>> = {
  ping: 'Ping',
  tcp: 'TCP load',
  udp: 'UDP load',
};

/** How a load of UDP ended, and who lost what. */
export function describeUdp({ sentPackets, arrivedPackets, receivedPackets }: UdpResult): string {
  const [onTheWay, inSocket] = [sentPackets - arrivedPackets, arrivedPackets - receivedPackets];
  return `ended: of ${formatCount(sentPackets)} datagrams ${formatCount(onTheWay)} lost on the way and ${formatCount(inSocket)} in container-2's own socket, whose program read ${formatCount(receivedPackets)}`;
}

function describe(what: string, { seconds, pending }: Change): string {
  if (seconds === undefined) return `${what}: not seen in time by ${pending.join(', ')}`;
  return `${what}, after ${seconds.toFixed(1)} s.`;
}
