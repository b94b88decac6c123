/**
 * Packets that a hostile host or tenant makes, in every kind of data plane: what is refused reaches no
 * container, and traffic goes on after each.
 *
 *   container-1 ── host-1: 10.168.0.2, 100.96.1.0/24 ── switch ──┬─ host-2: 10.168.0.3, holds 100.96.2.0/24
 *                  services on every address                     └─ host-3: 10.168.0.4, holds none
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { probeKernel } from '../../src/dataplane/dataplane.js';
import { NETWORK_CONFIG, writeLeaseFile } from '../../src/testbed/daemon-process.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { readSnmp } from '../../src/testbed/snmp.js';
import { addHost, hostPlan, removeHost, type HostPlan } from '../../src/testbed/topology.js';
import { ping } from '../../src/testbed/traffic.js';
import {
  decodePacket,
  headerChecksum,
  withTransportChecksum,
} from '../../src/testbed/wire/packet.js';
import { ipv4Packet, udpDatagram, type PacketPlan } from '../support/packets.js';
import { counters, ROOT, sendDatagrams, TestLab, waitForDrops } from '../support/test-lab.js';

const PORT = 8285;
const UDP = 17;
const MODES = ['basic', 'offload', 'kernel'] as const;
const missing = probeKernel().find(({ name, state }) => name === 'kernel-path' && state !== 'yes');
const stranger = hostPlan(3);
const [near, far] = [hostPlan(1), hostPlan(2)];
const GOOD = { source: far.containerAddress, destination: near.containerAddress };

/** A datagram of the tunnel, as a raw packet of any outer header. */
function tunnelled(inner: Buffer, outer: Partial<PacketPlan> = {}): Buffer {
  const payload = udpDatagram(PORT, PORT, inner);
  const ends = { source: far.address, destination: near.address };
  return ipv4Packet({ ...ends, protocol: UDP, payload, ...outer });
}

/** The packet with options in its header, which are a multiple of 4 bytes. */
function withOptions(packet: Buffer, options: Buffer): Buffer {
  const changed = Buffer.concat([packet.subarray(0, 20), options, packet.subarray(20)]);
  changed.writeUInt8(0x45 + options.length / 4, 0);
  changed.writeUInt16BE(changed.length, 2);
  return checksummed(changed, 20 + options.length);
}

function checksummed(packet: Buffer, headerBytes = 20): Buffer {
  packet.writeUInt16BE(0, 10);
  packet.writeUInt16BE(headerChecksum(packet.subarray(0, headerBytes)), 10);
  return packet;
}

/** One fragment of a packet: the bytes of its payload from `from` to `to`, both multiples of 8. */
function fragment(packet: Buffer, from: number, to: number, id = 0x4242): Buffer {
  const last = to >= packet.length - 20;
  const cut = Buffer.concat([packet.subarray(0, 20), packet.subarray(20 + from, 20 + to)]);
  cut.writeUInt16BE(cut.length, 2);
  cut.writeUInt16BE(id, 4);
  cut.writeUInt16BE((last ? 0 : 0x2000) | (from / 8), 6);
  return checksummed(cut);
}

async function macOf({ host }: HostPlan): Promise<string> {
  const { stdout } = await run(inNamespace(host, ['ip', '-j', 'link', 'show', 'eth0']));
  const [link] = JSON.parse(stdout) as { address: string }[];
  return link?.address ?? 'none';
}

/** Sends packets as they are, to the MAC address of host 1 or another. */
async function sendRaw(from: HostPlan, packets: readonly Buffer[], mac?: string): Promise<void> {
  const script = join(ROOT, 'test', 'support', 'raw-packets.py');
  const argv = ['python3', script, 'eth0', mac ?? (await macOf(near))];
  const input = JSON.stringify(packets.map((packet) => packet.toString('base64')));
  await run(inNamespace(from.host, argv), { input });
}

/** Packets of ipv4Packet's protocol that container 1 has received; pings are others. */
const received = async (): Promise<number> =>
  (await readSnmp(near.container))('Ip', 'InUnknownProtos');

let lab: TestLab;

/** Nothing of what `send` sends reaches the container, and traffic goes on in both directions. */
async function reachesNobody(send: () => Promise<void>): Promise<void> {
  const before = await received();
  await send();
  await goesOn();
  expect(await received()).toBe(before);
}

async function goesOn(): Promise<void> {
  const pings = { count: 3, intervalSeconds: 0.02 };
  expect(await ping(lab.near, far.containerAddress, pings)).toMatchObject({ received: 3 });
  expect(await ping(lab.far, near.containerAddress, pings)).toMatchObject({ received: 3 });
}

