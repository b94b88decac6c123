/** Sends the one packet that is traced. */
import { fileURLToPath } from 'node:url';
import { systemError } from '../../errors.js';
import { inNamespace, Program, run, waitFor } from '../../testbed/programs.js';
import { ping } from '../../testbed/traffic.js';
import type { TracePlan } from './plan.js';

/** Where the receiver in the container listens, TCP and UDP. */
export const TRACE_PORT = 5000;

const ENDPOINT = fileURLToPath(new URL('./endpoint.js', import.meta.url));

/**
 * One ping, so that the traced packet does not wait: every neighbour's MAC address is known after.
 */
export async function warmUp({ from, to }: TracePlan, signal: AbortSignal): Promise<void> {
  const { received } = await ping(from, to.containerAddress, { count: 1, signal });
  if (received !== 1) throw systemError(`${from.container} does not reach ${to.containerAddress}`);
}

/** Sends an echo request, a UDP datagram, or a TCP segment within a connection. */
export async function sendOne(plan: TracePlan, signal: AbortSignal): Promise<void> {
  const { from, to, proto, size } = plan;
  if (proto === 'icmp') {
    await ping(from, to.containerAddress, { count: 1, size, signal });
    return;
  }
  const end = (role: string): string[] => [
    ...[process.execPath, ENDPOINT, role, proto],
    ...[to.containerAddress, String(TRACE_PORT), String(size)],
  ];
  const receiver = new Program(inNamespace(to.container, end('receive')));
  const said = (word: string): Promise<true> =>
    waitFor(`the receiver in ${to.container}`, 5_000, () => {
      signal.throwIfAborted();
      if (receiver.stdout.includes(word)) return true;
      if (!receiver.running) throw systemError(`the receiver ended: ${receiver.stderr}`);
      return undefined;
    });
  try {
    await said('listening');
    await run(inNamespace(from.container, end('send')), { signal });
    await said('received');
  } finally {
    await receiver.stop();
  }
}
