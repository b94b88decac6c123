/**
 * The annotations of a Node that make it a lease, named and written as flanneld does (`pkg/subnet/kube`):
 *
 *   flannel.alpha.coreos.com/kube-subnet-manager: "true"
 *   flannel.alpha.coreos.com/backend-type: ""          (udp; else vxlan, host-gw, ...)
 *   flannel.alpha.coreos.com/backend-data: "null"      (vxlan: {"VNI":1,"VtepMAC":"..."})
 *   flannel.alpha.coreos.com/public-ip: 10.168.0.2
 */
import { formatIpv4, tryParseIpv4, type Ipv4 } from '../../config/ipv4.js';
import { isDeeperThan } from '../../config/json.js';
import { inputError } from '../../errors.js';
import { MAX_LEASE_BYTES, MAX_LEASE_DEPTH } from '../attributes.js';
import type { LeaseAttributes } from '../store.js';

export interface AnnotationNames {
  readonly managed: string;
  readonly backendType: string;
  readonly backendData: string;
  readonly publicIp: string;
  /** Set by an operator: the address that others are told, e.g. of a NAT. */
  readonly publicIpOverwrite: string;
  /** Set by an operator: as --public-ip, read at the start. */
  readonly nodePublicIp: string;
}

export type Annotations = Readonly<Record<string, string>>;

/** flannel's rule: a domain, one slash, and a name that ends in a dash. */
const PREFIX = /^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\/(?:[a-z0-9_-]+-)?$/;

/** Throws an input error that names the flag. */
export function annotationNames(given: string): AnnotationNames {
  const slashed = given.includes('/') ? given : `${given}/`;
  const prefix = /[/-]$/.test(slashed) ? slashed : `${slashed}-`;
  if (!PREFIX.test(prefix)) {
    throw inputError(
      '--kube-annotation-prefix',
      given,
      'a domain of lower-case letters, optionally with /NAME, e.g. flannel.alpha.coreos.com',
    );
  }
  return {
    managed: `${prefix}kube-subnet-manager`,
    backendType: `${prefix}backend-type`,
    backendData: `${prefix}backend-data`,
    publicIp: `${prefix}public-ip`,
    publicIpOverwrite: `${prefix}public-ip-overwrite`,
    nodePublicIp: `${prefix}node-public-ip`,
  };
}

/** True when some flannel keeps the node's annotations: only then is the node a lease. */
export function isManaged(names: AnnotationNames, annotations: Annotations): boolean {
  return annotations[names.managed] === 'true';
}

/** What a managed node says of itself, or why it is no lease. */
export function readAttributes(
  names: AnnotationNames,
  annotations: Annotations,
): LeaseAttributes | string {
  const publicIpText = annotations[names.publicIp];
  const publicIp = publicIpText === undefined ? undefined : tryParseIpv4(publicIpText);
  if (publicIp === undefined) {
    return inputError(names.publicIp, publicIpText, 'an IPv4 address such as 10.168.0.2').message;
  }
  const backendType = annotations[names.backendType] ?? '';
  const text = annotations[names.backendData] ?? '';
  const data = text === '' ? null : parseData(text);
  if (data === undefined) {
    const expected = 'JSON of a backend such as {"VNI":1,"VtepMAC":"..."}, or null';
    return inputError(names.backendData, text, expected).message;
  }
  return {
    publicIp,
    ...(backendType === '' ? {} : { backendType }),
    ...(data === null ? {} : { backendData: data }),
  };
}

/** Undefined for what is no JSON or has no bounds. */
function parseData(text: string): unknown {
  if (text.length > MAX_LEASE_BYTES) return undefined;
  try {
    const data: unknown = JSON.parse(text);
    return isDeeperThan(data, MAX_LEASE_DEPTH) ? undefined : data;
  } catch {
    return undefined;
  }
}

/** The address that this node's annotation must have: the operator's word wins. */
export function advertisedIp(
  names: AnnotationNames,
  annotations: Annotations,
  publicIp: Ipv4,
): string {
  const overwrite = annotations[names.publicIpOverwrite] ?? '';
  return overwrite === '' ? formatIpv4(publicIp) : overwrite;
}

/** The annotations that this node must have; to be written where one differs. */
export function ownAnnotations(
  names: AnnotationNames,
  annotations: Annotations,
  { publicIp, backendType = '', backendData = null }: LeaseAttributes,
): Annotations {
  return {
    [names.managed]: 'true',
    [names.backendType]: backendType,
    [names.backendData]: JSON.stringify(backendData),
    [names.publicIp]: advertisedIp(names, annotations, publicIp),
  };
}

/** The first annotation that is not as wanted, for people; undefined when all are. */
export function firstDifference(wanted: Annotations, found: Annotations): string | undefined {
  for (const [name, value] of Object.entries(wanted)) {
    if (found[name] === value) continue;
    return inputError(name, found[name], JSON.stringify(value)).message;
  }
  return undefined;
}
