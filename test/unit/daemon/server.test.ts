import diagnostics from 'node:diagnostics_channel';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { hostname, networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { requestJson } from '../../../src/daemon/status-client.js';
import { MAX_CONNECTIONS } from '../../../src/daemon/connections.js';
import { StatusServer, type StatusSource } from '../../../src/daemon/server.js';

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

function createStatusServer(source: Partial<StatusSource> = {}, idleMs?: number): StatusServer {
  const server = new StatusServer(
    {
      ready: () => ({ ready: false, phase: 'starting' }),
      status: () => ({ pid: 4711 }),
      metrics: () => Promise.resolve({ contentType: 'text/plain', text: 'up 1\n' }),
      changeMode: () => undefined,
      stepAside: () => undefined,
      ...source,
    },
    idleMs,
  );
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

/** Asks with a Host header of one's own, which fetch does not allow. */
function ask(port: number, path: string, host: string): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, headers: { host }, agent: false };
    const query = request(options, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => {
        resolve({ code: response.statusCode ?? 0, body });
      });
    });
    query.on('error', reject).end();
  });
}

describe('a name that is not this host’s', () => {
  it.each([
    ...['127.0.0.1', '127.0.0.1:80', '[::1]:9470', 'localhost', 'LOCALHOST.:1', '203.0.113.7'],
    ...[hostname(), hostname().split('.')[0] ?? ''],
  ])('is not %s', async (host) => {
    const port = await createStatusServer().listenTcp({ host: 'localhost', port: 0 });
    expect((await ask(port, '/status', host)).code).toBe(200);
  });

  it('gets no state, and learns of health and readiness alone', async () => {
    const server = createStatusServer({ ready: () => ({ ready: true, phase: 'running' }) });
    const port = await server.listenTcp({ host: '127.0.0.1', port: 0, open: true });
    const host = 'rebound.example:80';
    for (const path of ['/status', '/metrics']) {
      expect(await ask(port, path, host)).toEqual({
        code: 421,
        body: 'the Host header names another host: ask by address, or by the name of this host\n',
      });
    }
    expect(await ask(port, '/healthz', host)).toEqual({ code: 200, body: 'ok' });
    expect(await ask(port, '/readyz', host)).toEqual({ code: 200, body: '{"ready":true}\n' });
  });
});

describe('the address to listen on', () => {
  it.each([
    ['', /^\[?(::|0\.0\.0\.0)/],
    ['localhost', /^127\.0\.0\.1$/],
    ['127.0.0.1', /^127\.0\.0\.1$/],
  ])('%j', async (host) => {
    const port = await createStatusServer().listenTcp({ host, port: 0 });
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  });

  it('names a name that nobody has', async () => {
    const listening = createStatusServer().listenTcp({ host: 'nobody.invalid', port: 9470 });
    await expect(listening).rejects.toThrow(
      /^--healthz-port: nobody\.invalid:9470 cannot be listened on: getaddrinfo /,
    );
  });

  it('of this host is this host, too', async () => {
    const addresses = Object.values(networkInterfaces()).flat();
    const own = addresses.find((entry) => entry?.family === 'IPv4' && !entry.internal)?.address;
    if (own === undefined) return;
    const port = await createStatusServer().listenTcp({ host: '0.0.0.0', port: 0 });
    expect((await fetch(`http://${own}:${port}/status`)).status).toBe(200);
  });
});

describe('connections that are held', () => {
  const open = async (port: number): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  };

  it('are so many at most, and leave room for who asks', async () => {
    const port = await createStatusServer().listenTcp({ host: '127.0.0.1', port: 0 });
    const held: Socket[] = [];
    let ended = 0;
    for (let count = 0; count < 3 * MAX_CONNECTIONS; count += 1) {
      const socket = await open(port);
      socket.once('close', () => (ended += 1));
      held.push(socket.resume());
    }
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
    await expect.poll(() => ended, { timeout: 5_000 }).toBeGreaterThan(2 * MAX_CONNECTIONS);
    expect(held.at(-2)?.readyState).toBe('open');
    for (const socket of held) socket.destroy();
  });

  it.each([
    ['says nothing', ''],
    ['does not end its question', 'GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n'],
    ['says no more', 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'],
  ])('one that %s is ended', async (_, text) => {
    const port = await createStatusServer({}, 50).listenTcp({ host: '127.0.0.1', port: 0 });
    const socket = (await open(port)).resume();
    const closed = once(socket, 'close');
    socket.write(text);
    await closed;
  });

  it('one that does not read its answer is ended', async () => {
    const text = 'x'.repeat(32 * 1024 * 1024);
    const metrics = () => Promise.resolve({ contentType: 'text/plain', text });
    const server = createStatusServer({ metrics }, 50);
    const port = await server.listenTcp({ host: '127.0.0.1', port: 0 });
    const served = new Promise<Socket>((resolve) => {
      diagnostics.subscribe('http.server.request.start', function note(message) {
        diagnostics.unsubscribe('http.server.request.start', note);
        resolve((message as { readonly socket: Socket }).socket);
      });
    });
    const socket = (await open(port)).pause();
    socket.write('GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
    await once(await served, 'close');
    socket.destroy();
  });
});
