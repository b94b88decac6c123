/** Flags that `lab` and `trace` have in common: what carries packets between their hosts. */
import { DAEMON_DEFAULTS, DAEMON_MODES, type DaemonMode } from '../daemon/options.js';
import { inputError } from '../errors.js';
import type { BackendType } from '../lab/backends/backend.js';
import { booleanFlag, choiceFlag, type GivenFlags } from './flags.js';

const BACKENDS: readonly BackendType[] = ['udp', 'vxlan', 'host-gw'];

export const LAB_FLAGS = {
  backend: choiceFlag('backend', 'Backend.Type of the network', BACKENDS, 'udp'),
  directRouting: booleanFlag(
    'direct-routing',
    'Backend.DirectRouting: hosts of one segment, as here, send without the tunnel',
  ),
  mode: choiceFlag(
    'mode',
    'mode all daemons run in; of the backend udp',
    DAEMON_MODES,
    DAEMON_DEFAULTS.mode,
  ),
};

export interface LabChoice {
  readonly backend: BackendType;
  readonly directRouting: boolean;
  readonly mode: DaemonMode;
}

/** Throws an input error when flags do not go together. */
export function checkLabFlags({ backend, directRouting }: LabChoice, given: GivenFlags): void {
  if (backend === 'host-gw' && directRouting) {
    const why = 'no such flag beside --backend=host-gw, which has no tunnel';
    throw inputError('--direct-routing', 'true', why);
  }
  if (backend === 'udp') return;
  refuseBeside(given, ['mode', 'modes'], `--backend=${backend}, where the kernel forwards`);
}

/** Refuses flags that mean nothing beside another. */
export function refuseBeside(given: GivenFlags, names: readonly string[], what: string): void {
  for (const name of names) {
    const values = given.get(name);
    if (values !== undefined) {
      throw inputError(`--${name}`, values[0], `no such flag beside ${what}`);
    }
  }
}
