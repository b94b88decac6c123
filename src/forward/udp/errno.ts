/** Names of errno numbers as Node knows them, for events that carry the bare number. */
import { getSystemErrorMap } from 'node:util';

/** `ENETDOWN (network is down)` for 100; the number itself when it has no name. */
export function errnoName(errno: number): string {
  // libuv's map holds negated numbers and lacks a few that the TUN and UDP paths can give.
  const known = getSystemErrorMap().get(-errno);
  if (known !== undefined) return `${known[0]} (${known[1]})`;
  return EXTRA.get(errno) ?? `errno ${errno}`;
}

const EXTRA = new Map([[77, 'EBADFD (file descriptor in bad state: the device was deleted)']]);
