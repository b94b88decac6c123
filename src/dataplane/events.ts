/**
 * Fixed-size records the native threads write to the event pipe (native/engine/events.h).
 * In the machine's byte order: u32 type, u32 detail, u32 address, u32 repeated.
 */
import { endianness } from 'node:os';
import { FEATURE_NAMES, type NativeFeatureName } from './native.js';

export const EVENT_BYTES = 16;

export type DataPlaneEvent =
  /** No route for an inner destination; `repeated` more were not reported (rate limit). */
  | { readonly type: 'miss'; readonly destination: number; readonly repeated: number }
  /** A datagram was refused by the source check; `source` is the outer source. */
  | {
      readonly type: 'datagram-refused';
      readonly source: number;
      readonly holdsLease: boolean;
      readonly repeated: number;
    }
  /** A thread ended: the TUN is gone or the kernel refused for good. The engine must be replaced. */
  | { readonly type: 'fault'; readonly errno: number; readonly operation: 'tun' | 'udp' }
  /** The kernel refused an optional feature; forwarding goes on without. */
  | {
      readonly type: 'feature-refused';
      readonly feature: NativeFeatureName;
      readonly errno: number;
    }
  /** The longest inner packet that reaches `host` whole; undefined: as long as the device takes. */
  | { readonly type: 'path-mtu'; readonly host: number; readonly bytes: number | undefined };

const TYPE_MISS = 1;
const TYPE_DATAGRAM_REFUSED = 2;
const TYPE_FAULT = 3;
const TYPE_FEATURE_REFUSED = 4;
const TYPE_PATH_MTU = 5;
const OPERATION_TUN = 1;

const LITTLE_ENDIAN = endianness() === 'LE';

/** Decodes one record; undefined for a type this version does not know. */
export function decodeEvent(record: Buffer): DataPlaneEvent | undefined {
  const u32 = (at: number) => (LITTLE_ENDIAN ? record.readUInt32LE(at) : record.readUInt32BE(at));
  const detail = u32(4);
  const address = u32(8);
  const repeated = u32(12);
  switch (u32(0)) {
    case TYPE_MISS:
      return { type: 'miss', destination: address, repeated };
    case TYPE_DATAGRAM_REFUSED:
      return { type: 'datagram-refused', source: address, holdsLease: detail === 1, repeated };
    case TYPE_FAULT:
      return { type: 'fault', errno: detail, operation: address === OPERATION_TUN ? 'tun' : 'udp' };
    case TYPE_FEATURE_REFUSED: {
      const feature = FEATURE_NAMES[address];
      return feature === undefined
        ? undefined
        : { type: 'feature-refused', feature, errno: detail };
    }
    case TYPE_PATH_MTU:
      return { type: 'path-mtu', host: address, bytes: detail === 0 ? undefined : detail };
    default:
      return undefined;
  }
}