/** Also what the kernel refuses itself, before the tunnel. */
async function refuses(reason: string, send: () => Promise<void>, packets = 1): Promise<void> {
  const before = (await counters(lab.nearDaemon, 'decapsulate')).drops[reason] ?? 0;
  await reachesNobody(send);
  const drops = await waitForDrops(lab.nearDaemon, 'decapsulate', reason, before + packets);
  expect(drops[reason]).toBe(before + packets);
}

describe.each(MODES.map((mode) => [mode] as const))('mode %s', (mode) => {
  describe.skipIf(mode === 'kernel' && missing !== undefined)('to a node', () => {
    beforeAll(async () => {
      lab = await TestLab.setUp({ mode });
      await addHost(stranger);
      await goesOn();
    });
    afterAll(async () => {
      await removeHost(stranger);
      await lab.tearDown();
    });

    it.each([
      ['the loopback', '127.0.0.1'],
      ['this network', '0.0.0.0'],
      ['link-local', '169.254.1.1'],
      ['multicast', '224.0.0.1'],
      ['broadcast', '255.255.255.255'],
      ['reserved', '240.0.0.1'],
      ['the receiver', near.address],
      ["the receiver's tunnel device", near.tunAddress],
      ["the receiver's bridge", near.bridgeAddress],
      ["the receiver's container", near.containerAddress],
      ['a subnet without a lease', '100.96.77.7'],
    ])('refuses an inner source that is %s', (_what, source) =>
      refuses('source_mismatch', () =>
        sendDatagrams(far, near.address, [ipv4Packet({ ...GOOD, source })]),
      ),
    );

    it.each([
      ['the loopback', '127.0.0.1'],
      ['this network', '0.0.0.0'],
      ['link-local', '169.254.1.1'],
      ['multicast', '224.0.0.1'],
      ['broadcast', '255.255.255.255'],
      ['the receiver', near.address],
      ['the sender itself', far.address],
      ['the subnet of the sender', far.containerAddress],
      ['another subnet, in transit', '100.96.3.4'],
      ['the world', '192.0.2.1'],
    ])('refuses an inner destination that is %s', (_what, destination) =>
      refuses('foreign_destination', () =>
        sendDatagrams(far, near.address, [ipv4Packet({ ...GOOD, destination })]),
      ),
    );

    it.each([
      ['a host without a lease', stranger.address, GOOD.source],
      ['a host without a lease that names itself', stranger.address, stranger.address],
      ['an address that nobody has', '10.168.0.99', GOOD.source],
      ['link-local', '169.254.1.1', GOOD.source],
      ['a container of a node', far.containerAddress, GOOD.source],
    ])('refuses an outer source that is %s', (_what, source, inner) =>
      refuses('unknown_source', async () => {
        await acceptAnySource();
        await sendRaw(stranger, [tunnelled(ipv4Packet({ ...GOOD, source: inner }), { source })]);
      }),
    );

    it.each([
      ['the receiver', near.address],
      ["the receiver's container", near.containerAddress],
      ["the receiver's tunnel device", near.tunAddress],
      ['the loopback', '127.0.0.1'],
      ['this network', '0.0.0.0'],
      ['multicast', '224.0.0.1'],
      ['broadcast', '255.255.255.255'],
    ])('takes nothing whose outer source is %s', (_what, source) =>
      reachesNobody(() =>
        sendRaw(
          stranger,
          [GOOD.source, near.containerAddress, source].map((inner) =>
            tunnelled(ipv4Packet({ ...GOOD, source: inner }), { source }),
          ),
        ),
      ),
    );

    it.each([
      ['broadcast', '255.255.255.255'],
      ['broadcast of the segment', '10.168.0.255'],
      ['multicast', '224.0.0.1'],
      ['another node', far.address],
    ])('takes nothing whose outer destination is %s', (_what, destination) =>
      reachesNobody(() => sendRaw(stranger, [tunnelled(ipv4Packet(GOOD), { destination })])),
    );

    it('takes nothing with a wrong outer checksum, and nothing of another MAC address', () =>
      reachesNobody(async () => {
        const wrong = tunnelled(ipv4Packet(GOOD));
        wrong.writeUInt16BE(wrong.readUInt16BE(10) ^ 0x0100, 10);
        await sendRaw(far, [wrong]);
        await run(inNamespace(near.host, ['ip', 'link', 'set', 'eth0', 'promisc', 'on']));
        // The switch knows no port for it, and sends it out by all.
        await sendRaw(far, [tunnelled(ipv4Packet(GOOD))], '02:00:00:00:be:ef');
        await run(inNamespace(near.host, ['ip', 'link', 'set', 'eth0', 'promisc', 'off']));
      }));

    it('takes nothing that is no IPv4 packet, down to the empty datagram', async () => {
      const whole = ipv4Packet(GOOD);
      const short = Array.from({ length: 20 }, (_, length) => whole.subarray(0, length));
      await refuses('short', () => sendDatagrams(far, near.address, short), short.length);
      await refuses('bad_version', () =>
        sendDatagrams(far, near.address, [ipv4Packet({ ...GOOD, version: 6 })]),
      );
      await refuses('bad_header', () =>
        sendDatagrams(far, near.address, [ipv4Packet({ ...GOOD, headerWords: 4 })]),
      );
      await refuses('bad_length', () =>
        sendDatagrams(far, near.address, [ipv4Packet({ ...GOOD, totalLength: 1400 })]),
      );
      await refuses('bad_checksum', () =>
        sendDatagrams(far, near.address, [ipv4Packet({ ...GOOD, checksum: 0x1234 })]),
      );
    });

    it('checks the greatest datagram like every other', async () => {
      const payload = Buffer.alloc(65_507 - 20);
      await refuses('source_mismatch', () =>
        sendDatagrams(far, near.address, [
          ipv4Packet({ source: '8.8.8.8', destination: GOOD.destination, payload }),
        ]),
      );
      await refuses('unknown_source', () =>
        sendDatagrams(stranger, near.address, [ipv4Packet({ ...GOOD, payload })]),
      );
    });

    it('checks what comes in fragments, whole or never', async () => {
      const payload = Buffer.alloc(64);
      const parts = (inner: Buffer, id: number): Buffer[] => {
        const outer = tunnelled(inner);
        return [fragment(outer, 48, outer.length, id), fragment(outer, 0, 48, id)];
      };
      const forged = ipv4Packet({ ...GOOD, source: '100.96.7.7', payload });
      await refuses('source_mismatch', () => sendRaw(far, parts(forged, 1)));
      const good = ipv4Packet({ ...GOOD, payload });
      const before = await received();
      await sendRaw(far, parts(good, 2));
      await expect.poll(received).toBe(before + 1);
      // A good head with a forged tail over it, a tail alone, a head alone.
      const [tail, head] = parts(good, 3);
      const overlap = fragment(tunnelled(forged), 24, 72, 3);
      await reachesNobody(() => sendRaw(far, [head!, overlap, ...parts(good, 4).slice(0, 1)]));
      await reachesNobody(() => sendRaw(far, [fragment(tunnelled(good), 0, 48, 5)]));
      expect(tail).toBeDefined();
    });

    it('checks what has IP options, outside and inside, and routes by none of them', async () => {
      const none = Buffer.from([1, 1, 1, 1]);
      const forged = ipv4Packet({ ...GOOD, source: '100.96.7.7' });
      await refuses('source_mismatch', () => sendRaw(far, [withOptions(tunnelled(forged), none)]));
      await refuses('source_mismatch', () =>
        sendDatagrams(far, near.address, [withOptions(forged, none)]),
      );
      // Loose source route (RFC 791) by the receiver's bridge to a container of another node.
      const hop = Buffer.from(far.containerAddress.split('.').map(Number));
      const route = Buffer.concat([Buffer.from([131, 7, 4]), hop, Buffer.alloc(1)]);
      const lured = ipv4Packet({ ...GOOD, destination: near.bridgeAddress });
      await reachesNobody(() => sendDatagrams(far, near.address, [withOptions(lured, route)]));
    });

    it('reaches no service of the node but by the addresses in its subnet', async () => {
      const answers = (address: string): Promise<boolean> => connects(far, address);
      const service = new Program(inNamespace(near.host, ['python3', '-c', SERVICE]));
      try {
        await waitFor(
          'the service',
          5_000,
          () => service.stdout.includes('listening') || undefined,
        );
        // As containers of this node reach it: flannel's own.
        expect(await answers(near.bridgeAddress)).toBe(true);
        for (const address of ['127.0.0.1', near.address]) {
          await refuses('foreign_destination', () =>
            sendDatagrams(far, near.address, [tcpSyn(address)]),
          );
        }
        expect(service.stdout.match(/accepted/g)).toHaveLength(1);
      } finally {
        await service.stop();
      }
    });

    it('is alive, with the programs in the kernel still at work', async () => {
      const status = await lab.nearDaemon.status();
      expect(status.dataPlane?.error).toBeNull();
      if (mode !== 'kernel') return;
      const feature = status.dataPlane?.features.find(({ name }) => name === 'kernel-path');
      expect(feature?.state).toBe('active');
    });
  });
});

