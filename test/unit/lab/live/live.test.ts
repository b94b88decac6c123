/** The live page's server: what it refuses, what it sends, and the figures behind it. */
import { request, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PageFile } from '../../../../src/lab/live/files.js';
import { describeUdp } from '../../../../src/lab/live/live-lab.js';
import type { Command, HopRate } from '../../../../src/lab/live/messages.js';
import { digits, orDash, si } from '../../../../src/lab/page/format.js';
import { HOSTS, SWITCH } from '../../../../src/lab/page/layout.js';
import { trainLength } from '../../../../src/lab/page/trains.js';
import { BODY_LIMIT, checkRequest, parseCommand } from '../../../../src/lab/live/requests.js';
import { addTotals, figuresOf, NO_TOTALS, parseDevices } from '../../../../src/lab/live/sampler.js';
import { PageServer } from '../../../../src/lab/live/page-server.js';

const PORT = 8080;
const PATHS = new Set(['/', '/main.js']);
const HOST = `127.0.0.1:${PORT}`;
const GOOD = { host: HOST, origin: `http://${HOST}`, 'content-type': 'application/json' };

const check = (method: string, url: string, headers: IncomingHttpHeaders = GOOD) =>
  checkRequest({ method, url, headers }, PORT, PATHS);

describe('a request', () => {
  it.each([
    ['GET', '/', { host: HOST }, { kind: 'file', path: '/' }],
    ['HEAD', '/main.js?again', { host: `localhost:${PORT}` }, { kind: 'file', path: '/main.js' }],
    ['GET', '/events', { host: HOST }, { kind: 'events' }],
    ['POST', '/command', GOOD, { kind: 'command' }],
    [
      'POST',
      '/command',
      { ...GOOD, host: 'localhost:8080', origin: 'http://localhost:8080' },
      { kind: 'command' },
    ],
  ])('%s %s of the page itself is taken', (method, url, headers, wanted) => {
    expect(check(method, url, headers)).toEqual(wanted);
  });

  it.each([
    [undefined, 'Host: (missing) is not valid: expected 127.0.0.1:8080 or localhost:8080'],
    ['evil.example:8080', 'Host: "evil.example:8080" is not valid'],
    ['127.0.0.1', 'Host: "127.0.0.1" is not valid'],
    ['127.0.0.1:8081', 'Host: "127.0.0.1:8081" is not valid'],
    ['10.168.0.1:8080', 'Host: "10.168.0.1:8080" is not valid'],
  ])('for the host %s is refused, whatever is asked', (host, message) => {
    const headers = { ...GOOD, ...(host === undefined ? { host: undefined } : { host }) };
    for (const [method, url] of [
      ['GET', '/'],
      ['GET', '/events'],
      ['POST', '/command'],
    ] as const) {
      const refusal = check(method, url, headers);
      expect(refusal).toMatchObject({ status: 403 });
      expect(refusal).toHaveProperty('message', expect.stringContaining(message));
    }
  });

  it.each([
    [{ origin: undefined }, 403, 'Origin: (missing) is not valid: expected http://127.0.0.1:8080'],
    [{ origin: 'null' }, 403, 'Origin: "null" is not valid'],
    [{ origin: 'http://evil.example' }, 403, 'Origin: "http://evil.example" is not valid'],
    [{ origin: 'https://127.0.0.1:8080' }, 403, 'Origin: "https://127.0.0.1:8080" is not valid'],
    [{ origin: 'http://localhost:8080' }, 403, 'Origin: "http://localhost:8080" is not valid'],
    [{ 'content-type': undefined }, 415, 'Content-Type: (missing) is not valid'],
    [{ 'content-type': 'text/plain' }, 415, 'expected application/json'],
  ])('for a command with %j is refused', (headers, status, message) => {
    const refusal = check('POST', '/command', { ...GOOD, ...headers });
    expect(refusal).toMatchObject({ status });
    expect(refusal).toHaveProperty('message', expect.stringContaining(message));
  });

  it.each([
    ['GET', '/command', 405, 'POST'],
    ['PUT', '/command', 405, 'POST'],
    ['POST', '/', 405, 'GET, HEAD'],
    ['DELETE', '/events', 405, 'GET, HEAD'],
  ])('%s %s is no method of it', (method, url, status, allow) => {
    expect(check(method, url)).toMatchObject({ status, allow });
  });

  it.each(['/nothing', '/../package.json', '/main.js/', '//', '/command/ping'])(
    'for %s finds nothing',
    (url) => {
      expect(check('GET', url)).toMatchObject({ status: 404 });
    },
  );
});

