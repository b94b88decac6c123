/**
 * Capture files with several interfaces (draft-ietf-opsawg-pcapng), for Wireshark: one section, an
 * interface description for each device, an enhanced packet for each frame; little-endian,
 * nanoseconds.
 */

export interface PcapngInterface {
  /** As Wireshark shows it. */
  readonly name: string;
  readonly linkType: number;
}

export interface PcapngPacket {
  /** Index of its interface. */
  readonly at: number;
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
  readonly frame: Buffer;
  readonly direction: 'in' | 'out';
  readonly comment: string;
}

const BLOCK = { section: 0x0a0d0d0a, interface: 1, packet: 6 };
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Option codes; 0 ends the options of a block. */
const OPTION = { comment: 1, interfaceName: 2, packetFlags: 2, application: 4, timeResolution: 9 };
/** Powers of ten: 10^-9 s. */
const NANOSECONDS = 9;
/** Bits 0 and 1 of the packet's flags. */
const DIRECTION = { in: 1, out: 2 };

/** Interfaces of different link types are fine for Wireshark; libpcap reads files with one only. */
export function writePcapng(
  application: string,
  interfaces: readonly PcapngInterface[],
  packets: readonly PcapngPacket[],
): Buffer {
  return Buffer.concat([
    section(application),
    ...interfaces.map(describeInterface),
    ...packets.map(enhancedPacket),
  ]);
}

function section(application: string): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  body.writeUInt16LE(1, 4);
  body.writeUInt16LE(0, 6);
  // The section's length is not told: it ends with the file.
  body.writeBigInt64LE(-1n, 8);
  return block(BLOCK.section, body, options([OPTION.application, Buffer.from(application)]));
}

function describeInterface({ name, linkType }: PcapngInterface): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(linkType, 0);
  // Bytes 4 to 7: frames of any length.
  const told = options(
    [OPTION.interfaceName, Buffer.from(name)],
    [OPTION.timeResolution, Buffer.from([NANOSECONDS])],
  );
  return block(BLOCK.interface, body, told);
}

function enhancedPacket({ at, timeNs, frame, direction, comment }: PcapngPacket): Buffer {
  const body = Buffer.alloc(20);
  body.writeUInt32LE(at, 0);
  body.writeUInt32LE(Number(timeNs >> 32n), 4);
  body.writeUInt32LE(Number(timeNs & 0xffff_ffffn), 8);
  body.writeUInt32LE(frame.length, 12);
  body.writeUInt32LE(frame.length, 16);
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(DIRECTION[direction]);
  const told = options([OPTION.packetFlags, flags], [OPTION.comment, Buffer.from(comment)]);
  return block(BLOCK.packet, body, padded(frame), told);
}

/** Type, length, content, and the length again. */
function block(type: number, ...content: readonly Buffer[]): Buffer {
  const bytes = content.reduce((sum, part) => sum + part.length, 12);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(bytes, 4);
  return Buffer.concat([head, ...content, head.subarray(4)]);
}

function options(...list: readonly (readonly [code: number, value: Buffer])[]): Buffer {
  const parts = [...list, [0, Buffer.alloc(0)] as const].map(([code, value]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(code, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, padded(value)]);
  });
  return Buffer.concat(parts);
}

/** Everything in a block is aligned to 32 bits. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
