/** flanneld itself with its udp backend, whose place flannelette takes, on an etcd of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { UDP_OVERHEAD_BYTES } from '../../../src/forward/udp/udp-settings.js';
import { NETWORK_CONFIG } from '../../../src/testbed/daemon-process.js';
import { EtcdServer } from '../../../src/testbed/etcd-server.js';
import { FLANNELD, startFlanneld } from '../../../src/testbed/flanneld.js';
import { inNamespace, run } from '../../../src/testbed/programs.js';
import { GATEWAY } from '../../../src/testbed/topology.js';
import type { Subject } from '../subject.js';
import { runPrograms, untilReady } from './ends.js';

const ETCD_PORT = 2379;
const ROUTE_LIMIT_MS = 10_000;

export const flanneld: Subject = {
  name: 'flanneld',
  what: "flannel's own daemon, backend udp",
  main: true,
  needs: { etcd: 'etcd-server' },
  absent: FLANNELD === undefined ? 'flanneld is not there, which takes Go to build' : undefined,
  mtu: (mtu) => mtu - UDP_OVERHEAD_BYTES,
  setUp: async ({ near, far }) => {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-bench-etcd-'));
    const etcd = await EtcdServer.start({ directory, address: GATEWAY, port: ETCD_PORT });
    return runPrograms(
      async (programs) => {
        const client = new Etcd3({ hosts: etcd.endpoint });
        try {
          await client
            .put('/coreos.com/network/config')
            .value(JSON.stringify(NETWORK_CONFIG))
            .exec();
        } finally {
          client.close();
        }
        for (const plan of [near, far]) {
          const flags = [`-etcd-endpoints=${etcd.endpoint}`];
          programs.push((await startFlanneld(FLANNELD ?? '', plan, flags)).program);
        }
        // It hands routes to its loop as the watch brings them.
        const ping = ['ping', '-c', '1', '-W', '0.2', '-I', near.tunAddress, far.tunAddress];
        await untilReady(programs, ROUTE_LIMIT_MS, async () => {
          const { code } = await run(inNamespace(near.host, ping), { accept: [0, 1] });
          return code === 0;
        });
      },
      async () => {
        await etcd.stop();
        await rm(directory, { recursive: true });
      },
    );
  },
};