describe('a command', () => {
  it.each(['ping', 'tcp', 'udp', 'stop', 'add-host', 'remove-host'])('%s is known', (command) => {
    expect(parseCommand(JSON.stringify({ command }))).toEqual({ command });
  });

  it.each(['basic', 'batch', 'offload'])('mode %s is known', (mode) => {
    expect(parseCommand(JSON.stringify({ command: 'mode', mode }))).toEqual({
      command: 'mode',
      mode,
    });
  });

  it.each([
    ['', 'body: "" is not valid: expected JSON'],
    ['ping', 'body: "ping" is not valid: expected JSON'],
    ['[]', 'body: [] is not valid: expected a JSON object'],
    ['null', 'body: null is not valid'],
    [
      '{}',
      'command: (missing) is not valid: expected ping, tcp, udp, stop, add-host, remove-host, mode',
    ],
    ['{"command":"sh"}', 'command: "sh" is not valid'],
    ['{"command":["ping"]}', 'command: ["ping"] is not valid'],
    ['{"command":"__proto__"}', 'command: "__proto__" is not valid'],
    ['{"command":"mode"}', 'mode: (missing) is not valid: expected basic, batch, offload'],
    ['{"command":"mode","mode":"auto"}', 'mode: "auto" is not valid'],
    ['{"command":"mode","mode":"basic --x"}', 'mode: "basic --x" is not valid'],
    ['{"command":"ping","mode":"basic"}', 'mode: "basic" is not valid'],
    ['{"command":"ping","seconds":9999}', 'seconds: 9999 is not valid: expected no such field'],
  ])('%s is refused', (body, message) => {
    const refusal = parseCommand(body);
    expect(refusal).toMatchObject({ status: 400 });
    expect(refusal).toHaveProperty('message', expect.stringContaining(message));
  });
});

