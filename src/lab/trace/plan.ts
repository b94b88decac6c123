/** What a trace is asked for, checked before anything is built. */
import { inputError } from '../../errors.js';
import { HEADER_BYTES, type Protocol } from '../../testbed/wire/packet.js';
import { hostPlan, UNDERLAY_MTU, type HostPlan } from '../../testbed/topology.js';

export interface TraceRequest {
  /** Address of the container that sends; of host 1, or the one that `to` is not. */
  readonly from: string | undefined;
  /** Address of the container that receives; default the other one. */
  readonly to: string | undefined;
  readonly proto: Protocol;
  /** Bytes of payload behind the ICMP, TCP or UDP header. */
  readonly size: number;
}

export interface TracePlan {
  readonly from: HostPlan;
  readonly to: HostPlan;
  readonly proto: Protocol;
  readonly size: number;
}

/** Linux sends the timestamp option (RFC 7323), padded to words, in each TCP segment. */
const TCP_TIMESTAMP_BYTES = 12;

/** `overhead`: bytes that the backend takes from the MTU. Throws an input error that names the flag. */
export function planTrace({ from, to, proto, size }: TraceRequest, overhead: number): TracePlan {
  const hosts = [hostPlan(1), hostPlan(2)] as const;
  const sender = containerAt('--from', from, hosts) ?? other(containerAt('--to', to, hosts), hosts);
  const receiver = containerAt('--to', to, hosts) ?? other(sender, hosts);
  if (receiver === sender) {
    const expected = `${other(sender, hosts).containerAddress}, the container that is not --from`;
    throw inputError('--to', to, expected);
  }
  checkSize(proto, size, UNDERLAY_MTU - overhead);
  return { from: sender, to: receiver, proto, size };
}

function containerAt(
  flag: string,
  address: string | undefined,
  hosts: readonly [HostPlan, HostPlan],
): HostPlan | undefined {
  if (address === undefined) return undefined;
  const found = hosts.find(({ containerAddress }) => containerAddress === address);
  if (found !== undefined) return found;
  const [one, two] = hosts.map(
    ({ container, containerAddress }) => `${containerAddress} (${container})`,
  );
  throw inputError(flag, address, `${one} or ${two}`);
}

function other(plan: HostPlan | undefined, [one, two]: readonly [HostPlan, HostPlan]): HostPlan {
  return plan === one ? two : one;
}

function checkSize(proto: Protocol, size: number, mtu: number): void {
  const options = proto === 'tcp' ? TCP_TIMESTAMP_BYTES : 0;
  const max = mtu - HEADER_BYTES.ipv4 - HEADER_BYTES[proto] - options;
  // A segment without payload carries no data.
  const min = proto === 'tcp' ? 1 : 0;
  if (size >= min && size <= max) return;
  const headers = `IPv4 ${HEADER_BYTES.ipv4}, ${proto.toUpperCase()} ${HEADER_BYTES[proto] + options}`;
  throw inputError(
    '--size',
    size,
    `${min} to ${max} bytes for ${proto}, so that the packet fits the MTU of ${mtu} (${headers})`,
  );
}
