/**
 * The teaching mode: flannel's loop (backend/udp/proxy_amd64.c) written down in JavaScript, one packet
 * after the other, each with one read and one send through FFI.
 *
 *   TUN --read--> [check, route, TTL-1] --sendto--> UDP 8285
 *   TUN <--write-- [check, source, TTL-1] <--recvfrom-- UDP 8285
 *
 * The wire is that of the other modes. It answers no packet with an ICMP error: what it cannot pass on
 * is dropped and counted.
 */
import { constants as files } from 'node:fs';
import { constants as os } from 'node:os';
import { contains, type Cidr, type Ipv4 } from '../../src/config/ipv4.js';
import type { RouteTable } from '../../src/network/route-table.js';
import { errorNumber, libc, must } from './libc.js';
import { decrementTtl, destinationOf, packetLength, sourceOf } from './packet.js';
import type { TunnelCounters } from './counters.js';

/** linux/if_tun.h, linux/if.h. */
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFNAMSIZ = 16;
/** sizeof(struct ifreq) with 64-bit pointers. */
const IFREQ_BYTES = 40;

/** bits/socket.h, bits/poll.h. */
const AF_INET = 2;
const SOCK_DGRAM = 2;
const POLLIN = 1;
const SOCKADDR_BYTES = 16;

const MAX_PACKET = 65_535;

/** A read that brings nothing: no packet, a signal, what ICMP said of an earlier datagram, no link. */
const { EAGAIN, EINTR, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EIO } = os.errno;
const PASSING: ReadonlySet<number> = new Set([
  EAGAIN,
  EINTR,
  ECONNREFUSED,
  EHOSTUNREACH,
  ENETUNREACH,
  EIO,
]);

/** After this long the event loop has its turn: signals, timers. */
const TURN_MS = 50;

export interface TunnelOptions {
  readonly routes: RouteTable;
  /** This host's own subnet: the only inner destinations it accepts. */
  readonly own: Cidr;
  /** Local address and port of the UDP socket. */
  readonly address: Ipv4;
  readonly port: number;
}

/** All since the start. */

export class JsTunnel {
  /** Name the kernel gave the TUN. */
  readonly device: string;
  readonly counters: TunnelCounters = {
    systemCalls: 0,
    copiedBytes: 0,
    encapsulated: 0,
    decapsulated: 0,
    dropped: 0,
  };
  readonly #options: TunnelOptions;
  /** Hosts that hold a lease. */
  readonly #holders: ReadonlySet<Ipv4>;
  readonly #tun: number;
  readonly #udp: number;
  readonly #packet = Buffer.alloc(MAX_PACKET);
  readonly #to: Buffer;
  readonly #from = Buffer.alloc(SOCKADDR_BYTES);
  readonly #fromLength = Int32Array.of(SOCKADDR_BYTES);
  /** struct pollfd twice: the descriptor, then events and revents. */
  readonly #polled: Buffer;

