/** nebula with the containers' subnets as unsafe routes, as its manual calls networks behind a node. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UDP_OVERHEAD_BYTES } from '../../../src/forward/udp/udp-settings.js';
import { inNamespace, Program, run } from '../../../src/testbed/programs.js';
import { cachedTool } from '../../../src/testbed/tools.js';
import type { HostPlan } from '../../../src/testbed/topology.js';
import type { Subject } from '../subject.js';
import { endsOf, runPrograms, untilReady, type End } from './ends.js';

/** Header and AES-GCM's tag. */
const OVERHEAD = UDP_OVERHEAD_BYTES + 16 + 16;
const PORT = 4_242;
const START_LIMIT_MS = 15_000;

const program = cachedTool('nebula');
const certifier = cachedTool('nebula-cert');

/** Of RFC 2544: nobody else's. */
const addressOf = ({ number }: HostPlan): string => `198.18.0.${number}`;

export const nebula: Subject = {
  name: 'nebula',
  what: `nebula ${program?.version ?? ''}; encrypts (AES-256-GCM)`,
  main: true,
  absent:
    program === undefined || certifier === undefined
      ? 'nebula is not there, which takes Go to build'
      : undefined,
  mtu: (mtu) => mtu - OVERHEAD,
  setUp: async (underlay) => {
    const ends = await endsOf('nebula', underlay);
    const [{ directory }] = ends;
    const certify = (...argv: string[]) => run([certifier?.path ?? '', ...argv]);
    const authority = { key: join(directory, 'ca.key'), certificate: join(directory, 'ca.crt') };
    const issuer = ['-ca-key', authority.key, '-ca-crt', authority.certificate];
    await certify(
      ...['ca', '-name', 'bench', '-out-key', authority.key, '-out-crt', authority.certificate],
    );
    return runPrograms(async (programs) => {
      for (const end of ends) {
        const { plan } = end;
        const key = join(end.directory, 'host.key');
        const certificate = join(end.directory, 'host.crt');
        await certify(
          ...['sign', ...issuer, '-name', plan.host, '-out-key', key, '-out-crt', certificate],
          ...['-networks', `${addressOf(plan)}/24`, '-unsafe-networks', plan.subnet],
        );
        const pki = { ca: authority.certificate, cert: certificate, key };
        const file = join(end.directory, 'config.json');
        await writeFile(file, JSON.stringify(configuration(end, pki, nebula.mtu(underlay.mtu))));
        const argv = [program?.path ?? '', '-config', file];
        programs.push(new Program(inNamespace(plan.host, argv)));
      }
      const ping = ['ping', '-c', '1', '-W', '0.2', addressOf(underlay.far)];
      await untilReady(programs, START_LIMIT_MS, async () => {
        const { code } = await run(inNamespace(underlay.near.host, ping), { accept: [0, 1, 2] });
        return code === 0;
      });
    });
  },
};

/** Of nebula's YAML, which JSON is. */
function configuration({ plan, other }: End, pki: object, mtu: number): object {
  const everyone = [{ port: 'any', proto: 'any', host: 'any', local_cidr: '0.0.0.0/0' }];
  return {
    pki,
    static_host_map: { [addressOf(other)]: [`${other.address}:${PORT}`] },
    lighthouse: { am_lighthouse: false },
    listen: { host: plan.address, port: PORT },
    tun: {
      dev: 'nebula1',
      mtu,
      unsafe_routes: [{ route: other.subnet, via: addressOf(other), mtu }],
    },
    firewall: { outbound: everyone, inbound: everyone },
  };
}
