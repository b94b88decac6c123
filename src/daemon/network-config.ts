/**
 * The network configuration over a daemon's life.
 *
 *   at the start   asked for each second until it is there and makes sense, as flanneld does
 *   then           looked at now and again: it is in force until the daemon ends, so one that is gone,
 *                  changed or broken meanwhile is shown, with what a restart would do
 *
 * What flannelette does not do (IPv6) is no slip to wait for: that ends the daemon. So does a lease file
 * with a configuration that makes no sense, which is as local as a flag.
 */
import { formatCidr } from '../config/ipv4.js';
import { isUnsupported, type NetworkConfig } from '../config/network.js';
import { messageOf } from '../errors.js';
import type { LeaseStore } from '../lease/store.js';
import type { Logger } from '../log.js';
import { nearestInAnyCase } from '../nearest.js';
import {
  backendKind,
  canStandBeside,
  differences,
  keysWithoutEffect,
  parseConfig,
} from '../network/registry.js';
import type { Problem, ProblemBoard } from '../problems.js';
import { pause, type Pause } from '../abort.js';

const INTERVAL_MS = 1_000;
const LOG_EVERY = 60;
const LOOK_MS = 10_000;
/** In force is one, in the store none or one that is not valid: looked at as at the start. */
const BROKEN = ['config_missing', 'config_invalid'];
/** So many unknown keys are named. */
const MAX_NAMED = 5;
/** What restarts this daemon, where it is not a unit of systemd. */
const RESTART: Readonly<Record<string, string>> = {
  kube: 'kubectl -n kube-flannel rollout restart daemonset kube-flannel-ds',
};
/** The board's source of all this. */
export const CONFIG_SOURCE = 'configuration';

export interface ConfigParts {
  readonly store: LeaseStore;
  /** Asks the store, and again for as long as it is unreachable. */
  readonly ask: () => Promise<string | undefined>;
  readonly problems: ProblemBoard;
  readonly log: Logger;
  readonly intervalMs?: number;
  readonly pause?: Pause;
}

/** Rejects with the signal's reason, or with what no second attempt mends. */
export async function awaitNetworkConfig(
  { store, ask, problems, log, intervalMs = INTERVAL_MS, pause: wait = pause }: ConfigParts,
  signal: AbortSignal,
): Promise<NetworkConfig> {
  const where = store.configLocation ?? store.location;
  for (let attempt = 0; ; attempt += 1) {
    const text = await ask();
    const say = attempt % LOG_EVERY === 0;
    if (text === undefined) {
      problems.report(CONFIG_SOURCE, []);
      if (say) {
        log.warn({ store: store.location }, 'no network configuration yet; waiting for it');
      }
    } else {
      try {
        const config = parseConfig(text, `config in ${where}`);
        problems.report(CONFIG_SOURCE, unknownKeyProblems(text));
        return config;
      } catch (error) {
        if (isUnsupported(error) || store.kind === 'file') throw error;
        const message = `the network configuration in ${where} is not valid: ${messageOf(error)}`;
        problems.report(CONFIG_SOURCE, [{ id: 'config_invalid', message }]);
        if (say && attempt > 0) {
          log.warn(
            { store: where, error: messageOf(error) },
            'network configuration still not valid; waiting for it to be corrected',
          );
        }
      }
    }
    await wait(intervalMs, signal);
    signal.throwIfAborted();
  }
}

export interface ConfigWatch extends Omit<ConfigParts, 'ask'> {
  /** In force. */
  readonly config: NetworkConfig;
  /** True while what the store says is its own word, and new. */
  readonly followed: () => boolean;
  readonly lookMs?: number;
}

/** Never rejects; resolves when the signal aborts. */
export async function watchNetworkConfig(
  watch: ConfigWatch,
  signal: AbortSignal,
): Promise<undefined> {
  const { store, config, followed, problems, log } = watch;
  const { lookMs = LOOK_MS, intervalMs = INTERVAL_MS, pause: wait = pause } = watch;
  /** Looks in a row that found it broken. */
  let broken = 0;
  for (;;) {
    await wait(broken > 0 ? intervalMs : lookMs, signal);
    if (signal.aborted) return undefined;
    if (!followed()) continue;
    try {
      const text = await store.readNetworkConfig(signal);
      const found = configProblems(
        text,
        config,
        store.configLocation ?? store.location,
        RESTART[store.kind],
      );
      problems.report(CONFIG_SOURCE, found);
      const bad = found.find(({ id }) => BROKEN.includes(id));
      broken = bad === undefined ? 0 : broken + 1;
      if (bad !== undefined && broken % LOG_EVERY === 0) log.warn({ problem: bad.id }, bad.message);
    } catch {
      // The store says elsewhere why it cannot be asked.
    }
  }
}

