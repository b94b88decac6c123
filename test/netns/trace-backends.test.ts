/**
 * `flannelette trace` with every backend but that of the daemons' user space (trace.test.ts): the way, the
 * frame on the wire byte by byte, and the entries that decided, as the documents print them.
 */
import { describe, expect, it } from 'vitest';
import type { Decision } from '../../src/lab/trace/look-up.js';
import { run } from '../../src/testbed/programs.js';
import { COMMAND, machine, requireIsolation } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';

interface HopJson {
  readonly where: string;
  readonly device: string;
  readonly side: string;
  readonly fromMicroseconds: number | null;
  readonly crossing: object | null;
  readonly decisions: readonly Decision[];
  readonly packet: { readonly ipv4: { readonly ttl: number }; readonly hex: string } | null;
  readonly outer: { readonly hex: string } | null;
  readonly vxlan: {
    readonly flags: number;
    readonly vni: number;
    readonly ethernet: { readonly source: string; readonly destination: string };
    readonly hex: string;
  } | null;
  readonly frame: {
    readonly ethernet: { readonly source: string; readonly destination: string } | null;
    readonly regions: readonly { readonly name: string; readonly hex: string }[];
  } | null;
}

interface TraceJson {
  readonly ok: boolean;
  readonly mode: string | null;
  readonly mtu: number;
  readonly checks: readonly { readonly ok: boolean }[];
  readonly hops: readonly HopJson[];
}

const MAC = '[0-9a-f]{2}(?::[0-9a-f]{2}){5}';

/** A trace that passed; nothing of it stays. */
async function traced(...flags: string[]): Promise<TraceJson> {
  await requireIsolation();
  const before = await machine();
  const { stdout } = await run([...COMMAND, 'trace', '--json', ...flags], { timeoutMs: 50_000 });
  expect(await machine()).toEqual(before);
  const trace = JSON.parse(stdout) as TraceJson;
  expect(trace.checks.filter(({ ok }) => !ok)).toEqual([]);
  expect(trace.ok).toBe(true);
  return trace;
}

const places = ({ hops }: TraceJson): string[] =>
  hops.map(({ where, device }) => `${where} ${device}`);
const ttls = ({ hops }: TraceJson): number[] =>
  hops.flatMap(({ packet }) => packet?.ipv4.ttl ?? []);
const crossings = ({ hops }: TraceJson): number =>
  hops.filter(({ crossing }) => crossing !== null).length;

function hop({ hops }: TraceJson, where: string, device: string): HopJson {
  const found = hops.find((one) => one.where === where && one.device === device);
  if (found === undefined) throw new Error(`${where} ${device} is not on the way`);
  return found;
}

const decided = (trace: TraceJson, where: string, device: string): string[] =>
  hop(trace, where, device).decisions.map(({ kind, found }) => `${kind}: ${found}`);

describe.each([
  ['icmp', 1_422],
  ['udp', 1_422],
  ['tcp', 1_398],
])('vxlan, %s of %i bytes, the greatest that fits', (proto, size) => {
  it('walks the frame and names route, neighbour and forwarding entry', async () => {
    const trace = await traced('--backend=vxlan', `--proto=${proto}`, `--size=${size}`);
    expect(trace).toMatchObject({ backend: 'vxlan', device: 'flannel.1', mode: null, mtu: 1450 });
    expect(places(trace).slice(1, -1)).toEqual([
      ...['container-1 eth0', 'host-1 veth-container-', 'host-1 docker0', 'host-1 flannel.1'],
      ...['host-1 eth0', 'switch up1', 'switch up2', 'host-2 eth0', 'host-2 flannel.1'],
      ...['host-2 docker0', 'host-2 veth-container-', 'container-2 eth0'],
    ]);
    expect(ttls(trace)).toEqual([64, 64, 64, 63, 63, 63, 63, 63, 63, 62, 62, 62]);
    expect(crossings(trace)).toBe(proto === 'icmp' ? 1 : 2);

    const vtep = hop(trace, 'host-1', 'flannel.1').frame?.ethernet?.destination ?? '';
    expect(decided(trace, 'host-1', 'docker0')).toEqual([
      'route: 100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink',
      `neighbour: 100.96.2.0 lladdr ${vtep} PERMANENT`,
    ]);
    const [fdb, route, neighbour] = decided(trace, 'host-1', 'flannel.1');
    expect(fdb).toBe(`FDB: ${vtep} dst 10.168.0.3 self permanent`);
    expect(route).toBe('route: 10.168.0.0/24 dev eth0 src 10.168.0.2');
    const wire = hop(trace, 'switch', 'up1');
    expect(neighbour).toMatch(
      new RegExp(`^neighbour: 10\\.168\\.0\\.3 lladdr ${wire.frame?.ethernet?.destination} `),
    );
    expect(decided(trace, 'host-2', 'eth0')).toContain(
      "socket: the kernel's VXLAN, VNI 1: flannel.1",
    );

    expect(wire.vxlan).toMatchObject({
      flags: 8,
      vni: 1,
      ethernet: hop(trace, 'host-1', 'flannel.1').frame?.ethernet,
      hex: '0800000000000100',
    });
    // Outer IPv4 and UDP, VXLAN, inner Ethernet, and the packet as it was, without a byte more.
    const hex = wire.outer?.hex ?? '';
    expect(hex.slice(28 * 2)).toMatch(new RegExp(`^${wire.vxlan?.hex}[0-9a-f]{24}0800`));
    expect(hex.slice(50 * 2)).toBe(wire.packet?.hex);
    expect(wire.frame?.regions.map(({ name }) => name).slice(0, 6)).toEqual([
      ...['Ethernet', 'outer IPv4', 'UDP', 'VXLAN', 'inner Ether', 'inner IPv4'],
    ]);
    // The kernel stamps what it receives once.
    expect(hop(trace, 'host-2', 'flannel.1').fromMicroseconds).toBeNull();
  });
});