  /** Throws a system error that names the call the kernel refused. */
  constructor(options: TunnelOptions) {
    this.#options = options;
    const { port, address, routes } = options;
    this.#holders = new Set(routes.routes().map(({ nextHop }) => nextHop));
    this.#to = socketAddress(port, 0);
    this.#tun = must(
      'open /dev/net/tun',
      libc.open('/dev/net/tun', files.O_RDWR | files.O_NONBLOCK),
    );
    try {
      this.device = attachTun(this.#tun);
      const type = SOCK_DGRAM | files.O_NONBLOCK;
      this.#udp = must('socket', libc.socket(AF_INET, type, 0));
      try {
        must('bind', libc.bind(this.#udp, socketAddress(port, address), SOCKADDR_BYTES));
      } catch (error) {
        libc.close(this.#udp);
        throw error;
      }
    } catch (error) {
      libc.close(this.#tun);
      throw error;
    }
    const events = Int16Array.of(POLLIN, 0);
    const [tun, udp] = [Int32Array.of(this.#tun), Int32Array.of(this.#udp)];
    this.#polled = Buffer.concat([tun, events, udp, events].map(bytesOf));
  }

  /** Carries packets until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#carry(performance.now() + TURN_MS);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The kernel removes the device with its descriptor. */
  close(): void {
    libc.close(this.#udp);
    libc.close(this.#tun);
  }

  #carry(until: number): void {
    while (performance.now() < until) {
      this.counters.systemCalls += 1;
      // A signal ends the wait (EINTR), a turn without packets as well.
      if (libc.poll(this.#polled, 2, TURN_MS) <= 0) return;
      // As in flannel: while one of the two has packets, an EAGAIN of the other is cheaper than a poll.
      for (let active = true; active && performance.now() < until;) {
        const encapsulated = this.#encapsulate();
        active = this.#decapsulate() || encapsulated;
      }
    }
  }

  /** Takes one packet from the TUN to its host; false when there is none. */
  #encapsulate(): boolean {
    const packet = this.#packet;
    const received = this.#count(libc.read(this.#tun, packet, MAX_PACKET));
    if (received < 0) return this.#nothing('read');
    const length = packetLength(packet, received);
    const route = length === 0 ? undefined : this.#options.routes.lookup(destinationOf(packet));
    if (route === undefined || !decrementTtl(packet)) return this.#drop();
    this.#to.writeUInt32BE(route.nextHop, 4);
    const sent = libc.sendto(this.#udp, packet, length, 0, this.#to, SOCKADDR_BYTES);
    if (this.#count(sent) < 0) return this.#drop();
    this.counters.encapsulated += 1;
    return true;
  }

  /** Takes one packet from the socket to the TUN; false when there is none. */
  #decapsulate(): boolean {
    const packet = this.#packet;
    const received = this.#count(
      libc.recvfrom(this.#udp, packet, MAX_PACKET, 0, this.#from, this.#fromLength),
    );
    if (received < 0) return this.#nothing('recvfrom');
    const length = packetLength(packet, received);
    if (length === 0 || !this.#trusted() || !decrementTtl(packet)) return this.#drop();
    if (this.#count(libc.write(this.#tun, packet, length)) < 0) return this.#drop();
    this.counters.decapsulated += 1;
    return true;
  }

  /**
   * The sender holds the lease of the packet's source, or is itself the source and holds one, and the
   * destination is ours.
   */
  #trusted(): boolean {
    const { routes, own } = this.#options;
    const [source, sender] = [sourceOf(this.#packet), this.#from.readUInt32BE(4)];
    const holder =
      routes.lookup(source)?.nextHop ?? (this.#holders.has(source) ? source : undefined);
    return holder === sender && contains(own, destinationOf(this.#packet));
  }

  #count(result: number): number {
    this.counters.systemCalls += 1;
    if (result > 0) this.counters.copiedBytes += result;
    return result;
  }

  #drop(): boolean {
    this.counters.dropped += 1;
    return true;
  }

  #nothing(name: string): boolean {
    if (!PASSING.has(errorNumber())) must(name, -1);
    return false;
  }
}

/** Makes the descriptor a TUN device without header in front of the packets; returns its name. */
function attachTun(fd: number): string {
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write('flannel%d');
  bytesOf(Int16Array.of(IFF_TUN | IFF_NO_PI)).copy(request, IFNAMSIZ);
  must('ioctl TUNSETIFF', libc.ioctl(fd, TUNSETIFF, request));
  return request.toString('utf8', 0, request.indexOf(0));
}

/** struct sockaddr_in: the family as the machine writes numbers, the rest as the network does. */
function socketAddress(port: number, address: Ipv4): Buffer {
  const bytes = Buffer.alloc(SOCKADDR_BYTES);
  bytesOf(Int16Array.of(AF_INET)).copy(bytes);
  bytes.writeUInt16BE(port, 2);
  bytes.writeUInt32BE(address, 4);
  return bytes;
}

function bytesOf(numbers: Int16Array | Int32Array): Buffer {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}