describe('the server', () => {
  const files = new Map<string, PageFile>([
    ['/', { type: 'text/html; charset=utf-8', body: Buffer.from('<!doctype html>') }],
  ]);
  let server: PageServer;
  let commands: Command[];
  let refused: string | null;

  beforeEach(async () => {
    commands = [];
    refused = null;
    server = await PageServer.listen(0, files, (command) => {
      commands.push(command);
      return Promise.resolve(refused);
    });
  });
  afterEach(() => server.close());

  interface Answer {
    readonly status: number | undefined;
    readonly headers: IncomingHttpHeaders;
    readonly body: string;
  }

  function ask(
    method: string,
    path: string,
    body?: string,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const { port } = server;
    return new Promise((resolve, reject) => {
      const query = request({ host: '127.0.0.1', port, method, path, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () => {
          resolve({ status: response.statusCode, headers: response.headers, body: text });
        });
      });
      query.on('error', reject).end(body);
    });
  }

  const post = (body: string, headers: Record<string, string> = {}): Promise<Answer> =>
    ask('POST', '/command', body, {
      origin: `http://127.0.0.1:${server.port}`,
      'content-type': 'application/json',
      ...headers,
    });

  it('sends the page with headers that keep everything foreign out', async () => {
    const { status, headers, body } = await ask('GET', '/');
    expect([status, body]).toEqual([200, '<!doctype html>']);
    expect(headers['content-security-policy']).toMatch(/^default-src 'self';/);
    expect(headers['content-security-policy']).not.toContain('unsafe');
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
    });
    expect(headers['access-control-allow-origin']).toBeUndefined();
    expect((await ask('HEAD', '/')).body).toBe('');
  });

  it('hands a command on, and says why it is not done', async () => {
    expect(await post('{"command":"ping"}')).toMatchObject({ status: 202, body: '' });
    refused = 'Ping is running: stop it first';
    expect(await post('{"command":"tcp"}')).toMatchObject({
      status: 409,
      body: 'Ping is running: stop it first\n',
    });
    expect(commands).toEqual([{ command: 'ping' }, { command: 'tcp' }]);
  });

  it.each([
    ['GET', '', {}, 405],
    ['POST', '{"command":"reboot"}', {}, 400],
    ['POST', '{"command":"mode","mode":"fast"}', {}, 400],
    ['POST', '{"command":"ping"}', { origin: 'http://evil.example' }, 403],
    ['POST', '{"command":"ping"}', { host: 'evil.example' }, 403],
    ['POST', `{"command":"${'x'.repeat(BODY_LIMIT)}"}`, {}, 413],
    ['POST', '{"command":"ping"}', { 'content-type': 'text/plain' }, 415],
  ])('refuses %s %s with %j', async (method, body, headers, status) => {
    const answer = await ask(method, '/command', body, {
      origin: `http://127.0.0.1:${server.port}`,
      'content-type': 'application/json',
      ...headers,
    });
    expect(answer.status).toBe(status);
    expect(answer.body).toMatch(/expected/);
    expect(commands).toEqual([]);
  });

  it('takes no more of a body than it allows, however long it goes on', async () => {
    const socket = connect(server.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', (part: string) => (text += part));
    const head = [
      'POST /command HTTP/1.1',
      `Host: 127.0.0.1:${server.port}`,
      `Origin: http://127.0.0.1:${server.port}`,
      'Content-Type: application/json',
      'Content-Length: 100000000',
    ];
    socket.write(`${head.join('\r\n')}\r\n\r\n${' '.repeat(BODY_LIMIT + 1)}`);
    await new Promise((resolve) => socket.on('close', resolve));
    expect(text).toMatch(/^HTTP\/1\.1 413 /);
    expect(commands).toEqual([]);
  });

  it('sends events as they come, and the last of each to a page that comes later', async () => {
    server.publish('state', { message: 'first' });
    server.publish('state', { message: 'second' });
    const text = follow(server.port);
    await text.until('"second"');
    server.publish('sample', { hosts: [] });
    await text.until('event: sample\ndata: {"hosts":[]}\n\n');
    expect(text.read()).not.toContain('"first"');
    server.publish('state', { message: 'the end' });
    await server.close();
    await text.until('"the end"');
  });

  it('names a port that is taken', async () => {
    const second = PageServer.listen(server.port, files, () => Promise.resolve(null));
    await expect(second).rejects.toThrow(
      `--web: 127.0.0.1:${server.port} is taken (EADDRINUSE): expected a free TCP port`,
    );
  });
});

/** Follows the events of a server. */
function follow(port: number): { read: () => string; until: (part: string) => Promise<void> } {
  let text = '';
  let look = (): void => undefined;
  request({ host: '127.0.0.1', port, path: '/events' }, (response) => {
    response.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      look();
    });
  }).end();
  return {
    read: () => text,
    until: (part) =>
      new Promise((resolve) => {
        look = () => {
          if (text.includes(part)) resolve();
        };
        look();
      }),
  };
}

describe('the figures', () => {
  it('come from counters over a time', () => {
    const half = {
      ...NO_TOTALS,
      seconds: 1,
      deliveredPackets: 1_500,
      deliveredBytes: 1_500_000,
      calls: 6_000,
      copiedBytes: 6_000_000,
      drops: 5,
    };
    expect(figuresOf(addTotals(half, half))).toMatchObject({
      bitsPerSecond: 12_000_000,
      packetsPerSecond: 1_500,
      dropsPerSecond: 5,
      // Of both ends, each of which carries the packet.
      callsPerPacket: 4,
      daemonCopies: 4,
    });
  });

  it('have what is per packet of a longer time than the rates', () => {
    const now = { ...NO_TOTALS, seconds: 0.5, deliveredPackets: 1_000, deliveredBytes: 9_000 };
    const before = { ...now, calls: 8_200, copiedBytes: 71_000 };
    const recent = addTotals(before, { ...now, calls: 7_800, copiedBytes: 73_000 });
    expect(figuresOf(now, recent)).toMatchObject({
      packetsPerSecond: 2_000,
      callsPerPacket: 8,
      daemonCopies: 8,
    });
  });

  it('have no calls per packet with few packets, when most calls find nothing', () => {
    const few = { ...NO_TOTALS, seconds: 1, deliveredPackets: 10, deliveredBytes: 840, calls: 220 };
    expect(figuresOf({ ...few, copiedBytes: 3_360 })).toMatchObject({
      packetsPerSecond: 10,
      callsPerPacket: null,
      daemonCopies: 4,
    });
  });

  it('are not known where the kernel alone forwards, but for bytes and calls', () => {
    const kernel = { ...NO_TOTALS, seconds: 1, deliveredBytes: 1_000, uncounted: 2 };
    expect(figuresOf(kernel)).toMatchObject({
      bitsPerSecond: 8_000,
      packetsPerSecond: null,
      dropsPerSecond: null,
      callsPerPacket: 0,
      daemonCopies: 0,
    });
  });

  it('say nothing where nothing was carried', () => {
    expect(figuresOf(NO_TOTALS)).toMatchObject({
      bitsPerSecond: 0,
      callsPerPacket: null,
      daemonCopies: null,
    });
  });

  it('read devices as the kernel prints them', () => {
    const text = [
      'Inter-|   Receive                                                |  Transmit',
      ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
      '    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0',
      'veth-container-1: 1234567   890    1    2    0     0          0         0     4321      87    0   65    0     0       0          0',
    ].join('\n');
    expect(parseDevices(text).get('veth-container-1')).toEqual({
      rxBytes: 1_234_567,
      rxPackets: 890,
      txBytes: 4_321,
      txPackets: 87,
    });
  });
});

