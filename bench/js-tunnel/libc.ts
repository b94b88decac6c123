/**
 * The C library through koffi, for the teaching mode: every call converts its arguments, crosses into
 * native code and blocks the event loop. This file alone loads koffi.
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { systemError } from '../../src/errors.js';

/** What this process is linked with already, whichever C library that is. */
const library = koffi.load(null);

function declare<Call>(definition: string): Call {
  return library.func(definition) as unknown as Call;
}

type Bytes = Buffer | Uint8Array | Int32Array;

/** Each returns what the kernel does, or -1; then errorNumber() says why. */
export const libc = {
  open: declare<(path: string, flags: number) => number>('int open(const char *path, int flags)'),
  close: declare<(fd: number) => number>('int close(int fd)'),
  ioctl: declare<(fd: number, request: number, argument: Bytes) => number>(
    'int ioctl(int fd, unsigned long request, void *argument)',
  ),
  socket: declare<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  bind: declare<(fd: number, address: Bytes, length: number) => number>(
    'int bind(int fd, const void *address, unsigned int length)',
  ),
  poll: declare<(entries: Bytes, count: number, timeoutMs: number) => number>(
    'int poll(void *entries, unsigned long count, int timeout)',
  ),
  read: declare<(fd: number, into: Bytes, size: number) => number>(
    'long read(int fd, void *into, size_t size)',
  ),
  write: declare<(fd: number, from: Bytes, size: number) => number>(
    'long write(int fd, const void *from, size_t size)',
  ),
  sendto: declare<
    (fd: number, from: Bytes, size: number, flags: number, to: Bytes, length: number) => number
  >(
    'long sendto(int fd, const void *from, size_t size, int flags, const void *to, unsigned int length)',
  ),
  recvfrom: declare<
    (fd: number, into: Bytes, size: number, flags: number, source: Bytes, length: Bytes) => number
  >('long recvfrom(int fd, void *into, size_t size, int flags, void *source, void *length)'),
} as const;

/** Why the last call failed, as a positive number. */
export function errorNumber(): number {
  return koffi.errno();
}

/** The result of a call that must not fail. */
export function must(name: string, result: number): number {
  if (result >= 0) return result;
  const code = getSystemErrorName(-errorNumber());
  throw systemError(`${name}: ${code}`, { field: name, code });
}
