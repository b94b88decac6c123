/**
 * Who asks the daemon over TCP. A port on every address is reached by every container of every node:
 * those are told whether the daemon lives and is ready, as flanneld tells, and nothing of its state.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';

/** The asking process is on this host: it came by the loopback, or from the address it asked at. */
export function isThisHost(request: IncomingMessage): boolean {
  const { remoteAddress, localAddress } = request.socket;
  if (remoteAddress === undefined) return false;
  const address = remoteAddress.replace(/^::ffff:/, '');
  return /^127\.|^::1$/.test(address) || remoteAddress === localAddress;
}

/**
 * Whether the Host header can be this host's. A page in a browser of this host could else read what
 * only this host is told: by a name of its own that it makes resolve to the loopback (DNS rebinding).
 * `name` is what the server was told to listen on.
 */
export function namesThisHost(request: IncomingMessage, name: string): boolean {
  const { host } = request.headers;
  if (host === undefined) return true;
  const asked = host.toLowerCase().replace(/:\d*$/, '');
  if (isIP(asked.replace(/^\[(.*)\]$/, '$1')) !== 0) return true;
  const own = hostname().toLowerCase();
  const names = ['localhost', own, own.split('.')[0], name.toLowerCase()];
  return names.includes(asked.replace(/\.$/, ''));
}
