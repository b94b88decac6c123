/**
 * What a daemon may do beyond the rights of its user: which capabilities it needs, and which it has.
 *
 *   CAP_NET_ADMIN  device, addresses, routes, socket buffers, firewall, VXLAN
 *   CAP_NET_RAW    ICMP errors, each time a data plane is opened; iptables
 *   CAP_BPF        --mode=kernel alone (Linux 5.8): its programs and maps
 *   CAP_PERFMON    the same: without it the verifier of 6.1 refuses them, that of 6.18 takes them
 *
 * The programs it starts (iptables, nft, ip, flock) have the same. The packet threads give up all of them
 * by themselves (native/engine/direction.h).
 */
import { readFileSync } from 'node:fs';
import type { DaemonMode } from './options.js';

/** Numbers of linux/capability.h, lowest first: the name of capability 0 is the first. */
const NAMES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID'],
  ...['SETPCAP', 'LINUX_IMMUTABLE', 'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW'],
  ...['IPC_LOCK', 'IPC_OWNER', 'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_PACCT'],
  ...['SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD'],
  ...['LEASE', 'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP', 'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG'],
  ...['WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF', 'CHECKPOINT_RESTORE'],
] as const;

export type Capability = (typeof NAMES)[number];

export interface Privileges {
  /** Names without `CAP_`, by number; those it could take back (CapPrm) are among them. */
  readonly capabilities: readonly string[];
  /** No program it starts gains a privilege; null when the kernel does not tell (before 4.10). */
  readonly noNewPrivileges: boolean | null;
}

/** What a daemon of this mode needs once it runs, and while it sets up. */
export function neededCapabilities(mode: DaemonMode): readonly Capability[] {
  return mode === 'kernel' ? ['NET_ADMIN', 'NET_RAW', 'PERFMON', 'BPF'] : ['NET_ADMIN', 'NET_RAW'];
}

export function capabilityNumber(name: Capability): number {
  return NAMES.indexOf(name);
}

/** Of the main thread; undefined where /proc does not tell. */
export function ownPrivileges(path = '/proc/self/status'): Privileges | undefined {
  try {
    return parsePrivileges(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Reads /proc/PID/status (proc(5)); undefined when it is not one. */
export function parsePrivileges(status: string): Privileges | undefined {
  const permitted = /^CapPrm:\s+([0-9a-f]{1,16})$/m.exec(status)?.[1];
  if (permitted === undefined) return undefined;
  const set = BigInt(`0x${permitted}`);
  const numbers = Array.from({ length: 64 }, (_, number) => number);
  const noNew = /^NoNewPrivs:\s+([01])$/m.exec(status)?.[1];
  return {
    capabilities: numbers
      .filter((number) => ((set >> BigInt(number)) & 1n) === 1n)
      // One that is newer than this list.
      .map((number) => NAMES[number] ?? String(number)),
    noNewPrivileges: noNew === undefined ? null : noNew === '1',
  };
}
