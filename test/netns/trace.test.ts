/**
 * `flannelette trace` as a user runs it: the way of a real packet of each protocol, and what stays.
 */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Program, run, waitFor } from '../../src/testbed/programs.js';
import type { Decision } from '../../src/lab/trace/look-up.js';
import type { Crossing } from '../../src/lab/trace/step.js';
import { writePcapng } from '../../src/testbed/wire/pcapng.js';
import { readPcapng } from '../support/pcapng.js';
import { COMMAND, machine, processesWith, requireIsolation } from '../support/test-lab.js';

let directory: string;
beforeAll(async () => {
  await requireIsolation();
  directory = await mkdtemp(join(tmpdir(), 'flannelette-trace-'));
});
afterAll(() => rm(directory, { recursive: true }));

const TRACE = [...COMMAND, 'trace', '--json'];

interface HopJson {
  readonly number: number;
  readonly where: string;
  readonly device: string;
  readonly side: string;
  readonly fromMicroseconds: number | null;
  readonly toMicroseconds: number | null;
  readonly crossing: Crossing | null;
  readonly decisions: readonly Decision[];
  readonly packet: PacketJson | null;
  readonly outer: PacketJson | null;
  readonly frame: { readonly bytes: number; readonly regions: readonly { hex: string }[] } | null;
}

interface PacketJson {
  readonly ipv4: { readonly source: string; readonly ttl: number; readonly headerBytes: number };
  readonly transport: { readonly headerBytes: number };
  readonly payloadBytes: number;
  readonly hex: string;
}

interface TraceJson {
  readonly ok: boolean;
  readonly checks: readonly { readonly ok: boolean }[];
  readonly hops: readonly HopJson[];
}

const CASES = [
  ...[{ proto: 'icmp', size: 56, from: 1, mode: 'auto' }],
  ...[{ proto: 'icmp', size: 0, from: 2, mode: 'basic' }],
  ...[{ proto: 'udp', size: 1_444, from: 1, mode: 'offload' }],
  ...[{ proto: 'udp', size: 0, from: 2, mode: 'batch' }],
  ...[{ proto: 'tcp', size: 1_420, from: 1, mode: 'offload' }],
  ...[{ proto: 'tcp', size: 1, from: 2, mode: 'basic' }],
];
/** Where a transport header has its checksum. */
const CHECKSUM_AT: Readonly<Record<string, number>> = { icmp: 2, udp: 6, tcp: 16 };