/** The kernel's own check of sources is off, so that the tunnel's is seen. */
async function acceptAnySource(): Promise<void> {
  const names = ['all', 'eth0', 'flannel0'];
  const off = names.map((name) => `net.ipv4.conf.${name}.rp_filter=0`);
  await run(inNamespace(near.host, ['sysctl', '-qw', ...off]));
}

const SERVICE = `
import socket, sys
server = socket.create_server(("0.0.0.0", 7070))
print("listening", flush=True)
while True:
    server.accept()[0].close()
    print("accepted", flush=True)`;

async function connects(from: HostPlan, address: string): Promise<boolean> {
  const script = `import socket; socket.create_connection(("${address}", 7070), 1)`;
  const argv = inNamespace(from.container, ['python3', '-c', script]);
  return (await run(argv, { accept: [0, 1] })).code === 0;
}

/** A SYN to port 7070 of an address, from a container of host 2. */
function tcpSyn(destination: string): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(40_000, 0);
  header.writeUInt16BE(7070, 2);
  header.writeUInt8(0x50, 12);
  header.writeUInt8(0x02, 13);
  header.writeUInt16BE(65_535, 14);
  const packet = decodePacket(ipv4Packet({ ...GOOD, destination, protocol: 6, payload: header }));
  if (packet === undefined) throw new Error('not a TCP packet');
  return withTransportChecksum(packet);
}

