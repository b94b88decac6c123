/** Which binary of the addon is for which machine. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { describeBinary, runningLibc } from '../../../src/dataplane/binary.js';

/** The head of an ELF file: class 64, the byte order, the machine; then the name of its C library. */
function elf(machine: number, order: 'LE' | 'BE', libc: string): Buffer {
  const head = Buffer.alloc(64);
  head.writeUInt32BE(0x7f454c46, 0);
  head[4] = 2;
  head[5] = order === 'LE' ? 1 : 2;
  if (order === 'LE') head.writeUInt16LE(machine, 18);
  else head.writeUInt16BE(machine, 18);
  return Buffer.concat([head, Buffer.from(`\0${libc}\0`)]);
}

describe('describeBinary', () => {
  it.each([
    ['x64', 62, 'LE', 'glibc', 'libc.so.6'],
    ['arm64', 183, 'LE', 'musl', 'libc.so'],
    ['riscv64', 243, 'LE', 'glibc', 'libc.so.6'],
    ['s390x', 22, 'BE', 'musl', 'libc.musl-s390x.so.1'],
    ['ELF machine 8', 8, 'BE', 'glibc', 'libc.so.6'],
  ] as const)('%s, machine %i %s, %s', (arch, machine, order, libc, name) => {
    expect(describeBinary(elf(machine, order, name))).toEqual({ arch, libc });
  });

  it('knows the binary of the Node that runs', () => {
    expect(describeBinary(readFileSync(process.execPath))).toEqual({
      arch: process.arch,
      libc: runningLibc(),
    });
  });

  it.each([
    ['an empty file', ''],
    ['a short one', '\x7fELF'],
    ['a PE file', `MZ${'\0'.repeat(100)}`],
  ])('%s is none', (_, text) => {
    expect(describeBinary(Buffer.from(text, 'latin1'))).toBeUndefined();
  });
});

describe('runningLibc', () => {
  it.each([
    ['glibc', '7f00-7f01 r-xp 0 fe:00 1 /usr/lib/x86_64-linux-gnu/libc.so.6\n'],
    ['musl', '7f00-7f01 r-xp 0 fe:00 1 /lib/ld-musl-x86_64.so.1\n'],
    ['musl', '7f00-7f01 r-xp 0 fe:00 1 /usr/lib/libc.musl-aarch64.so.1\n'],
    ['musl', '7f00-7f01 r-xp 0 fe:00 1 /lib/x86_64-linux-musl/libc.so\n'],
    ['glibc', '7f00-7f01 r-xp 0 fe:00 1 /lib/x86_64-linux-gnu/libc-2.28.so\n'],
    ['glibc', ''],
  ])('%s by %j', (libc, maps) => {
    expect(runningLibc(maps)).toBe(libc);
  });
});
