/** FLANNELD_ variables that name no flag: flanneld passes over them in silence, and so most are slips. */
import { nearest } from '../nearest.js';
import { environmentName, type Flags } from './flags.js';

const PREFIX = 'FLANNELD_';

/** What Kubernetes puts into the environment of pods beside a Service that is named flanneld. */
const SERVICE_LINK = /^FLANNELD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$/;

export interface UnknownVariable {
  readonly name: string;
  /** The variable that was meant, when one is near. */
  readonly near: string | undefined;
}

/** An empty variable counts as not set, as everywhere. */
export function unknownVariables(
  flags: Flags,
  env: Readonly<Record<string, string | undefined>>,
): UnknownVariable[] {
  const known = Object.values(flags)
    .filter((flag) => flag.argumentOnly !== true)
    .map((flag) => environmentName(flag.name));
  const short = known.map((name) => name.slice(PREFIX.length));
  return Object.keys(env)
    .filter((name) => name.startsWith(PREFIX) && (env[name] ?? '') !== '')
    .filter((name) => !known.includes(name) && !SERVICE_LINK.test(name))
    .map((name) => {
      const near = nearest(name.slice(PREFIX.length).toUpperCase(), short);
      return { name, near: near === undefined ? undefined : `${PREFIX}${near}` };
    });
}
