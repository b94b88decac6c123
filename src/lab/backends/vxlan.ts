/** The vxlan backend in the lab: the kernel's device flannel.1, told by the daemon whom to send to. */
import { VXLAN_OVERHEAD_BYTES } from '../../forward/vxlan/vxlan-settings.js';
import { systemError } from '../../errors.js';
import { inNamespace, run } from '../../testbed/programs.js';
import type { HostPlan } from '../../testbed/topology.js';
import { VXLAN_FORMAT, VXLAN_VNI } from '../../testbed/wire/vxlan.js';
import { leaseValueOf, type Entries, type LabBackend } from './backend.js';
import { tunnelCounts, tunnelDrops } from './counts.js';

const TYPE = 'vxlan';
export const VXLAN_DEVICE = `flannel.${VXLAN_VNI}`;

export const VXLAN: LabBackend = {
  type: TYPE,
  directRouting: false,
  hasModes: false,
  device: VXLAN_DEVICE,
  overhead: VXLAN_OVERHEAD_BYTES,
  carrier: 'the tunnel',
  object: { Type: TYPE },
  leaseType: TYPE,
  leaseValue: async (plan) =>
    leaseValueOf(plan, TYPE, { VNI: VXLAN_VNI, VtepMAC: await macOf(plan) }),
  format: VXLAN_FORMAT,
  ttlTaken: 1,
  routes: (_plan, peers) =>
    peers.map(({ subnet, tunAddress }) => ({
      dst: subnet,
      gateway: tunAddress,
      dev: VXLAN_DEVICE,
      flags: ['onlink'],
    })),
  entries: readEntries,
  counts: (counts) => tunnelCounts(counts, VXLAN_DEVICE, VXLAN_OVERHEAD_BYTES),
  drops: (counts) => tunnelDrops(counts, VXLAN_DEVICE),
  afterLeave: 'silent',
};

/** MAC address of a host's VTEP. */
async function macOf({ host }: HostPlan): Promise<string> {
  const argv = ['ip', '-j', 'link', 'show', 'dev', VXLAN_DEVICE];
  const [link] = JSON.parse((await run(inNamespace(host, argv))).stdout) as { address?: string }[];
  if (link?.address === undefined) throw systemError(`${host} has no ${VXLAN_DEVICE}`);
  return link.address;
}

async function readEntries({ host }: HostPlan, peers: readonly HostPlan[]): Promise<Entries> {
  const lines = async (...argv: string[]): Promise<string[]> => {
    const { stdout } = await run(inNamespace(host, [...argv, 'show', 'dev', VXLAN_DEVICE]));
    return stdout.split('\n').flatMap((line) => line.trim().replaceAll(/\s+/g, ' ') || []);
  };
  const found = [...(await lines('ip', '-4', 'neigh')), ...(await lines('bridge', 'fdb'))];
  const macs = await Promise.all(peers.map(macOf));
  const expected = [
    ...peers.map(({ tunAddress }, at) => `${tunAddress} lladdr ${macs[at] ?? ''} PERMANENT`),
    ...peers.map(({ address }, at) => `${macs[at] ?? ''} dst ${address} self permanent`),
  ];
  return { title: `neighbours and forwarding entries of ${VXLAN_DEVICE}`, found, expected };
}
