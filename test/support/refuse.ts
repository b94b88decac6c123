/** Daemons for whom the kernel refuses features (test/support/refuse.cc). */
import { join } from 'node:path';
import { run } from '../../src/testbed/programs.js';
import { COMMAND, ROOT } from './test-lab.js';

const NATIVE = join(ROOT, 'test', 'native');

/** Builds the launcher; needed once before any daemon is started by it. */
export async function buildRefuse(): Promise<void> {
  await run(['make', '-s', '-C', NATIVE, 'build/refuse'], { timeoutMs: 60_000 });
}

/** The command that is flannelette under rules such as `udp-gro=ENOPROTOOPT`. */
export function refusing(...rules: readonly string[]): readonly string[] {
  return [join(NATIVE, 'build', 'refuse'), ...rules, '--', ...COMMAND];
}

/** What a kernel of long ago refuses: everything there is a switch for. */
export const LEGACY_RULES: readonly string[] = [
  ...['recvmmsg=ENOSYS', 'sendmmsg=ENOSYS'],
  ...['udp-gso=ENOPROTOOPT', 'udp-gro=ENOPROTOOPT', 'tun-header=EINVAL'],
];