describe('the page', () => {
  it.each([
    [0, '0 B/s'],
    [0.04, '0.04 B/s'],
    [9.96, '10 B/s'],
    [12.34, '12.3 B/s'],
    [999.4, '999 B/s'],
    [999.6, '1 kB/s'],
    [123_456, '123 kB/s'],
    [1.2345e9, '1.23 GB/s'],
  ])('shows %d as %s', (value, text) => {
    expect(si(value, 'B/s')).toBe(text);
  });

  it('shows a dash where there is nothing to tell', () => {
    expect([orDash(null, digits), orDash(0.305, digits)]).toEqual(['–', '0.3']);
  });

  describe('the length of trains', () => {
    const rate = (packets: number, bytes: number): HopRate => ({
      outPackets: packets,
      outBytes: bytes,
      inPackets: 0,
      inBytes: 0,
    });
    // A second of UDP as counted in the lab: 1,372 bytes of payload.
    const hops = {
      container: rate(355_260, 502_311_216),
      docker0: rate(355_260, 497_337_576),
      flannel0: rate(47_162, 488_710_616),
      daemon: rate(355_255, 497_337_220),
      eth0: rate(53_021, 499_564_270),
    };

    it.each([
      ['container', 1],
      ['docker0', 1],
      ['flannel0', 355_255 / 47_162],
      ['daemon', 1],
      ['eth0', 355_255 / 53_021],
    ] as const)('at %s is %d', (hop, length) => {
      const found = trainLength(hop, 'out', { hops, carried: hops.daemon });
      expect(Math.abs(found - length) / length).toBeLessThan(0.03);
      expect(trainLength(hop, 'in', { hops, carried: hops.daemon })).toBe(1);
      expect(trainLength(hop, 'out', { hops, carried: null })).toBe(1);
    });
  });

  it('says how a load of UDP ended, and who lost what', () => {
    const result = {
      sentPackets: 400_000,
      arrivedPackets: 399_000,
      receivedPackets: 299_000,
      sentSeconds: 2,
      receivedSeconds: 2,
    };
    expect(describeUdp(result)).toBe(
      "ended: of 400,000 datagrams 1,000 lost on the way and 100,000 in container-2's own socket, whose program read 299,000",
    );
  });

  it('draws the way from each container to each other through the switch, without a gap', () => {
    for (const from of HOSTS) {
      for (const to of HOSTS) {
        if (from === to) continue;
        expect(to.way.at(-1)).toEqual(SWITCH);
        for (const kind of ['way', 'kernelWay'] as const) {
          const way = [...from[kind], ...[...to[kind]].reverse().slice(1)];
          expect(way.some(({ x }) => x === SWITCH.x)).toBe(true);
          for (const [index, point] of way.slice(1).entries()) {
            const before = way[index];
            // Straight along one axis.
            expect(point.x === before?.x || point.y === before?.y).toBe(true);
          }
        }
      }
    }
  });
});
