/** What is done to the network in turn, and how long its pings may then be without an answer. */
import { setTimeout as delay } from 'node:timers/promises';
import type { DaemonMode } from '../../src/daemon/options.js';
import { GATEWAY, ipBatch } from '../../src/testbed/topology.js';
import type { Stage } from './stage.js';

export interface Fault {
  readonly id: string;
  /** For the page. */
  readonly what: string;
  readonly expected: string;
  /** Between one answer and the next, in seconds; the machine may be busy with other work. */
  readonly silenceLimit: number;
  readonly cause: (stage: Stage) => Promise<void>;
}

/** What is not to be noticed; a busy machine alone can be as slow. */
const UNNOTICED = 1;

export const FAULTS: readonly Fault[] = [
  ...(['batch', 'basic', 'kernel'] as const).map(modeChange),
  {
    id: 'takeover',
    what: '`run --takeover` on host-2, in place of the daemon that forwards there',
    expected: 'not noticed',
    silenceLimit: UNNOTICED,
    cause: (stage) => stage.takeOver(),
  },
  {
    id: 'link down',
    what: "host-1's eth0 down for 2 s",
    expected: 'silence of 2 s, then as before',
    silenceLimit: 5,
    cause: (stage) => linkDown(stage, 2_000),
  },
  {
    id: 'restart',
    what: 'SIGTERM to the daemon of host-2, and a new one at once',
    expected: 'silence for as long as a start takes; connections live',
    silenceLimit: 5,
    cause: (stage) => stage.restart('SIGTERM'),
  },
  {
    id: 'etcd frozen',
    what: 'SIGSTOP to etcd for 10 s: it is there and says nothing',
    expected: 'not noticed',
    silenceLimit: UNNOTICED,
    cause: async ({ etcd }) => {
      etcd.freeze();
      await delay(10_000);
      etcd.thaw();
    },
  },
  {
    id: 'flannel0 deleted',
    what: 'flannel0 of host-1 deleted',
    expected: 'back within 5 s',
    silenceLimit: 6,
    cause: ({ near }) => ipBatch(near.host, ['link delete flannel0']),
  },
  {
    id: 'kill -9',
    what: 'SIGKILL to the daemon of host-2, and a new one at once',
    expected: 'silence for as long as a start takes; connections live',
    silenceLimit: 6,
    cause: (stage) => stage.restart('SIGKILL'),
  },
  {
    id: 'etcd killed',
    what: 'SIGKILL to etcd, started again on its data after 5 s',
    expected: 'not noticed',
    silenceLimit: UNNOTICED,
    cause: async ({ etcd }) => {
      await etcd.kill();
      await delay(5_000);
      await etcd.restart();
    },
  },
  {
    id: 'compacted meanwhile',
    what: "host-1's eth0 down for 8 s, while leases change and etcd forgets those changes (compaction)",
    expected: 'silence of 8 s; every lease that is there is a route afterwards, and no other',
    silenceLimit: 12,
    cause: async (stage) => {
      await linkDown(stage, 8_000, () => stage.compact());
    },
  },
  {
    id: 'leases settle',
    what: 'the leases of 200 other hosts, which come and go all the time, stand still',
    expected: 'routes of both hosts are exactly the leases',
    silenceLimit: UNNOTICED,
    cause: (stage) => stage.settleLeases(),
  },
];

function modeChange(mode: DaemonMode): Fault {
  return {
    id: `mode ${mode}`,
    what: `both daemons change to mode ${mode}, and 3 s later back to offload`,
    expected: 'not noticed',
    silenceLimit: UNNOTICED,
    cause: async (stage) => {
      await stage.changeModes(mode);
      await delay(3_000);
      await stage.changeModes('offload');
    },
  };
}

async function linkDown(
  { near }: Stage,
  ms: number,
  meanwhile: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  await ipBatch(near.host, ['link set eth0 down']);
  await delay(ms);
  await meanwhile();
  // The kernel takes routes by a gateway away with the link, and whoever configures a host puts them back.
  await ipBatch(near.host, ['link set eth0 up', `route replace default via ${GATEWAY} dev eth0`]);
}
