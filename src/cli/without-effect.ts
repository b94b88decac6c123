/** Flags that are taken, so that flanneld's command lines work, and do nothing here: each is warned about. */
import { environmentName, flagText, isGiven, type Flags, type GivenFlags } from './flags.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** One line for each flag, or variable, that was given in vain. */
export function flagsWithoutEffect(flags: Flags, given: GivenFlags, env: Environment): string[] {
  const leaseFile = Object.values(flags).find(({ name }) => name === 'lease-file');
  const withLeaseFile = leaseFile !== undefined && isGiven(leaseFile, given, env);
  return Object.values(flags).flatMap((flag) => {
    if (!isGiven(flag, given, env)) return [];
    const why =
      flag.ignored ??
      (withLeaseFile && flag.name.startsWith('etcd-') ? 'the store is --lease-file' : undefined);
    if (why === undefined) return [];
    const name = given.has(flag.name) ? flagText(flag.name) : environmentName(flag.name);
    return [`${name} has no effect: ${why}`];
  });
}
