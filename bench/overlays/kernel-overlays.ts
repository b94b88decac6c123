/**
 * The kernel's own overlays in the lab, for comparison: VXLAN and host-gw, set up as flannel sets
 * them up (the documents: VNI 1, UDP 8472, flannel.1 with x.y.z.0/32, routes via x.y.z.0 onlink,
 * permanent neighbour and FDB entries, no learning).
 */
import { inNamespace, run } from '../../src/testbed/programs.js';
import { ipBatch, type HostPlan } from '../../src/testbed/topology.js';

/** VXLAN's encapsulation: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14. */
export const VXLAN_OVERHEAD = 50;

export async function addVxlan(hosts: readonly HostPlan[], underlayMtu: number): Promise<void> {
  for (const plan of hosts) {
    await ipBatch(plan.host, [
      `link add flannel.1 type vxlan id 1 dev eth0 local ${plan.address} dstport 8472 nolearning`,
      `address add ${plan.tunAddress}/32 dev flannel.1`,
      `link set flannel.1 mtu ${underlayMtu - VXLAN_OVERHEAD} up`,
    ]);
  }
  for (const plan of hosts) {
    const mac = await macOf(plan, 'flannel.1');
    for (const other of hosts) {
      if (other === plan) continue;
      await ipBatch(other.host, [
        `route add ${plan.subnet} via ${plan.tunAddress} dev flannel.1 onlink`,
        `neighbour add ${plan.tunAddress} lladdr ${mac} dev flannel.1 nud permanent`,
      ]);
      const entry = ['bridge', 'fdb', 'add', mac, 'dev', 'flannel.1', 'dst', plan.address];
      await run(inNamespace(other.host, entry));
    }
  }
}

export async function removeVxlan(hosts: readonly HostPlan[]): Promise<void> {
  for (const plan of hosts) await ipBatch(plan.host, ['link delete flannel.1']);
}

export async function addHostGw(hosts: readonly HostPlan[]): Promise<void> {
  await hostGw(hosts, 'add');
}

export async function removeHostGw(hosts: readonly HostPlan[]): Promise<void> {
  await hostGw(hosts, 'delete');
}

async function hostGw(hosts: readonly HostPlan[], change: 'add' | 'delete'): Promise<void> {
  for (const plan of hosts) {
    const peers = hosts.filter((other) => other !== plan);
    await ipBatch(
      plan.host,
      peers.map((peer) => `route ${change} ${peer.subnet} via ${peer.address} dev eth0`),
    );
  }
}

async function macOf(plan: HostPlan, device: string): Promise<string> {
  const { stdout } = await run(inNamespace(plan.host, ['ip', '-j', 'link', 'show', 'dev', device]));
  const [link] = JSON.parse(stdout) as { address: string }[];
  if (link === undefined) throw new Error(`${device} is not there`);
  return link.address;
}
