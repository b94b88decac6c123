/**
 * Bounds of what a data plane takes. The addon has the same and exports them (a test compares), so that
 * an option is checked and explained before the addon is loaded.
 */
export const LIMITS = {
  /** 16 queue pairs with a thread for each direction (native/engine/direction.h). */
  workersMax: 32,
  /** More would only cost sockets: a network card has no more queues. */
  sourcePortsMax: 64,
  /** The kernel counts twice what is asked for, in an int. */
  socketBufferBytesMax: 1 << 30,
  /** 64 KiB each at worst: 4 GiB. */
  tunQueuePacketsMax: 65_536,
  /** A packet of 64 KiB cut into the smallest segments fits (native/engine/direction.h). */
  ringBytesMin: 512 * 1024,
  ringBytesMax: 64 * 1024 * 1024,
  /** A day. */
  pathMtuSecondsMax: 86_400,
} as const;