export interface ConfigFollow extends ConfigWatch {
  /** One that could not be put in force. */
  readonly refused: NetworkConfig | undefined;
}

/**
 * Resolves with a configuration that asks for another backend and for nothing else that is new, when it was
 * seen twice in a row; with undefined when the signal aborts. Other changes take a restart, and are told as
 * `watchNetworkConfig` tells them. Never rejects.
 */
export async function followNetworkConfig(
  follow: ConfigFollow,
  signal: AbortSignal,
): Promise<NetworkConfig | undefined> {
  const { store, config, refused, followed, problems } = follow;
  const { intervalMs = INTERVAL_MS, pause: wait = pause } = follow;
  let seen: NetworkConfig | undefined;
  for (;;) {
    await wait(intervalMs, signal);
    if (signal.aborted) return undefined;
    if (!followed()) continue;
    try {
      const text = await store.readNetworkConfig(signal);
      const now = text === undefined ? undefined : followable(text, config);
      if (now === undefined || (refused !== undefined && differences(refused, now).length === 0)) {
        // What was refused is on the board already.
        if (now === undefined) {
          problems.report(
            CONFIG_SOURCE,
            configProblems(
              text,
              config,
              store.configLocation ?? store.location,
              RESTART[store.kind],
            ),
          );
        }
        seen = undefined;
      } else if (seen !== undefined && differences(seen, now).length === 0) return now;
      else seen = now;
    } catch {
      // The store says elsewhere why it cannot be asked.
    }
  }
}

/** The configuration, if its backend can stand beside the one in force, and nothing else differs. */
function followable(text: string, inForce: NetworkConfig): NetworkConfig | undefined {
  let now: NetworkConfig;
  try {
    now = parseConfig(text);
    backendKind(now.backend);
  } catch {
    return undefined;
  }
  const rest = differences({ ...inForce, backend: now.backend }, now);
  return canStandBeside(now.backend, inForce.backend) && rest.length === 0 ? now : undefined;
}

/** What differs between the store's configuration and the one in force. */
export function configProblems(
  text: string | undefined,
  config: NetworkConfig,
  location: string,
  remedy = 'systemctl restart flannelette',
): Problem[] {
  const inForce = `Network ${formatCidr(config.network)} stays in force here`;
  if (text === undefined) {
    const message = `the network configuration is gone from ${location}: ${inForce}, a restart would wait for one`;
    return [{ id: 'config_missing', message }];
  }
  let now: NetworkConfig;
  try {
    now = parseConfig(text, 'config');
  } catch (error) {
    const message = `the network configuration in ${location} is not valid any more: ${messageOf(error)}; ${inForce}, a restart would wait for a valid one`;
    return [{ id: 'config_invalid', message }];
  }
  const changes = differences(config, now);
  if (changes.length === 0) return unknownKeyProblems(text);
  return [
    {
      id: 'config_changed',
      message: `the network configuration in ${location} has changed (${changes.join(', ')}): it takes effect when this daemon is restarted`,
      remedy,
    },
    ...unknownKeyProblems(text),
  ];
}

/** Keys without effect, as one problem. `text` is a valid configuration. */
function unknownKeyProblems(text: string): Problem[] {
  const unknown = keysWithoutEffect(text);
  if (unknown.length === 0) return [];
  const named = unknown.slice(0, MAX_NAMED).map(({ path, parent, known }) => {
    const near = nearestInAnyCase(path.slice(parent.length), known);
    const shown = JSON.stringify(path.slice(0, 60));
    return near === undefined ? shown : `${shown} (did you mean ${parent}${near}?)`;
  });
  if (unknown.length > MAX_NAMED) named.push(`${unknown.length - MAX_NAMED} more`);
  const message = `the network configuration has keys without effect: ${named.join(', ')}`;
  return [{ id: 'config_unknown_key', message }];
}
