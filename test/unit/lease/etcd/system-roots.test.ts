import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemRoots } from '../../../../src/lease/etcd/system-roots.js';

const pem = (body: string): string =>
  `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----`;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-roots-'));
});
afterEach(() => rm(directory, { recursive: true }));

it('SSL_CERT_FILE takes the place of the system’s bundle, SSL_CERT_DIR that of its directories', async () => {
  const bundle = join(directory, 'bundle.pem');
  await writeFile(
    bundle,
    `# one\n${pem('AAAA')}\nand\r\n${pem('BBBB').replaceAll('\n', '\r\n')}\n`,
  );
  const [one, two] = [join(directory, 'one'), join(directory, 'two')];
  await mkdir(one);
  await mkdir(two);
  await writeFile(join(one, 'c.pem'), pem('CCCC'));
  await writeFile(join(two, 'a.0'), pem('AAAA'));
  await writeFile(join(two, 'notes.txt'), 'nothing');
  const none = join(directory, 'none');
  expect(await systemRoots({ SSL_CERT_FILE: bundle, SSL_CERT_DIR: none })).toEqual([
    pem('AAAA'),
    pem('BBBB'),
  ]);
  expect(await systemRoots({ SSL_CERT_FILE: none, SSL_CERT_DIR: `${one}:${two}:${none}` })).toEqual(
    [pem('CCCC'), pem('AAAA')],
  );
  expect(await systemRoots({ SSL_CERT_FILE: none, SSL_CERT_DIR: none })).toEqual([]);
});

it('without them this system’s own are found, each once', async () => {
  const roots = await systemRoots({ SSL_CERT_FILE: '' });
  expect(roots.length).toBeGreaterThan(10);
  expect(new Set(roots).size).toBe(roots.length);
});
