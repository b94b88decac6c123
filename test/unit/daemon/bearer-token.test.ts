/** The token of the health port: what is one, who shows it, and a file that changes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { BearerToken } from '../../../src/daemon/bearer-token.js';

const TOKEN = '0123456789abcdef';
let directory: string;
let path: string;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  directory = await mkdtemp(join(tmpdir(), 'flannelette-token-'));
  path = join(directory, 'token');
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(directory, { recursive: true });
});

it('is shown as RFC 6750 says, and by nothing else', async () => {
  await writeFile(path, `${TOKEN}\n`);
  const token = new BearerToken(path);
  await token.check();
  for (const [header, accepted] of [
    [`Bearer ${TOKEN}`, true],
    [`bearer  ${TOKEN}`, true],
    [`Bearer ${TOKEN.toUpperCase()}`, false],
    [`Bearer ${TOKEN.slice(1)}`, false],
    [`Bearer ${TOKEN} x`, false],
    [TOKEN, false],
    ['', false],
    [undefined, false],
  ] as const) {
    expect([header, await token.accepts(header)]).toEqual([header, accepted]);
  }
});

it.each([
  ['is not there', undefined, /^--healthz-token-file: .*ENOENT/],
  ['is empty', '', /one token of 16 or more printable ASCII characters/],
  ['has one that can be guessed', 'secret', /one token of 16 or more/],
  ['has two lines', `${TOKEN}\n${TOKEN}\n`, /one token of 16 or more/],
  ['is too large', 'a'.repeat(5_000), /larger than 4096 bytes/],
])('is refused when the file %s, without what is in it', async (_what, text, message) => {
  if (text !== undefined) await writeFile(path, text);
  const error: unknown = await new BearerToken(path).check().catch((reason: unknown) => reason);
  expect(String((error as Error).message)).toMatch(message);
  if (text !== undefined && text !== '') expect(String(error)).not.toContain(text.trim());
});

it('follows the file within a second, and lets nobody in while that is unreadable', async () => {
  await writeFile(path, TOKEN);
  const token = new BearerToken(path);
  const next = 'fedcba9876543210';
  expect(await token.accepts(`Bearer ${TOKEN}`)).toBe(true);
  await writeFile(path, next);
  expect(await token.accepts(`Bearer ${next}`)).toBe(false);
  vi.advanceTimersByTime(1_000);
  expect(await token.accepts(`Bearer ${next}`)).toBe(true);
  expect(await token.accepts(`Bearer ${TOKEN}`)).toBe(false);
  await rm(path);
  vi.advanceTimersByTime(1_000);
  expect(await token.accepts(`Bearer ${next}`)).toBe(false);
  await writeFile(path, next);
  vi.advanceTimersByTime(1_000);
  expect(await token.accepts(`Bearer ${next}`)).toBe(true);
});
