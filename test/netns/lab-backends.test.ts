/**
 * `flannelette lab` with each backend and with hosts of different modes: every check passes, and every
 * hop's packets are those that were sent, or are not known.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../src/testbed/programs.js';
import { COMMAND, machine, requireIsolation } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';

interface LabJson {
  readonly checks: readonly { readonly name: string; readonly ok: boolean }[];
  readonly udp: { readonly sentPackets: number; readonly arrivedPackets: number };
  readonly store: { readonly etcd?: { readonly entries: readonly { readonly value: string }[] } };
  readonly hops: readonly {
    readonly where: string;
    readonly device: string;
    readonly forward: number | null;
    readonly back: number | null;
  }[];
}

const LAB = [...COMMAND, 'lab', '--json', '--seconds=1'];
/** Neighbours' questions, and iperf3's own connection. */
const FEW = 100;

beforeAll(requireIsolation);

async function runLab(...flags: string[]): Promise<LabJson> {
  const before = await machine();
  const { stdout } = await run([...LAB, ...flags], { timeoutMs: 80_000, accept: [0, 1] });
  const result = JSON.parse(stdout) as LabJson;
  expect(result.checks.filter(({ ok }) => !ok)).toEqual([]);
  expect(await machine()).toEqual(before);
  return result;
}

/** Every place has what was sent, as far as it came. */
function expectAll({ hops, udp }: LabJson, unknown: readonly string[] = []): void {
  for (const { where, device, forward, back } of hops) {
    const place = `${where} ${device}: ${JSON.stringify(hops)}`;
    if (unknown.includes(`${where} ${device}`)) {
      expect([forward, back], place).toEqual([null, null]);
      continue;
    }
    expect(forward, place).toBeGreaterThanOrEqual(udp.arrivedPackets);
    expect(forward, place).toBeLessThanOrEqual(udp.sentPackets * 1.01 + FEW);
    // Forty pings are twenty answers and twenty questions that way.
    expect(back, place).toBeGreaterThanOrEqual(40);
    expect(back, place).toBeLessThanOrEqual(40 + FEW);
  }
}

const places = ({ hops }: LabJson): string[] =>
  hops.map(({ where, device }) => `${where} ${device}`);
const names = ({ checks }: LabJson): string[] => checks.map(({ name }) => name);
const between = (...devices: string[]): string[] => [
  ...['container-1 eth0', 'host-1 docker0'],
  ...devices.map((device) => `host-1 ${device}`),
  ...['host-1 eth0', 'host-2 eth0'],
  ...devices.toReversed().map((device) => `host-2 ${device}`),
  ...['host-2 docker0', 'container-2 eth0'],
];

describe('a backend', () => {
  it.each(['file', 'etcd'])('vxlan passes with store %s', async (store) => {
    const result = await runLab('--backend=vxlan', `--store=${store}`);
    expect(result).toMatchObject({
      ...{ backend: 'vxlan', directRouting: false, device: 'flannel.1', mtu: 1450 },
      ...{ mode: null, modes: null, captureOk: true, routesOk: true },
      capture: { datagrams: 48, matched: 48 },
    });
    expect(places(result)).toEqual(between('flannel.1'));
    expectAll(result);
    expect(names(result)).toContain('frames on UDP 8472 are exactly the inner packets, with VNI 1');
    expect(names(result)).toContain('it leaves: no route to it, no answer');
    if (store === 'file') return;
    const values = result.store.etcd?.entries.map(({ value }) => value) ?? [];
    expect(values[0]).toBe('{"Network":"100.96.0.0/16","Backend":{"Type":"vxlan"}}');
    expect(values[1]).toMatch(
      /^\{"PublicIP":"10\.168\.0\.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":\{"VNI":1,"VtepMAC":"[0-9a-f:]{17}"\}\}$/,
    );
  });

  it.each(['file', 'etcd'])('host-gw passes with store %s', async (store) => {
    const result = await runLab('--backend=host-gw', `--store=${store}`);
    expect(result).toMatchObject({ backend: 'host-gw', device: null, mtu: 1500, mode: null });
    expect(places(result)).toEqual(between());
    expectAll(result);
    expect(names(result)).toContain('packets between the hosts are exactly the inner packets');
  });

  it.each([
    ['vxlan', 'it leaves: no route to it, no answer'],
    ['udp', 'it leaves: Destination Net Unreachable'],
  ])('%s with DirectRouting sends plain packets', async (backend, left) => {
    const result = await runLab(`--backend=${backend}`, '--direct-routing');
    expect(result).toMatchObject({ backend, directRouting: true, captureOk: true, routesOk: true });
    expect(places(result)).toEqual(between());
    expectAll(result);
    expect(names(result)).toContain(left);
  });
});

describe('modes', () => {
  const KERNEL_HOPS = ['flannel0', 'daemon', 'eBPF'];

  it.skipIf(!canKernel)('kernel has what is not counted as not known', async () => {
    const result = await runLab('--mode=kernel');
    expect(result).toMatchObject({ mode: 'kernel', modes: ['kernel', 'kernel', 'kernel'] });
    expect(places(result)).toEqual(between(...KERNEL_HOPS));
    const counted = result.hops.filter(({ device }) => device !== 'daemon');
    expectAll({ ...result, hops: counted }, ['host-1 flannel0', 'host-2 flannel0']);
  });

  it.skipIf(!canKernel)('kernel and offload work in one lab', async () => {
    const result = await runLab('--modes=kernel,offload');
    expect(result).toMatchObject({ mode: null, modes: ['kernel', 'offload', 'kernel'] });
    const of = (host: string): string[] =>
      result.hops.filter(({ where }) => where === host).map(({ device }) => device);
    expect(of('host-1')).toEqual(['docker0', ...KERNEL_HOPS, 'eth0']);
    expect(of('host-2')).toEqual(['eth0', 'daemon', 'flannel0', 'docker0']);
    const counted = result.hops.filter(
      ({ where, device }) => where !== 'host-1' || device !== 'daemon',
    );
    expectAll({ ...result, hops: counted }, ['host-1 flannel0']);
  });

  it('of three hosts are one each', async () => {
    const result = await runLab('--modes=offload,basic,batch');
    expect(result).toMatchObject({ mode: null, modes: ['offload', 'basic', 'batch'] });
    expectAll(result);
  });
});

it.each([
  ['--backend=wireguard', '--backend: "wireguard" is not valid: expected udp or vxlan or host-gw'],
  ['--backend=vxlan --mode=auto', '--mode: "auto" is not valid: expected no such flag beside'],
  [
    '--backend=host-gw --modes=basic',
    '--modes: "basic" is not valid: expected no such flag beside',
  ],
  ['--backend=host-gw --direct-routing', '--direct-routing: "true" is not valid: expected no such'],
  ['--modes=kernel,legacy', '--modes: "legacy" is not valid: expected auto or basic or batch or'],
  ['--modes=', '--modes: "" is not valid: expected auto or basic'],
  [
    '--modes=basic,basic,basic,basic',
    '--modes: "basic,basic,basic,basic" is not valid: expected at most 3 separated by commas',
  ],
  [
    '--modes=basic --mode=batch',
    '--mode: "batch" is not valid: expected no such flag beside --modes',
  ],
  [
    '--web --modes=basic,batch',
    '--modes: "basic,batch" is not valid: expected no such flag beside',
  ],
])('refuses %s', async (flags, message) => {
  const argv = [...COMMAND, 'lab', ...flags.split(' ')];
  const { stderr, stdout } = await run(argv, { accept: [2] });
  expect(stdout).toBe('');
  expect(stderr).toContain(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
});
