/** Flags that are taken, so that flanneld's command lines work, and do nothing here: each is warned about. */
import {
  environmentName,
  flagText,
  isGiven,
  resolveFlags,
  type Flags,
  type GivenFlags,
} from './flags.js';

type Environment = Readonly<Record<string, string | undefined>>;

const KUBE = 'kube-subnet-mgr';
const OF_KUBE = [
  'kube-api-url',
  'kube-annotation-prefix',
  'kubeconfig-file',
  'net-config-path',
  'set-node-network-unavailable',
];
const OF_ETCD = (name: string): boolean => name.startsWith('etcd-');

/** One line for each flag, or variable, that was given in vain. */
export function flagsWithoutEffect(flags: Flags, given: GivenFlags, env: Environment): string[] {
  const leaseFile = Object.values(flags).find(({ name }) => name === 'lease-file');
  const withLeaseFile = leaseFile !== undefined && isGiven(leaseFile, given, env);
  const kube = Object.values(flags).find(({ name }) => name === KUBE);
  const withKube = kube !== undefined && resolveFlags({ kube }, given, env).kube === true;
  const otherStore = withLeaseFile ? '--lease-file' : withKube ? `--${KUBE}` : undefined;
  return Object.values(flags).flatMap((flag) => {
    if (!isGiven(flag, given, env)) return [];
    const why =
      flag.ignored ??
      (OF_ETCD(flag.name) && otherStore !== undefined
        ? `the store is ${otherStore}`
        : OF_KUBE.includes(flag.name) && !withKube
          ? `the store is not --${KUBE}`
          : undefined);
    if (why === undefined) return [];
    const name = given.has(flag.name) ? flagText(flag.name) : environmentName(flag.name);
    return [`${name} has no effect: ${why}`];
  });
}
