/** How a container's packet looks between two hosts: whole, in a datagram, or in a VXLAN frame. */
import { TUNNEL_PORT } from '../daemon-process.js';
import { addressAt } from './packet.js';
import { ipv4Of } from './pcap.js';

/** A packet of a container, taken out of what it travelled in. */
export interface Opened {
  readonly packet: Buffer;
  /** Address of the host that sent it; undefined where the wire does not say. */
  readonly sender: string | undefined;
}

export interface WireFormat {
  /** What one of them is called. */
  readonly noun: string;
  /** What must hold of them, in words. */
  readonly statement: string;
  /** tcpdump's filter for them, on a host's eth0. */
  readonly filter: string;
  /** The packet inside a frame, or what is wrong with the frame. `hosts`: addresses of the two hosts. */
  open(frame: Buffer, hosts: ReadonlySet<string>): Opened | string;
}

/** Echo requests and replies, and no ICMP errors. */
export const ECHO_FILTER = 'icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply';

/** The daemons' own probes of the path MTU: ICMP between the ends of the tunnel, whose addresses end in 0. */
const PATH_PROBE = 'udp[17] == 1 and udp[23] == 0 and udp[27] == 0';

/** flannel's udp: the packet is the whole payload of a datagram from port to port. */
export const UDP_FORMAT: WireFormat = {
  noun: 'datagram',
  statement: `datagrams on UDP ${TUNNEL_PORT} are exactly the inner packets`,
  filter: `udp port ${TUNNEL_PORT} and not ( ${PATH_PROBE} )`,
  open: (frame, hosts) => {
    const datagram = openDatagram(frame, hosts);
    if (typeof datagram === 'string') return datagram;
    const { sourcePort, destinationPort, payload: packet, sender } = datagram;
    if (sourcePort !== TUNNEL_PORT || destinationPort !== TUNNEL_PORT) {
      return `UDP ports ${sourcePort} to ${destinationPort}, expected ${TUNNEL_PORT} to ${TUNNEL_PORT}`;
    }
    return { packet, sender };
  },
};

/** host-gw and DirectRouting: the packet as it is. */
export const PLAIN_FORMAT: WireFormat = {
  noun: 'packet',
  statement: 'packets between the hosts are exactly the inner packets',
  filter: ECHO_FILTER,
  open: (frame) => {
    const packet = ipv4Of(frame);
    return packet === undefined ? 'not an IPv4 frame' : { packet, sender: undefined };
  },
};

export interface Datagram {
  readonly sender: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** A whole UDP datagram from one of the hosts to the other, or what is wrong with the frame. */
export function openDatagram(frame: Buffer, hosts: ReadonlySet<string>): Datagram | string {
  const outer = ipv4Of(frame);
  if (outer === undefined) return 'not an IPv4 frame';
  const header = (outer.readUInt8(0) & 0x0f) * 4;
  if (outer.readUInt8(9) !== 17) return `outer protocol ${outer.readUInt8(9)}, expected UDP (17)`;
  if ((outer.readUInt16BE(6) & 0x3fff) !== 0) return 'the outer packet is a fragment';
  const udp = outer.subarray(header);
  if (udp.length < 8) return 'the UDP header is cut';
  const sender = addressAt(outer, 12);
  const receiver = addressAt(outer, 16);
  if (!hosts.has(sender) || !hosts.has(receiver) || sender === receiver) {
    return `outer addresses ${sender} to ${receiver}, expected one host to the other`;
  }
  const length = udp.readUInt16BE(4);
  if (length !== udp.length) return `UDP length ${length}, captured ${udp.length}`;
  return {
    sender,
    sourcePort: udp.readUInt16BE(0),
    destinationPort: udp.readUInt16BE(2),
    payload: udp.subarray(8),
  };
}
