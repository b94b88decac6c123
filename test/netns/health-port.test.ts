/**
 * The health port of a daemon, asked by its own host, by another host and by a container, and held by
 * somebody who means ill.
 *
 *   container-1 -- host-1: flannelette run --healthz-port=9470 -- switch -- host-2
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import type { DaemonProcess } from '../../src/testbed/daemon-process.js';
import { COMMAND, TestLab, tunDevices } from '../support/test-lab.js';

const PORT = 9470;
const FLAGS = [`--healthz-port=${PORT}`];

let lab: TestLab;
beforeAll(async () => {
  lab = await TestLab.bare(2, { mode: 'auto', flags: FLAGS });
});
afterAll(() => lab.tearDown());

interface Answer {
  readonly code: number;
  readonly body: string;
}

const ASK = `
  const [url, ...headers] = process.argv.slice(1);
  const pairs = headers.map((text) => text.split('='));
  require('http').get(url, { headers: Object.fromEntries(pairs) }, (response) => {
    let body = '';
    response.setEncoding('utf8').on('data', (text) => (body += text));
    response.on('end', () => console.log(JSON.stringify({ code: response.statusCode, body })));
  });`;

/** Asks from a namespace. */
async function ask(from: string, address: string, path: string, ...headers: string[]) {
  const url = `http://${address}:${PORT}${path}`;
  const argv = [process.execPath, '-e', ASK, url, ...headers];
  const { stdout } = await run(inNamespace(from, argv));
  return JSON.parse(stdout) as Answer;
}

async function withDaemon(
  settings: { readonly command?: readonly string[]; readonly flags?: readonly string[] },
  work: (daemon: DaemonProcess) => Promise<void>,
): Promise<void> {
  const daemon = await lab.startDaemon(lab.near, {
    ...settings,
    flags: [...FLAGS, ...(settings.flags ?? [])],
  });
  try {
    await lab.attachContainer(daemon);
    await work(daemon);
  } finally {
    await daemon.stop();
  }
}

describe('who asks', () => {
  it('from elsewhere learns of health and readiness; this host is told everything', () =>
    withDaemon({}, async () => {
      const { near, far } = lab;
      for (const from of [far.host, near.container]) {
        expect(await ask(from, near.address, '/healthz')).toEqual({ code: 200, body: 'ok' });
        expect(await ask(from, near.address, '/readyz')).toEqual({
          code: 200,
          body: '{"ready":true}\n',
        });
        for (const path of ['/status', '/metrics']) {
          expect(await ask(from, near.address, path)).toEqual({
            code: 403,
            body: 'for this host alone: --healthz-ip opens it to everyone who reaches the address\n',
          });
        }
      }
      for (const address of ['127.0.0.1', near.address]) {
        expect((await ask(near.host, address, '/status')).body).toContain('"lease":{"subnet"');
        expect((await ask(near.host, address, '/metrics')).body).toContain('flannelette_ready 1\n');
        expect((await ask(near.host, address, '/readyz')).body).toContain('"phase":"running"');
      }
      expect((await ask(near.host, '127.0.0.1', '/status', 'host=rebound.example')).code).toBe(421);
    }));

  it.each([['0.0.0.0'], [''], ['10.168.0.2']])(
    'at --healthz-ip=%s is told everything from everywhere, by address',
    (ip) =>
      withDaemon({ flags: [`--healthz-ip=${ip}`] }, async (daemon) => {
        expect(daemon.program.stderr).toContain('open to everyone who reaches --healthz-ip');
        const { near, far } = lab;
        expect((await ask(far.host, near.address, '/status')).code).toBe(200);
        expect((await ask(far.host, near.address, '/metrics')).code).toBe(200);
        expect((await ask(far.host, near.address, '/status', 'host=rebound.example')).code).toBe(
          421,
        );
      }),
  );

  it('with a token from elsewhere is told everything, and by it alone', async () => {
    const file = join(LAB_DIRECTORY, 'token');
    const token = 'f0f1f2f3f4f5f6f7';
    const flags = ['--healthz-ip=0.0.0.0', `--healthz-token-file=${file}`];
    await writeFile(file, `${token}\n`, { mode: 0o600 });
    await withDaemon({ flags }, async (daemon) => {
      const { near, far } = lab;
      const bearer = (text: string): string => `authorization=Bearer ${text}`;
      for (const from of [far.host, near.container]) {
        for (const path of ['/status', '/metrics']) {
          const codes = [
            await ask(from, near.address, path),
            await ask(from, near.address, path, bearer(`${token}0`)),
            await ask(from, near.address, path, `authorization=Basic ${token}`),
            await ask(from, near.address, path, bearer(token)),
          ].map(({ code }) => code);
          expect(codes).toEqual([401, 401, 401, 200]);
        }
        expect((await ask(from, near.address, '/healthz')).code).toBe(200);
        expect((await ask(from, near.address, '/readyz')).body).toBe('{"ready":true}\n');
      }
      expect((await ask(near.host, '127.0.0.1', '/status')).code).toBe(200);
      await writeFile(file, 'another-token-of-20c\n');
      await expect
        .poll(async () => (await ask(far.host, near.address, '/status', bearer(token))).code)
        .toBe(401);
      const fresh = await ask(far.host, near.address, '/status', bearer('another-token-of-20c'));
      expect(fresh.code).toBe(200);
      expect(daemon.program.stderr).not.toContain('open to everyone');
      expect(daemon.program.stderr + fresh.body).not.toContain(token);
    });
  });

  it('at --healthz-ip=localhost is this host alone', () =>
    withDaemon({ flags: ['--healthz-ip=localhost', '--vmodule=udp=2'] }, async (daemon) => {
      const { near, far } = lab;
      expect((await ask(near.host, '127.0.0.1', '/status')).code).toBe(200);
      await expect(ask(far.host, near.address, '/healthz')).rejects.toThrow('ECONNREFUSED');
      // Beside that: a flag that does nothing here is warned about.
      expect(daemon.program.stderr).toMatch(
        /^\{"level":40,.*"msg":"--vmodule has no effect: it is of flanneld's own log"\}$/m,
      );
    }));
});

it('1,100 held connections of 1,024 descriptors keep nothing from the daemon', () =>
  withDaemon({ command: ['prlimit', '--nofile=1024', ...COMMAND] }, async (daemon) => {
    const { near, far } = lab;
    const hold = `
      const { connect } = require('net');
      let made = 0;
      const next = () => {
        const socket = connect(${PORT}, ${JSON.stringify(near.address)});
        socket.on('error', () => undefined);
        socket.on('connect', () => ((made += 1) === 1100 ? console.log('held') : next()));
      };
      next();
      setInterval(() => undefined, 1000);`;
    const holder = new Program(inNamespace(far.host, [process.execPath, '-e', hold]));
    try {
      await waitFor('the connections', 30_000, () => holder.stdout.includes('held') || undefined);
      expect((await ask(far.host, near.address, '/healthz')).code).toBe(200);
      await run(inNamespace(near.host, ['ip', 'link', 'delete', 'flannel0']));
      await waitFor('the device', 5_000, async () =>
        (await tunDevices(near.host)).includes('flannel0') ? true : undefined,
      );
      await daemon.ready();
      expect((await daemon.status()).dataPlane?.error).toBeNull();
    } finally {
      await holder.stop();
    }
    expect(daemon.program.stderr).not.toContain('EMFILE');
    expect(daemon.program.stderr).not.toContain('no external interface');
    expect(daemon.program.stderr).not.toContain('MaxListenersExceededWarning');
  }));
