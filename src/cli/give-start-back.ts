/** What the start of a daemon leaves in memory, and its work does not use. */
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { DaemonEvent } from '../network/events.js';

/** Until what follows the start, such as the firewall's rules and a supervisor's question, is over. */
const SETTLE_MS = 1_000;

/** Does so once traffic can flow for the first time. */
export async function giveStartBackOf(
  events: AsyncIterable<Pick<DaemonEvent, 'type'>>,
  log: Logger,
): Promise<void> {
  for await (const { type } of events) {
    if (type !== 'lease') continue;
    await giveStartBack(log);
    return;
  }
}

/**
 * Lets go, a second from now, of the parts of Node's file that only the start went through: half of the
 * process's resident memory.
 */
export async function giveStartBack(log: Logger): Promise<void> {
  await delay(SETTLE_MS, undefined, { ref: false });
  try {
    const { giveFilePagesBack } = await import('../daemon/process.js');
    log.debug({ bytes: giveFilePagesBack() }, 'pages of files given back');
  } catch (error) {
    log.debug({ error: messageOf(error) }, 'pages of files stay in memory');
  }
}