describe.each([
  ['iptables', { ...NETWORK_CONFIG }],
  ['nftables', { ...NETWORK_CONFIG, EnableNFTables: true }],
] as const)('a tenant who encapsulates by himself, with the rules in %s', (kind, config) => {
  const inner = ipv4Packet({ source: near.containerAddress, destination: far.containerAddress });
  const tenant = { ...near, host: near.container, address: near.containerAddress };
  const node = async (...argv: string[]): Promise<string> =>
    (await run(inNamespace(near.host, argv))).stdout;
  beforeAll(async () => {
    lab = await TestLab.bare(2, { mode: 'offload', flags: ['--ip-masq'] });
    await writeLeaseFile(lab.hosts, config);
    for (const plan of lab.hosts) await lab.attachContainer(await lab.startDaemon(plan));
  });
  afterAll(() => lab.tearDown());

  const dropped = async (): Promise<number> => {
    const text =
      kind === 'nftables'
        ? await node('nft', 'list', 'chain', 'ip', 'flannel-ipv4', 'guard')
        : await node('iptables', '-t', 'mangle', '-nvxL', 'FLANNELETTE-GUARD');
    return Number(/counter packets (\d+)|^ *(\d+) .*DROP/m.exec(text)?.slice(1).join('') ?? 'none');
  };
  const atFar = async (): Promise<number> =>
    (await counters(lab.farDaemon, 'decapsulate')).receivedPackets;

  it('is dropped by his own node, which counts it', async () => {
    await goesOn();
    const [before, was] = [await dropped(), await atFar()];
    await sendDatagrams(tenant, far.address, [inner]);
    await expect.poll(dropped).toBe(before + 1);
    expect(await atFar()).toBe(was);
    await goesOn();
  });

  it('would pass the source check of the other node without that', async () => {
    const open = {
      iptables: 'iptables -t mangle -I FORWARD -j ACCEPT',
      nftables: 'nft insert rule ip flannel-ipv4 guard ip protocol udp accept',
    };
    await node(...open[kind].split(' '));
    const was = await atFar();
    await sendDatagrams(tenant, far.address, [inner]);
    await expect.poll(atFar).toBe(was + 1);
    const { drops } = await counters(lab.farDaemon, 'decapsulate');
    expect([drops['unknown_source'], drops['source_mismatch']]).toEqual([0, 0]);
  });

  it('still reaches what else listens there, and the port in the overlay', async () => {
    const before = (await readSnmp(far.container))('Udp', 'NoPorts');
    await sendDatagrams(tenant, far.containerAddress, [Buffer.from('hello')]);
    await expect
      .poll(async () => (await readSnmp(far.container))('Udp', 'NoPorts'))
      .toBe(before + 1);
  });
});
