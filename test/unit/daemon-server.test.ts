import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { requestJson } from '../../src/daemon/client.js';
import { StatusServer, type StatusSource } from '../../src/daemon/server.js';

let directory: string;
let path: string;
const servers: StatusServer[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-server-'));
  path = join(directory, 'subnet.env.sock');
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
  await rm(directory, { recursive: true });
});

function createStatusServer(source: Partial<StatusSource> = {}): StatusServer {
  const server = new StatusServer({
    ready: () => ({ ready: false, phase: 'starting' }),
    status: () => ({ pid: 4711 }),
    metrics: () => Promise.resolve({ contentType: 'text/plain', text: 'up 1\n' }),
    ...source,
  });
  servers.push(server);
  return server;
}

/** Leaves the socket of a process that was killed. */
async function leaveStaleSocket(): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect((await stat(path)).isSocket()).toBe(true);
}

describe('the unix socket', () => {
  it('is open to its owner only and gone after close', async () => {
    const server = createStatusServer();
    await server.listenUnix(path);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await requestJson(path, '/status', 1_000)).toEqual({ pid: 4711 });
    await server.close();
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  it('creates its directory', async () => {
    const deep = join(directory, 'a', 'b', 'subnet.env.sock');
    await createStatusServer().listenUnix(deep);
    expect((await stat(deep)).isSocket()).toBe(true);
  });

  it('keeps a second daemon out and names the first', async () => {
    await createStatusServer().listenUnix(path);
    await expect(createStatusServer().listenUnix(path)).rejects.toThrow(
      `another daemon (pid 4711) answers on ${path}`,
    );
    expect(await requestJson(path, '/status', 1_000)).toEqual({ pid: 4711 });
  });

  it('replaces what a killed daemon left', async () => {
    await leaveStaleSocket();
    await createStatusServer().listenUnix(path);
    expect(await requestJson(path, '/status', 1_000)).toEqual({ pid: 4711 });
  });

  it('leaves anything that is not a socket alone', async () => {
    await writeFile(path, 'precious');
    await expect(createStatusServer().listenUnix(path)).rejects.toThrow('is not a socket');
    expect((await stat(path)).size).toBe(8);
  });

  it('names a path it cannot create', async () => {
    await writeFile(join(directory, 'file'), '');
    const bad = join(directory, 'file', 'subnet.env.sock');
    await expect(createStatusServer().listenUnix(bad)).rejects.toThrow(
      `cannot create the status socket ${bad}`,
    );
  });
});

describe('over TCP', () => {
  const get = (port: number, url: string, method = 'GET'): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}${url}`, { method });

  it('answers health, readiness, metrics and status', async () => {
    let ready = false;
    const server = createStatusServer({ ready: () => ({ ready, phase: 'x' }) });
    const port = await server.listenTcp({ host: '127.0.0.1', port: 0 });
    const health = await get(port, '/healthz');
    expect([health.status, await health.text()]).toEqual([200, 'ok']);
    const before = await get(port, '/readyz?verbose');
    expect([before.status, await before.json()]).toEqual([503, { ready: false, phase: 'x' }]);
    ready = true;
    expect((await get(port, '/readyz')).status).toBe(200);
    expect(await (await get(port, '/metrics')).text()).toBe('up 1\n');
    expect(await (await get(port, '/status')).json()).toEqual({ pid: 4711 });
    const missing = await get(port, '/foo');
    expect([missing.status, await missing.text()]).toEqual([
      404,
      'not found; there are /healthz, /readyz, /metrics, /status\n',
    ]);
    expect((await get(port, '/status', 'POST')).status).toBe(405);
    const head = await get(port, '/healthz', 'HEAD');
    expect([head.status, await head.text()]).toEqual([200, '']);
  });

  it('answers 500 when a source fails, and goes on', async () => {
    const server = createStatusServer({ metrics: () => Promise.reject(new Error('no sample')) });
    const port = await server.listenTcp({ host: '127.0.0.1', port: 0 });
    const failed = await get(port, '/metrics');
    expect([failed.status, await failed.text()]).toEqual([500, 'no sample\n']);
    expect((await get(port, '/healthz')).status).toBe(200);
  });

  it('names a port that is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const address = other.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    await expect(createStatusServer().listenTcp({ host: '127.0.0.1', port })).rejects.toThrow(
      `--healthz-port: 127.0.0.1:${port} is taken (EADDRINUSE)`,
    );
    other.close();
  });
});
