/** The lab's hosts as nodes of a cluster: what a daemon is given to find its API server on the switch. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LAB_DIRECTORY, type HostPlan } from '../../src/testbed/topology.js';
import { EtcdDaemon, subnetFileOf } from './etcd-lab.js';
import { ADMIN_TOKEN, type ApiServer } from './kube-cluster.js';
import type { Pki } from './pki.js';

export const NET_CONF = join(LAB_DIRECTORY, 'net-conf.json');
/** Of the cluster's administrator. */
export const TOKEN = join(LAB_DIRECTORY, 'token');
const KUBECONFIG = join(LAB_DIRECTORY, 'kubeconfig');

/** Flags that flanneld has as well. */
export const KUBE_FLAGS: readonly string[] = [
  '--kube-subnet-mgr',
  `--kubeconfig-file=${KUBECONFIG}`,
  `--net-config-path=${NET_CONF}`,
];

/** Writes the kubeconfig, its token and net-conf.json. */
export async function writeClusterFiles(
  server: ApiServer,
  pki: Pki,
  config: string,
  authority = 'ca',
): Promise<void> {
  await mkdir(LAB_DIRECTORY, { recursive: true });
  await writeFile(NET_CONF, config);
  await writeFile(TOKEN, ADMIN_TOKEN);
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'lab',
    contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'flannel' } }],
    clusters: [
      {
        name: 'lab',
        cluster: { server: server.url, 'certificate-authority': pki.file(`${authority}.pem`) },
      },
    ],
    users: [{ name: 'flannel', user: { tokenFile: 'token' } }],
  };
  await writeFile(KUBECONFIG, JSON.stringify(kubeconfig));
}

/** `flannelette run` on a host, whose name is its node's. */
export async function startOnNode(
  plan: HostPlan,
  flags: readonly string[] = [],
): Promise<EtcdDaemon> {
  const subnetFile = subnetFileOf(plan);
  await mkdir(join(LAB_DIRECTORY, plan.host), { recursive: true });
  const own = ['--iface=eth0', '--iptables-forward-rules=false', `--subnet-file=${subnetFile}`];
  return new EtcdDaemon(plan, subnetFile, {
    onlyFlags: [...KUBE_FLAGS, ...own, ...flags],
    env: { NODE_NAME: plan.host },
  });
}
