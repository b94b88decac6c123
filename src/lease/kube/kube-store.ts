/**
 * The lease store in the Kubernetes API, with flannel's annotations: nodes with flanneld and with
 * flannelette share a cluster.
 *
 *   subnet     the node's podCIDR, which kube-controller-manager hands out
 *   lease      annotations of the Node object; no end, nothing to renew
 *   config     net-conf.json of the ConfigMap, a file
 *   announce   condition NetworkUnavailable=False, for which the scheduler waits
 *
 * A node that is gone, or whose annotations say something else than this host wrote, is a lost lease: it
 * is acquired again, from what the node says then.
 */
import { pause } from '../../abort.js';
import { containsCidr, formatCidr, parseIpv4, type Cidr } from '../../config/ipv4.js';
import type { NetworkConfig } from '../../config/network.js';
import { inputError, messageOf, systemError } from '../../errors.js';
import { readBounded } from '../../host/bounded-read.js';
import type { Logger } from '../../log.js';
import type { Problem } from '../../problems.js';
import { leaseLost, STORE_MISCONFIGURED } from '../store-errors.js';
import type { Lease, LeaseAttributes, LeaseEvent, LeaseRequest, LeaseStore } from '../store.js';
import {
  advertisedIp,
  annotationNames,
  firstDifference,
  ownAnnotations,
  type AnnotationNames,
} from './annotations.js';
import { KubeClient, type KubeTiming } from './kube-client.js';
import { checkKubeOptions, type KubeOptions } from './kube-options.js';
import { podSubnet, type KubeNode } from './node-lease.js';
import { NodeWatch } from './node-watch.js';

/** A ConfigMap has at most 1 MiB. */
const MAX_CONFIG_BYTES = 1024 * 1024;
/** Between two writes of this node's annotations. */
const WRITE_REST_MS = 1_000;

export interface KubeStoreOptions {
  readonly log: Logger;
  /** Hears what somebody has to put right; an empty list once that was done. */
  readonly report?: (problems: readonly Problem[]) => void;
  readonly timing?: Partial<KubeTiming>;
}

export class KubeStore implements LeaseStore {
  readonly kind = 'kube';
  readonly location: string;
  readonly configLocation: string;
  /** What kube-controller-manager was told (--node-cidr-mask-size) is not known here. */
  readonly anySubnetLength = true;
  readonly #options: KubeOptions;
  readonly #names: AnnotationNames;
  readonly #log: Logger;
  readonly #client: KubeClient;
  readonly #closed = new AbortController();
  #nodeName: string | undefined;
  /** What this host asked for last. */
  #requested: LeaseAttributes | undefined;
  #acquired = false;
  #wroteAt = Number.NEGATIVE_INFINITY;

  private constructor(options: KubeOptions, client: KubeClient, log: Logger) {
    this.#options = options;
    this.#client = client;
    this.#log = log;
    this.#names = annotationNames(options.annotationPrefix);
    this.#nodeName = options.nodeName;
    this.location = `${client.location}/api/v1/nodes`;
    this.configLocation = options.netConfigPath;
  }

  /** Connects to nothing. Rejects for options, kubeconfig, token or certificates of no use. */
  static async open(options: KubeOptions, parts: KubeStoreOptions): Promise<KubeStore> {
    checkKubeOptions(options);
    const { log, report, timing } = parts;
    const client = await KubeClient.open(options, { report, timing });
    return new KubeStore(options, client, log);
  }

  async readNetworkConfig(): Promise<string | undefined> {
    const path = this.#options.netConfigPath;
    try {
      return (await readBounded(path, { maxBytes: MAX_CONFIG_BYTES })).text;
    } catch (error) {
      const expected =
        'a file such as {"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}, net-conf.json of the ConfigMap kube-flannel-cfg';
      throw systemError(
        `--net-config-path: ${JSON.stringify(path)} cannot be read: expected ${expected} (${messageOf(error)})`,
        { code: STORE_MISCONFIGURED, field: '--net-config-path', value: path, cause: error },
      );
    }
  }

