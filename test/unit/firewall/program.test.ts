/** How the firewall runs its programs, and what it says of one that fails. */
import { getEventListeners } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { isMissing, runProgram } from '../../../src/firewall/run-program.js';

const NODE = process.execPath;
const failing = async (run: Promise<string>): Promise<Error> =>
  run.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as Error,
  );

describe('a program', () => {
  it('gets its input and gives its output, in the C locale', async () => {
    const script = 'process.stdin.on("data", (d) => process.stdout.write(process.env.LC_ALL + d))';
    expect(await runProgram(NODE, ['-e', script], { input: ' text' })).toBe('C text');
  });

  it('gets its arguments as they are', async () => {
    const args = ['$(id)', '; x', '"'];
    const out = await runProgram(NODE, ['-p', 'JSON.stringify(process.argv.slice(1))', ...args]);
    expect(JSON.parse(out)).toEqual(args);
  });

  it('that fails is named with its code and last words, on one line', async () => {
    const script = 'console.error("first\\nlast"); process.exitCode = 3';
    const error = await failing(runProgram(NODE, ['-e', script], { input: 'x'.repeat(1e6) }));
    expect(error.message).toMatch(/^\S+node -e .* ended with code 3: first; last$/);
    expect(isMissing(error)).toBe(false);
  });

  it('that a signal ends is named with it', async () => {
    const error = await failing(runProgram(NODE, ['-e', 'process.kill(process.pid, "SIGTERM")']));
    expect(error.message).toContain('was ended by SIGTERM');
  });

  it('ends when aborted', async () => {
    const error = await failing(
      runProgram(NODE, ['-e', 'setTimeout(() => {}, 60_000)'], { signal: AbortSignal.timeout(50) }),
    );
    expect(error.message).toContain('aborted');
  });

  it.each([
    ['that is missing', 'no-such-program'],
    ['that ends', NODE],
  ])('%s leaves nothing on the signal, however often it is run', async (_, program) => {
    const { signal } = new AbortController();
    for (let run = 0; run < 3; run += 1) {
      await runProgram(program, ['--version'], { signal }).catch(() => undefined);
    }
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('is not run when aborted before', async () => {
    const error = await failing(runProgram(NODE, ['-p', '1'], { signal: AbortSignal.abort() }));
    expect(error.message).toContain('aborted');
  });

  it.each([
    ['iptables-none', 'iptables', []],
    ['iptables-none', 'iptables', ['env']],
    ['nft', 'nftables', ['env', 'PATH=/nowhere']],
  ])('that is missing: %s is of the package %s, behind %j', async (program, name, prefix) => {
    // A folder of PATH that this user may not enter would make it EACCES.
    vi.stubEnv('PATH', '/usr/bin:/bin');
    const error = await failing(runProgram(program, [], { prefix }));
    vi.unstubAllEnvs();
    expect(error.message).toBe(`${program} is not installed: install the Debian package ${name}`);
    expect(isMissing(error)).toBe(true);
  });

  it('is not the one that is missing when its prefix is', async () => {
    const error = await failing(runProgram('nft', [], { prefix: ['no-such-program'] }));
    expect(isMissing(error)).toBe(false);
    expect(error.message).toContain('no-such-program');
  });
});
