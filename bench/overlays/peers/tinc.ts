/** tinc 1.0 in router mode, configured as its manual's example. */
import { UDP_OVERHEAD_BYTES } from '../../../src/forward/udp/udp-settings.js';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inNamespace, Program, run } from '../../../src/testbed/programs.js';
import { ipBatch, type HostPlan } from '../../../src/testbed/topology.js';
import type { Subject } from '../subject.js';
import { endsOf, runPrograms, untilReady, useDevice, type End } from './ends.js';

const DEVICE = 'tinc0';
const START_LIMIT_MS = 10_000;
/** tinc asks for the path's MTU about once a second, some ten times. */
const PATH_MTU_LIMIT_MS = 60_000;

/** Parts of a datagram: sequence number, Ethernet header, packet, padding to blocks; then a short MAC. */
const SEQUENCE = 4;
const ETHERNET = 14;
const CIPHER_BLOCK = 16;
const MAC = 4;
/** tinc's own limit, Ethernet header included. */
const MOST = 1_514;

/** The greatest packet whose datagram fits the underlay. */
export function tincMtu(underlayMtu: number): number {
  const blocks = Math.floor((underlayMtu - UDP_OVERHEAD_BYTES - MAC) / CIPHER_BLOCK);
  // CBC pads by one byte at least.
  return Math.min(blocks * CIPHER_BLOCK - 1 - SEQUENCE, MOST) - ETHERNET;
}

/**
 * What tincd knows to reach a node in one datagram, Ethernet header included; of the list of nodes
 * it prints when it gets SIGUSR2. Longer packets go through its TCP connection.
 */
export function parseTincMtu(log: string, node: string): number {
  const found = [...log.matchAll(new RegExp(`^ *${node} at .* \\(min (\\d+) max \\d+\\)`, 'gm'))];
  return Number(found.at(-1)?.[1] ?? 0);
}

const nameOf = (plan: HostPlan): string => `host${plan.number}`;

export const tinc: Subject = {
  name: 'tinc',
  what: "tinc 1.0 of Debian; encrypts (AES-256-CBC and SHA-256, tinc's defaults)",
  main: true,
  needs: { tincd: 'tinc' },
  mtu: tincMtu,
  setUp: async (underlay) => {
    const ends = await endsOf('tinc', underlay);
    await configure(ends);
    const mtu = tincMtu(underlay.mtu);
    return runPrograms(async (programs) => {
      for (const end of ends) {
        const { plan, directory } = end;
        const argv = ['tincd', '--config', directory, '--no-detach'];
        argv.push('--pidfile', join(directory, 'pid'));
        programs.push(new Program(inNamespace(plan.host, argv)));
        await untilReady(programs, START_LIMIT_MS, async () => {
          const show = ['ip', 'link', 'show', 'dev', DEVICE];
          return (await run(inNamespace(plan.host, show), { accept: [0, 1] })).code === 0;
        });
        await ipBatch(plan.host, useDevice(DEVICE, end, mtu));
      }
      await untilReady(programs, PATH_MTU_LIMIT_MS, async () => {
        // The nodes look for the MTU of a path that packets take.
        await run(
          inNamespace(underlay.near.host, [
            'ping',
            '-c',
            '1',
            '-W',
            '0.3',
            underlay.far.tunAddress,
          ]),
          {
            accept: [0, 1],
          },
        );
        for (const program of programs) program.kill('SIGUSR2');
        return ends.every(
          ({ other }, index) =>
            parseTincMtu(programs[index]?.stderr ?? '', nameOf(other)) >= mtu + ETHERNET,
        );
      });
    });
  },
};

/** Writes both ends' configuration and keys, once: a key takes a second to make. */
async function configure(ends: readonly End[]): Promise<void> {
  const hostFile = ({ directory }: End, plan: HostPlan): string =>
    join(directory, 'hosts', nameOf(plan));
  for (const end of ends) {
    const { plan, other, directory } = end;
    if (existsSync(join(directory, 'tinc.conf'))) return;
    await mkdir(join(directory, 'hosts'), { recursive: true });
    const lines = [`Name = ${nameOf(plan)}`, `Interface = ${DEVICE}`, 'DeviceType = tun'];
    // The one that starts last.
    if (end === ends.at(-1)) lines.push(`ConnectTo = ${nameOf(other)}`);
    await writeFile(join(directory, 'tinc.conf'), `${lines.join('\n')}\n`);
    const self = `Address = ${plan.address}\nSubnet = ${plan.subnet}\n`;
    await writeFile(hostFile(end, plan), self);
    // Appends the public key to the host's own file.
    await run(['tincd', '--config', directory, '--generate-keys=2048'], { timeoutMs: 60_000 });
  }
  for (const end of ends) {
    for (const other of ends) {
      if (other !== end) await copyFile(hostFile(other, other.plan), hostFile(end, other.plan));
    }
  }
}