  /** The operator's annotation `node-public-ip`, which stands for --public-ip. */
  async readPublicIp(signal: AbortSignal): Promise<string | undefined> {
    const node = await this.#client.getNode(await this.#ownName(signal), signal);
    const text = node.annotations[this.#names.nodePublicIp] ?? '';
    if (text === '') return undefined;
    waitedFor(() => parseIpv4(`${this.#names.nodePublicIp} of node ${node.name}`, text));
    return text;
  }

  async acquireLease(request: LeaseRequest, signal: AbortSignal): Promise<Lease> {
    const { config, attributes } = request;
    this.#requested = attributes;
    const node = await this.#client.getNode(await this.#ownName(signal), signal);
    const subnet = this.#subnetIn(config, node);
    const wanted = this.#wantedAnnotations(node, attributes);
    const difference = firstDifference(wanted, node.annotations);
    if (difference !== undefined) {
      await this.#rest(signal);
      await this.#client.patchNodeStatus(node.name, { metadata: { annotations: wanted } }, signal);
      this.#log.debug({ node: node.name, difference }, 'annotations of this node written');
    }
    this.#acquired = true;
    return { subnet, attributes, expiresAt: undefined };
  }

  accepts(config: NetworkConfig, subnet: Cidr): boolean {
    return containsCidr(config.network, subnet);
  }

  /** Nothing ends by itself; only that the node still has the subnet is looked at. */
  async renewLease(lease: Lease, signal: AbortSignal): Promise<Lease> {
    const node = await this.#client.getNode(await this.#ownName(signal), signal);
    const subnet = formatCidr(podSubnet(node));
    if (subnet === formatCidr(lease.subnet)) return lease;
    throw leaseLost(lease, `node ${node.name} has podCIDR ${subnet} now`);
  }

  async *watchLeases(outer: AbortSignal): AsyncIterable<LeaseEvent> {
    const signal = AbortSignal.any([outer, this.#closed.signal]);
    const watch = new NodeWatch({
      client: this.#client,
      names: this.#names,
      ownNode: (wait) => this.#ownName(wait),
      ownAttributes: (node) => this.#ownAttributes(node),
      log: this.#log,
    });
    yield* watch.events(signal);
  }

  /** Tells the scheduler that pods of this node have a network. */
  async announce(signal: AbortSignal): Promise<void> {
    if (!this.#options.setNodeNetworkUnavailable) return;
    const now = `${new Date().toISOString().slice(0, 19)}Z`;
    const condition = {
      type: 'NetworkUnavailable',
      status: 'False',
      reason: 'FlannelIsUp',
      message: 'Flannel is running on this node',
      lastTransitionTime: now,
      lastHeartbeatTime: now,
    };
    const patch = { status: { conditions: [condition] } };
    await this.#client.patchNodeStatus(await this.#ownName(signal), patch, signal);
  }

  reconnect(): void {
    this.#client.reconnect();
  }

  close(): Promise<void> {
    this.#closed.abort();
    this.#client.close();
    return Promise.resolve();
  }

  async #ownName(signal: AbortSignal): Promise<string> {
    const { podName = '', podNamespace = '' } = this.#options;
    this.#nodeName ??= await this.#client.nodeOfPod(podNamespace, podName, signal);
    return this.#nodeName;
  }

  /** What only the cluster's administrator can put right is waited for, but for the first answer. */
  #subnetIn(config: NetworkConfig, node: KubeNode): Cidr {
    const { name } = node;
    const subnet = waitedFor(() => podSubnet(node));
    if (this.accepts(config, subnet)) return subnet;
    const expected = `a subnet of Network ${formatCidr(config.network)} (${this.configLocation}): both must be the cluster's --cluster-cidr`;
    const error = inputError(`podCIDR of node ${name}`, formatCidr(subnet), expected);
    if (!this.#acquired) throw error;
    throw systemError(error.message, { code: STORE_MISCONFIGURED, cause: error });
  }

  /** Two that write one node's annotations by turns must not do it as fast as they can. */
  async #rest(signal: AbortSignal): Promise<void> {
    const since = performance.now() - this.#wroteAt;
    if (since < WRITE_REST_MS) await pause(WRITE_REST_MS - since, signal);
    signal.throwIfAborted();
    this.#wroteAt = performance.now();
  }

  #wantedAnnotations(node: KubeNode, attributes: LeaseAttributes) {
    const { annotations, name } = node;
    const address = advertisedIp(this.#names, annotations, attributes.publicIp);
    waitedFor(() => parseIpv4(`${this.#names.publicIpOverwrite} of node ${name}`, address));
    return ownAnnotations(this.#names, annotations, attributes);
  }

  /** See NodeTableOptions. */
  #ownAttributes(node: KubeNode): LeaseAttributes | undefined {
    const requested = this.#requested;
    if (requested === undefined) return undefined;
    const wanted = ownAnnotations(this.#names, node.annotations, requested);
    const difference = firstDifference(wanted, node.annotations);
    if (difference === undefined) return requested;
    this.#log.debug({ node: node.name, difference }, 'annotations of this node are not as written');
    return undefined;
  }
}

/** What an operator wrote into the node is waited for to be put right, and ends no daemon. */
function waitedFor<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw systemError(messageOf(error), { code: STORE_MISCONFIGURED, cause: error });
  }
}
