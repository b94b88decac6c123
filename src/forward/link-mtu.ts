/** What the MTU of the external interface leaves for packets of the overlay. */
import { inputError } from '../errors.js';
import type { ExternalInterface } from '../host/interface.js';

/** Smallest MTU of an IPv4 link (RFC 791). */
export const MIN_MTU = 68;

/**
 * `mtu` without `overhead` bytes, for a device that sends through the interface; an input error when
 * no IPv4 link can be that small.
 */
export function mtuWithin(
  { name, mtu: found }: ExternalInterface,
  mtu: number,
  overhead: number,
): number {
  if (mtu - overhead >= MIN_MTU) return mtu - overhead;
  throw inputError(
    `MTU of ${name}`,
    found,
    `at least ${MIN_MTU + overhead} bytes: ${overhead} go to the encapsulation`,
  );
}