describe.each(CASES)('$proto of $size bytes from container-$from, mode $mode', (given) => {
  const { proto, size, from, mode } = given;
  const to = 3 - from;
  const address = (number: number): string => `100.96.${number}.${number + 1}`;
  const file = (): string => join(directory, `${proto}-${mode}.pcapng`);
  let trace: TraceJson;
  let hops: readonly HopJson[];
  let seen: readonly (HopJson & { readonly packet: PacketJson })[];

  beforeAll(async () => {
    const before = await machine();
    const mark = `FLANNELETTE_TEST_MARK=trace-${proto}-${from}-${process.pid}`;
    const argv = [`--from=${address(from)}`, `--to=${address(to)}`, `--proto=${proto}`];
    argv.push(`--size=${size}`, `--mode=${mode}`, `--pcap=${file()}`);
    const { stdout } = await run(['env', mark, ...TRACE, ...argv], { timeoutMs: 50_000 });
    trace = JSON.parse(stdout) as TraceJson;
    hops = trace.hops;
    seen = hops.flatMap((hop) => (hop.packet === null ? [] : { ...hop, packet: hop.packet }));
    expect(await machine()).toEqual(before);
    expect(await processesWith(mark)).toEqual([]);
  });

  it('passes the devices and processes of the way, in order', () => {
    expect(trace.ok).toBe(true);
    const ends = proto === 'icmp' ? ['ping', 'ICMP'] : ['sender', 'receiver'];
    expect(hops.map(({ where, device }) => `${where} ${device}`)).toEqual([
      ...[`container-${from} ${ends[0]}`, `container-${from} eth0`, `host-${from} veth-container-`],
      ...[`host-${from} docker0`, `host-${from} flannel0`, `host-${from} daemon`],
      ...[`host-${from} eth0`, `switch up${from}`, `switch up${to}`, `host-${to} eth0`],
      ...[`host-${to} daemon`, `host-${to} flannel0`, `host-${to} docker0`],
      ...[`host-${to} veth-container-`, `container-${to} eth0`, `container-${to} ${ends[1]}`],
    ]);
    const times = hops
      .flatMap((hop) => [hop.fromMicroseconds ?? [], hop.toMicroseconds ?? []])
      .flat();
    expect(times).toHaveLength(28);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  it('loses one of the TTL to each host and daemon, and changes in nothing else', () => {
    const ttls = [64, 64, 64, 63, 62, 62, 62, 62, 61, 60, 60, 60];
    expect(seen.map(({ packet }) => packet.ipv4.ttl)).toEqual(ttls);
    const unchanged = seen.map(({ packet }) => {
      const bytes = Buffer.from(packet.hex, 'hex');
      bytes.fill(0, 8, 9).fill(0, 10, 12);
      const checksum = packet.ipv4.headerBytes + (CHECKSUM_AT[proto] ?? 0);
      // A device may complete the checksum of TCP and UDP.
      if (proto !== 'icmp') bytes.fill(0, checksum, checksum + 2);
      return bytes.toString('hex');
    });
    expect(new Set(unchanged).size).toBe(1);
    expect(seen.map(({ packet }) => packet.payloadBytes)).toEqual(seen.map(() => size));
  });

  it('is the payload of a UDP datagram between the daemons', () => {
    const wire = seen.filter(({ outer }) => outer !== null);
    expect(wire.map(({ where }) => where)).toEqual([
      `host-${from}`,
      'switch',
      'switch',
      `host-${to}`,
    ]);
    for (const { outer, packet } of wire) {
      const headers = (outer?.ipv4.headerBytes ?? 0) + (outer?.transport.headerBytes ?? 0);
      expect(headers).toBe(28);
      expect(outer?.hex.slice(headers * 2)).toBe(packet.hex);
      expect(outer).toMatchObject({
        ipv4: { source: `10.168.0.${from + 1}`, destination: `10.168.0.${to + 1}` },
        transport: { sourcePort: 8285, destinationPort: 8285 },
      });
    }
  });

  it('crosses the border where the documents say, each step decided', () => {
    const crossings = hops.flatMap(({ crossing }) => crossing ?? []);
    const numbers = proto === 'icmp' ? [1, 2, 3, 4, 5] : [1, 2, 3, 4, 5, 6];
    expect(crossings.map(({ number }) => number)).toEqual(numbers);
    const found = (number: number): unknown => hops[number - 1]?.decisions;
    expect(hops.slice(0, -1).every(({ decisions }) => decisions.length > 0)).toBe(true);
    expect(found(1)).toMatchObject([{ found: `default via 100.96.${from}.1 dev eth0` }]);
    expect(found(3)).toMatchObject([{ kind: 'bridge', found: 'docker0 itself, up to IP' }]);
    expect(found(4)).toMatchObject([{ kind: 'route', found: `100.96.0.0/16 dev flannel0` }]);
    expect(found(6)).toMatchObject([
      {
        kind: 'lease',
        key: address(to),
        found: `100.96.${to}.0/24 is held by 10.168.0.${to + 1}`,
      },
      { kind: 'route', found: `10.168.0.0/24 dev eth0 src 10.168.0.${from + 1}` },
    ]);
    expect(found(8)).toMatchObject([{ kind: 'bridge', found: `port up${to}` }]);
    expect(found(12)).toMatchObject([
      { kind: 'route', found: `100.96.${to}.0/24 dev docker0 src 100.96.${to}.1` },
    ]);
    expect(found(13)).toMatchObject([{ kind: 'bridge', found: 'port veth-container-' }]);
  });

  it('is in the capture file as every hop saw it', async () => {
    const { interfaces, packets } = readPcapng(await readFile(file()));
    expect(interfaces.map(({ name }) => name)).toEqual(
      seen.map(({ where, device }) => `${where} ${device}`),
    );
    expect(packets.map(({ at }) => at)).toEqual(seen.map((_, index) => index));
    expect(packets.map(({ frame }) => frame.toString('hex'))).toEqual(
      seen.map(({ frame }) => frame?.regions.map(({ hex }) => hex).join('')),
    );
    // libpcap reads files whose interfaces have one link type.
    const ethernet = packets.filter(({ at }) => interfaces[at]?.linkType === 1);
    const readable = join(directory, 'ethernet.pcapng');
    await writeFile(
      readable,
      writePcapng(
        'test',
        interfaces.filter(({ linkType }) => linkType === 1),
        ethernet.map((packet, at) => ({ ...packet, at })),
      ),
    );
    const argv = ['tcpdump', '-Z', 'root', '-n', '-r', readable];
    const { stdout } = await run(argv);
    expect(stdout.trim().split('\n')).toHaveLength(10);
    expect(stdout.match(/10\.168\.0\.\d\.8285 > 10\.168\.0\.\d\.8285/g)).toHaveLength(4);
  });
});

it('prints the trace for people, and nothing but it', async () => {
  const { stdout, stderr } = await run([...COMMAND, 'trace'], { timeoutMs: 50_000 });
  expect(stderr).toBe('');
  expect(stdout).toMatch(/^ 16\. {2}container-2 ICMP/m);
  expect(stdout).toContain('crossings    3 sending, 2 receiving');
  expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
});

it('writes the capture file where the user means it, also in /run', async () => {
  const path = `/run/flannelette-trace-${process.pid}.pcapng`;
  try {
    await run([...TRACE, `--pcap=${path}`], { timeoutMs: 50_000 });
    expect((await stat(path)).size).toBeGreaterThan(1_000);
  } finally {
    await rm(path, { force: true });
  }
});

it('writes the capture, and nothing else, to standard output for --pcap=-', async () => {
  const path = join(directory, 'stdout.pcapng');
  const argv = ['sh', '-c', 'path=$1; shift; exec "$@" >"$path"', 'sh', path, ...COMMAND];
  const { stderr } = await run([...argv, 'trace', '--pcap=-'], { timeoutMs: 50_000 });
  expect(stderr).toMatch(/^ 16\. {2}container-2 ICMP/m);
  const { interfaces, packets } = readPcapng(await readFile(path));
  expect(interfaces).toHaveLength(12);
  expect(packets).toHaveLength(12);

  const refused = await run([...COMMAND, 'trace', '--pcap=-', '--json'], { accept: [2] });
  expect(refused.stdout).toBe('');
  expect(refused.stderr).toBe(
    '--pcap: "-" is not valid: expected a file beside --json, which is for standard output\n',
  );
});

it('refuses a file that cannot be written before anything is built', async () => {
  for (const path of [directory, join(directory, 'missing', 'x.pcapng')]) {
    const { stderr, stdout } = await run([...TRACE, `--pcap=${path}`], { accept: [2] });
    expect(stdout).toBe('');
    expect(stderr).toBe(
      `--pcap: ${JSON.stringify(path)} is not valid: expected a file that can be written, in a directory that is there\n`,
    );
  }
});

it.each(['SIGINT', 'SIGKILL'] as const)('leaves nothing after %s', async (signal) => {
  const mark = `FLANNELETTE_TEST_MARK=trace-${signal}-${process.pid}`;
  const file = join(directory, `${signal}.pcapng`);
  const before = await machine();
  const trace = new Program(['env', mark, ...TRACE, '--proto=udp', `--pcap=${file}`]);
  try {
    await waitFor('the captures', 40_000, async () => {
      const names = (await processesWith(mark)).map(({ argv }) => argv[0]);
      return names.includes('tcpdump') ? true : undefined;
    });
    trace.kill(signal);
    expect(await trace.ended).toBe(signal === 'SIGINT' ? 1 : 137);
    await waitFor('the end of every process', 5_000, async () =>
      (await processesWith(mark)).length === 0 ? true : undefined,
    );
    expect(await machine()).toEqual(before);
    expect(await readdir(directory)).not.toContain(`${signal}.pcapng`);
  } finally {
    trace.kill('SIGKILL');
  }
});
