/** Byte-exact transfers between containers. */
import { join } from 'node:path';
import { expect } from 'vitest';
import { inNamespace, Program, run, waitFor } from '../../src/lab/commands.js';
import type { HostPlan } from '../../src/lab/topology.js';
import { ROOT } from './test-lab.js';

const SCRIPT = join(ROOT, 'test', 'support', 'tcp-transfer.mjs');

/** Sends bytes through the tunnel; both ends must have seen the same. */
export async function transfer(
  from: HostPlan,
  to: HostPlan,
  port: number,
  bytes = 32 * 1024 * 1024,
): Promise<void> {
  const serve = [process.execPath, SCRIPT, 'serve', to.containerAddress, String(port)];
  const server = new Program(inNamespace(to.container, serve));
  try {
    await waitFor('the receiver', 5_000, () => server.stdout.includes('listening') || undefined);
    const send = [process.execPath, SCRIPT, 'send', to.containerAddress, String(port)];
    const { stdout } = await run(inNamespace(from.container, [...send, String(bytes)]), {
      timeoutMs: 60_000,
    });
    await server.ended;
    expect(stdout).toMatch(/^[0-9a-f]{64}\n$/);
    expect(server.stdout).toBe(`listening\n${stdout}`);
  } finally {
    await server.stop();
  }
}
