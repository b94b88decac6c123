/** vtun over UDP, without encryption and compression. */
import { UDP_OVERHEAD_BYTES } from '../../../src/forward/udp/udp-settings.js';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inNamespace, Program, run } from '../../../src/testbed/programs.js';
import { ipBatch } from '../../../src/testbed/topology.js';
import type { Subject } from '../subject.js';
import { endsOf, runPrograms, untilReady, useDevice } from './ends.js';

/** Length and flags before each packet. */
const HEADER = 2;
const DEVICE = 'vtun0';
const PORT = 5_000;
const START_LIMIT_MS = 10_000;

/** One file for server and client; the password is asked for in any case. */
const CONFIGURATION = `options {
  port ${PORT};
}
bench {
  password bench;
  type tun;
  proto udp;
  compress no;
  encrypt no;
  keepalive no;
  device ${DEVICE};
}
`;

export const vtun: Subject = {
  name: 'vtun',
  what: 'vtun 3 of Debian, over UDP; does not encrypt, as flannelette',
  main: true,
  needs: { vtund: 'vtun' },
  mtu: (mtu) => mtu - UDP_OVERHEAD_BYTES - HEADER,
  setUp: async (underlay) => {
    const ends = await endsOf('vtun', underlay);
    const [server, client] = ends;
    // vtund keeps its locks there.
    await mkdir('/run/lock/vtund', { recursive: true });
    for (const end of ends) {
      await writeFile(join(end.directory, 'vtund.conf'), CONFIGURATION);
      // vtund ends when a packet comes before its device is up: it gets one that is.
      await ipBatch(end.plan.host, [
        `tuntap add dev ${DEVICE} mode tun`,
        ...useDevice(DEVICE, end, vtun.mtu(underlay.mtu)),
      ]);
    }
    const vtund = ({ plan, directory }: typeof server, ...argv: string[]): Program =>
      new Program(
        inNamespace(plan.host, ['vtund', '-n', '-f', join(directory, 'vtund.conf'), ...argv]),
      );
    return runPrograms(
      async (programs) => {
        programs.push(vtund(server, '-s', '-L', server.plan.address));
        await untilReady(programs, START_LIMIT_MS, async () => {
          const listening = ['ss', '-Hltn', `sport = :${PORT}`];
          return (await run(inNamespace(server.plan.host, listening))).stdout !== '';
        });
        programs.push(vtund(client, 'bench', server.plan.address));
        const ping = ['ping', '-c', '1', '-W', '0.2', server.plan.tunAddress];
        await untilReady(programs, START_LIMIT_MS, async () => {
          const { code } = await run(inNamespace(client.plan.host, ping), { accept: [0, 1] });
          return code === 0;
        });
      },
      async () => {
        for (const { plan } of ends) await ipBatch(plan.host, [`link delete ${DEVICE}`]);
      },
    );
  },
};
