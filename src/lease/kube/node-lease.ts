/** A Node object of the Kubernetes API as a lease. What the API server says is read as far as it matters here. */
import { parseCidr, type Cidr } from '../../config/ipv4.js';
import { isObject, type JsonObject } from '../../config/json.js';
import { inputError, messageOf } from '../../errors.js';
import type { LeaseAttributes } from '../store.js';
import {
  isManaged,
  readAttributes,
  type AnnotationNames,
  type Annotations,
} from './annotations.js';

/** The part of a Node that is kept. */
export interface KubeNode {
  readonly name: string;
  /** Another one when the node was deleted and created again. */
  readonly uid: string;
  /** RFC 3339, so that texts compare as times. */
  readonly created: string;
  readonly resourceVersion: string;
  readonly annotations: Annotations;
  /** spec.podCIDRs, or the one of spec.podCIDR. */
  readonly podCidrs: readonly string[];
}

export interface NodeLease {
  readonly subnet: Cidr;
  readonly attributes: LeaseAttributes;
}

/** Dual stack at most, as the API server takes it. */
const MAX_POD_CIDRS = 2;

/** Undefined for what is no Node. */
export function parseNode(value: unknown): KubeNode | undefined {
  if (!isObject(value) || !isObject(value.metadata)) return undefined;
  const { name, uid, creationTimestamp, resourceVersion, annotations } = value.metadata;
  if (typeof name !== 'string' || typeof resourceVersion !== 'string') return undefined;
  const spec = isObject(value.spec) ? value.spec : {};
  return {
    name,
    uid: typeof uid === 'string' ? uid : '',
    created: typeof creationTimestamp === 'string' ? creationTimestamp : '',
    resourceVersion,
    annotations: isObject(annotations) ? textsOf(annotations) : {},
    podCidrs: podCidrsOf(spec),
  };
}

function textsOf(object: JsonObject): Annotations {
  const entries = Object.entries(object).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return Object.fromEntries(entries);
}

function podCidrsOf({ podCIDR, podCIDRs }: JsonObject): string[] {
  const several = Array.isArray(podCIDRs)
    ? podCIDRs.filter((text) => typeof text === 'string')
    : [];
  if (several.length > 0) return several;
  return typeof podCIDR === 'string' && podCIDR !== '' ? [podCIDR] : [];
}

/** The node's IPv4 subnet; throws an input error that names the node and its field. */
export function podSubnet({ name, podCidrs }: Pick<KubeNode, 'name' | 'podCidrs'>): Cidr {
  const field = `podCIDR of node ${name}`;
  const v4 = podCidrs.filter((text) => !text.includes(':'));
  const [first] = v4;
  if (podCidrs.length > MAX_POD_CIDRS || first === undefined || v4.length > 1) {
    const found = podCidrs.length > 0 ? podCidrs : undefined;
    throw inputError(
      field,
      found,
      found === undefined
        ? 'an IPv4 subnet, which kube-controller-manager assigns with --allocate-node-cidrs and --cluster-cidr'
        : 'one IPv4 subnet, and at most one of IPv6 beside it',
    );
  }
  return parseCidr(field, first, { allowHostBits: true });
}

/** The node's lease; undefined when no flannel keeps it, a text when something about it is wrong. */
export function leaseOfNode(
  node: KubeNode,
  names: AnnotationNames,
): NodeLease | string | undefined {
  if (!isManaged(names, node.annotations)) return undefined;
  const attributes = readAttributes(names, node.annotations);
  if (typeof attributes === 'string') return attributes;
  try {
    return { subnet: podSubnet(node), attributes };
  } catch (error) {
    return messageOf(error);
  }
}
