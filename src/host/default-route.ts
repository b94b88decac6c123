/** The default route's interface and gateway, from the kernel's main table. */
import { readFile } from 'node:fs/promises';
import type { Ipv4 } from '../config/ipv4.js';
import { errnoOf, messageOf, systemError } from '../errors.js';

const PATH = '/proc/self/net/route';

/**
 * The interface of the default route with the lowest metric among those that `usable` takes, in the
 * network namespace of this process; undefined when there is none.
 */
export async function readDefaultInterface(
  usable: (name: string) => boolean = () => true,
  path = PATH,
): Promise<string | undefined> {
  return parseDefaultInterface(await readRoutes(path), usable);
}

/** The gateway of an interface's default route; undefined when it has none. */
export async function readDefaultGateway(name: string, path = PATH): Promise<Ipv4 | undefined> {
  const gateway = bestDefault(await readRoutes(path), (other) => other === name)?.gateway;
  return gateway === 0 ? undefined : gateway;
}

export function parseDefaultInterface(
  text: string,
  usable: (name: string) => boolean = () => true,
): string | undefined {
  return bestDefault(text, usable)?.name;
}

async function readRoutes(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = errnoOf(error);
    throw systemError(`cannot read the kernel's routes from ${path} (${messageOf(error)})`, {
      ...(code === undefined ? {} : { code }),
      cause: error,
    });
  }
}

interface DefaultRoute {
  readonly name: string;
  readonly gateway: Ipv4;
  readonly metric: number;
}

// Flags of /proc/net/route, linux/route.h.
const RTF_UP = 0x1;
const RTF_REJECT = 0x200;

/**
 * Columns: Iface Destination Gateway Flags RefCnt Use Metric Mask; numbers in hexadecimal but Metric,
 * addresses as this machine keeps the network's byte order.
 */
function bestDefault(text: string, usable: (name: string) => boolean): DefaultRoute | undefined {
  let best: DefaultRoute | undefined;
  for (const line of text.split('\n').slice(1)) {
    const [name, destination, gatewayText, flagsText, , , metricText, mask] = line
      .trim()
      .split(/\s+/);
    if (name === undefined || destination !== '00000000' || mask !== '00000000') continue;
    const flags = Number.parseInt(flagsText ?? '0', 16);
    if ((flags & RTF_UP) === 0 || (flags & RTF_REJECT) !== 0) continue;
    const metric = Number(metricText);
    if ((best !== undefined && metric >= best.metric) || !usable(name)) continue;
    best = { name, gateway: addressOf(gatewayText ?? '0'), metric };
  }
  return best;
}

function addressOf(hexadecimal: string): Ipv4 {
  const number = Uint32Array.of(Number.parseInt(hexadecimal, 16));
  return new DataView(number.buffer).getUint32(0, false);
}
