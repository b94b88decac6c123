/** What the teaching tunnel counts, as it prints it. */
import { z } from 'zod';

export const tunnelCounters = z.object({
  /** Calls through FFI, which are system calls of the packet loop each. */
  systemCalls: z.number(),
  /** Bytes read from and written to the TUN and the socket. */
  copiedBytes: z.number(),
  encapsulated: z.number(),
  decapsulated: z.number(),
  dropped: z.number(),
});
export type TunnelCounters = z.infer<typeof tunnelCounters>;
