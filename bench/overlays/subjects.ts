/** What is compared: each subject is an overlay between the same two hosts, set up and taken down. */
import { UDP_OVERHEAD_BYTES } from '../../src/forward/udp/udp-settings.js';
import { startDaemons } from '../../src/testbed/daemon-process.js';
import {
  addHostGw,
  addVxlan,
  removeHostGw,
  removeVxlan,
  VXLAN_OVERHEAD,
} from './kernel-overlays.js';
import { FEATURE_NAMES, type DaemonMode } from '../../src/daemon/options.js';
import { FLANNELETTE } from '../frame/machine.js';
import { flanneld } from './peers/flanneld.js';
import { js } from './peers/js.js';
import { nebula } from './peers/nebula.js';
import { tinc } from './peers/tinc.js';
import { vtun } from './peers/vtun.js';
import { wireguard } from './peers/wireguard.js';
import { MANY_ROUTES } from './routes.js';
import { daemonOverlay, type Subject } from './subject.js';

const daemon = (
  name: string,
  mode: DaemonMode,
  what: string,
  { flags = [], main = true }: { flags?: readonly string[]; main?: boolean } = {},
): Subject => ({
  name,
  what,
  main,
  mtu: (mtu) => mtu - UDP_OVERHEAD_BYTES,
  setUp: async ({ near, far }) =>
    daemonOverlay(await startDaemons([near, far], { command: FLANNELETTE, mode, flags })),
});

/** The baseline of ratios. */
export const BASELINE = 'vxlan';
/** The baseline measured a second time in each round: what differs between the two is noise. */
export const NOISE = 'vxlan-again';

const vxlan = (name: string, what: string): Subject => ({
  name,
  what,
  main: true,
  kernelOnly: true,
  mtu: (mtu) => mtu - VXLAN_OVERHEAD,
  setUp: async ({ near, far, mtu }) => {
    await addVxlan([near, far], mtu);
    return { programs: [], tearDown: () => removeVxlan([near, far]) };
  },
});

const hostGw: Subject = {
  name: 'host-gw',
  what: 'kernel routes, no encapsulation',
  main: true,
  kernelOnly: true,
  mtu: (mtu) => mtu,
  setUp: async ({ near, far }) => {
    await addHostGw([near, far]);
    return { programs: [], tearDown: () => removeHostGw([near, far]) };
  },
};

/** What `flannelette bench modes` compares: the modes and the kernel's own overlays. */
export const MODE_NAMES = [
  'js',
  'basic',
  'batch',
  'offload',
  'kernel',
  BASELINE,
  NOISE,
  'host-gw',
] as const;

/** Threads instead of the usual ones. */
const WORKERS = [
  [1, 'one packet thread for both directions'],
  [2, 'a packet thread for each direction'],
  [4, 'two queues, each with two packet threads'],
] as const;

export const SUBJECTS: readonly Subject[] = [
  js,
  daemon('basic', 'basic', 'flannelette, one read and one send per packet, as flannel'),
  daemon('batch', 'batch', 'flannelette, recvmmsg and sendmmsg'),
  daemon('offload', 'offload', 'flannelette, trains wherever the kernel can'),
  daemon('kernel', 'kernel', 'flannelette, packets stay in the kernel (eBPF)'),
  // Two threads do not use more queues, and offload not the way of mode kernel.
  ...FEATURE_NAMES.filter((feature) => !['multiqueue', 'fou', 'kernel-path'].includes(feature)).map(
    (feature) =>
      daemon(`no-${feature}`, 'offload', `offload without ${feature}`, {
        flags: [`--disable=${feature}`],
        main: false,
      }),
  ),
  daemon('no-udp-trains', 'offload', 'offload without udp-gso and udp-gro', {
    flags: ['--disable=udp-gso,udp-gro'],
  }),
  daemon('legacy', 'offload', 'offload without any optional feature', {
    flags: [`--disable=${FEATURE_NAMES.join(',')}`],
  }),
  ...WORKERS.map(([workers, what]) =>
    daemon(`workers-${workers}`, 'offload', `offload with ${what}`, {
      flags: [`--workers=${workers}`],
      main: false,
    }),
  ),
  vxlan(BASELINE, 'kernel VXLAN as flannel sets it up'),
  vxlan(NOISE, 'the same a second time: the noise floor'),
  hostGw,
  flanneld,
  wireguard,
  nebula,
  tinc,
  vtun,
  ...MANY_ROUTES,
];
