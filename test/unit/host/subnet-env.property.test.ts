/** Properties of subnet.env: what a daemon writes is read again, and nothing that others write harms. */
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { firstHost } from '../../../src/config/ipv4.js';
import { parseAssignments } from '../../../src/host/assignments.js';
import { formatSubnetEnv, parseSubnetEnv } from '../../../src/host/subnet-env.js';
import { cidr } from '../../support/arbitraries.js';

const env = fc.record({
  network: cidr(1, 28),
  subnet: cidr(1, 30),
  mtu: fc.integer({ min: 68, max: 65_507 }),
  ipMasq: fc.boolean(),
});
const NAMES = ['FLANNEL_NETWORK', 'FLANNEL_SUBNET', 'FLANNEL_MTU', 'FLANNEL_IPMASQ'];

describe('subnet.env', () => {
  it('is read as it was written, with what people add around it', () => {
    const noise = fc.array(fc.constantFrom('', '# a comment', 'OTHER="x y"', 'export A=1', '??'));
    fc.assert(
      fc.property(env, noise, fc.constantFrom('\n', '\r\n'), (given, lines, end) => {
        const text = [...lines, formatSubnetEnv(given), ...lines].join('\n').replaceAll('\n', end);
        expect(parseSubnetEnv(text)).toEqual({
          ...given,
          // Written as the address of the bridge.
          subnet: { ...given.subnet, network: expect.any(Number) as number },
        });
        const network = parseSubnetEnv(text)?.subnet?.network ?? 0;
        expect([given.subnet.network, firstHost(given.subnet)]).toContain(network);
      }),
    );
  });

  it('of any text gives nothing, or values that make sense', () => {
    const value = fc.oneof(fc.string(), fc.constantFrom('', '10.0.0.1/24', '1/2', '0', 'true'));
    const line = fc.tuple(fc.constantFrom(...NAMES, 'export FLANNEL_MTU'), value);
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(line.map(([name, text]) => `${name}=${text}`)).map((lines) => lines.join('\n')),
    );
    fc.assert(
      fc.property(text, (given) => {
        const found = parseSubnetEnv(given);
        if (found === undefined) return;
        expect(Object.keys(found).length).toBeGreaterThan(0);
        if (found.mtu !== undefined) expect(found.mtu).toBeLessThan(1_000_000);
        for (const subnet of [found.network, found.subnet]) {
          if (subnet === undefined) continue;
          expect(subnet.network).toBe(subnet.network >>> 0);
          expect(subnet.prefix).toBeLessThanOrEqual(32);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  it('says to a shell what it says to us', () => {
    fc.assert(
      fc.property(env, (given) => {
        const text = formatSubnetEnv(given);
        const script = `${text}\nprintf '%s\\n' "$FLANNEL_NETWORK" "$FLANNEL_SUBNET" "$FLANNEL_MTU" "$FLANNEL_IPMASQ"`;
        const { stdout } = spawnSync('sh', ['-u', '-c', script], { encoding: 'utf8' });
        expect(stdout.trimEnd().split('\n')).toEqual(
          parseAssignments(text).map(({ value }) => value),
        );
      }),
      { numRuns: 25 },
    );
  });
});