it.each([
  ['host-gw', [], 1500],
  ['udp', ['--direct-routing'], 1472],
  ['vxlan', ['--direct-routing', '--from=100.96.2.3'], 1450],
] as const)('%s %j goes as it is, by a host route', async (backend, flags, mtu) => {
  const trace = await traced(`--backend=${backend}`, '--proto=udp', ...flags);
  expect(trace).toMatchObject({ backend, mtu });
  const [from, to] = trace.hops[0]?.where === 'container-1' ? [1, 2] : [2, 1];
  expect(places(trace).slice(1, -1)).toEqual([
    ...[`container-${from} eth0`, `host-${from} veth-container-`, `host-${from} docker0`],
    ...[`host-${from} eth0`, `switch up${from}`, `switch up${to}`, `host-${to} eth0`],
    ...[`host-${to} docker0`, `host-${to} veth-container-`, `container-${to} eth0`],
  ]);
  expect(ttls(trace)).toEqual([64, 64, 64, 63, 63, 63, 63, 62, 62, 62]);
  expect(crossings(trace)).toBe(2);
  expect(trace.hops.every(({ outer }) => outer === null)).toBe(true);
  const address = `10.168.0.${to + 1}`;
  const [route, ...more] = decided(trace, `host-${from}`, 'docker0');
  expect(route).toBe(`route: 100.96.${to}.0/24 via ${address} dev eth0`);
  expect(more.at(-1)).toMatch(new RegExp(`^neighbour: ${address} lladdr ${MAC} `));
  const why = backend === 'host-gw' ? [] : ['way: direct: on the segment of eth0'];
  expect(more.slice(0, -1)).toEqual(why);
});

it.skipIf(!canKernel)('mode kernel passes no process between the containers', async () => {
  const trace = await traced('--mode=kernel', '--proto=udp', '--size=1444');
  expect(trace).toMatchObject({ backend: 'udp', mode: 'kernel', mtu: 1472 });
  expect(places(trace).slice(3, -2)).toEqual([
    ...['host-1 docker0', 'host-1 eBPF', 'host-1 eth0', 'switch up1', 'switch up2'],
    ...['host-2 eth0', 'host-2 eBPF', 'host-2 fx0aa80003205d', 'host-2 flannel0'],
    ...['host-2 docker0', 'host-2 veth-container-'],
  ]);
  expect(ttls(trace)).toEqual([64, 64, 64, 62, 62, 62, 62, 61, 61, 60, 60, 60]);
  expect(trace.hops.slice(1, -1).every(({ side }) => side === 'kernel')).toBe(true);
  expect(crossings(trace)).toBe(2);
  expect(decided(trace, 'host-1', 'eBPF')).toContain('lease: 100.96.2.0/24 is held by 10.168.0.3');
});

it('prints the VXLAN frame for people', async () => {
  const { stdout } = await run([...COMMAND, 'trace', '--backend=vxlan'], { timeoutMs: 50_000 });
  expect(stdout).toMatch(/^Backend vxlan, flannel\.1 MTU 1450, kernel /m);
  expect(stdout).toMatch(/VXLAN +flags \[I\] \(0x08\) {2}VNI 1 {2}\(tcpdump: OTV, overlay 0/);
  expect(stdout).toMatch(/VXLAN +002a {2}08 00 00 00 00 00 01 00/);
  expect(stdout).toMatch(/inner Ether +0032 {2}/);
  expect(stdout).toMatch(/134 with outer IPv4 and UDP, 148 with Ethernet/);
  expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
});

it.each([
  ['--backend=ipip', '--backend: "ipip" is not valid: expected udp or vxlan or host-gw'],
  ['--backend=vxlan --mode=basic', '--mode: "basic" is not valid: expected no such flag beside'],
  ['--backend=host-gw --direct-routing', '--direct-routing: "true" is not valid: expected no such'],
  ['--backend=vxlan --size=1423', '--size: 1423 is not valid: expected 0 to 1422 bytes for icmp'],
])('refuses %s', async (flags, message) => {
  const argv = [...COMMAND, 'trace', ...flags.split(' ')];
  const { stderr, stdout } = await run(argv, { accept: [2] });
  expect(stdout).toBe('');
  expect(stderr).toContain(message);
});
