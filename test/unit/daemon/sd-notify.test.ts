import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { ServiceManager } from '../../../src/daemon/sd-notify.js';
import { silentLogger } from '../../../src/log.js';

const PATH = '/run/systemd/notify';

/** A manager that takes or refuses datagrams, and what the log got. */
function fake() {
  const sent: string[] = [];
  const warnings: Record<string, unknown>[] = [];
  const state = { refuse: undefined as string | undefined };
  const log = pino(
    { level: 'warn', base: null },
    { write: (line: string) => warnings.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const manager = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: PATH }, log, (path, message) => {
    expect(path).toBe(PATH);
    if (state.refuse !== undefined) {
      throw Object.assign(new Error(`sendto: ${state.refuse} (${path})`), { code: state.refuse });
    }
    sent.push(message);
  });
  return { manager, sent, warnings, state };
}

describe('the messages', () => {
  it('are those of sd_notify(3)', () => {
    const { manager, sent, warnings } = fake();
    manager.status('waiting for a lease');
    manager.ready();
    manager.stopping();
    expect(sent).toEqual(['STATUS=waiting for a lease', 'READY=1', 'STOPPING=1']);
    expect(warnings).toEqual([]);
  });

  it('say READY=1 once, with a status in the same datagram', () => {
    const { manager, sent } = fake();
    manager.ready('lease 100.96.1.0/24');
    manager.ready('again');
    manager.ready();
    expect(sent).toEqual(['READY=1\nSTATUS=lease 100.96.1.0/24']);
  });

  it('keep a text on its line, whatever is in it', () => {
    const { manager, sent } = fake();
    manager.status('\nstore down:\r\n  STOPPING=1\rMAINPID=1\n');
    manager.ready('up\nERRNO=1');
    expect(sent).toEqual(['STATUS=store down: STOPPING=1 MAINPID=1', 'READY=1\nSTATUS=up ERRNO=1']);
  });
});

describe('no manager', () => {
  it.each([{}, { NOTIFY_SOCKET: '' }])('with %j, nothing happens', (env) => {
    const manager = ServiceManager.fromEnvironment(env, silentLogger(), () => {
      throw new Error('called');
    });
    manager.status('text');
    manager.ready();
    manager.stopping();
  });
});

describe('a manager that refuses', () => {
  it('is logged once and never thrown', () => {
    const { manager, sent, warnings, state } = fake();
    state.refuse = 'ECONNREFUSED';
    manager.status('one');
    manager.ready();
    manager.stopping();
    expect(sent).toEqual([]);
    expect(warnings).toEqual([
      expect.objectContaining({
        level: 40,
        path: PATH,
        code: 'ECONNREFUSED',
        msg: `cannot tell the service manager (NOTIFY_SOCKET): sendto: ECONNREFUSED (${PATH}); running on without`,
      }),
    ]);
  });

  it('hears READY=1 when it listens again', () => {
    const { manager, sent, state } = fake();
    state.refuse = 'EAGAIN';
    manager.ready();
    state.refuse = undefined;
    manager.ready();
    manager.ready();
    expect(sent).toEqual(['READY=1']);
  });
});

/** Node receives no unix datagrams: Python binds `argv[1]` and prints each as a line of JSON. */
const RECEIVER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(10)
s.bind(sys.argv[1].replace('@', '\\0'))
print(json.dumps('bound'), flush=True)
while True: print(json.dumps(s.recv(4096).decode()), flush=True)
`;

describe('the addon', () => {
  const name = `@flannelette-sd-notify-${process.pid}`;
  it.each(['a path', 'an abstract name'])('reaches a manager on %s', async (kind) => {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
    const path = kind === 'a path' ? join(directory, 'notify') : name;
    const receiver = spawn('python3', ['-c', RECEIVER, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const lines = createInterface(receiver.stdout)[Symbol.asyncIterator]();
      const next = async () => JSON.parse((await lines.next()).value as string) as unknown;
      expect(await next()).toBe('bound');
      const manager = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: path }, silentLogger());
      manager.ready('lease 100.96.1.0/24 – ✓');
      expect(await next()).toBe('READY=1\nSTATUS=lease 100.96.1.0/24 – ✓');
      manager.stopping();
      expect(await next()).toBe('STOPPING=1');
    } finally {
      receiver.kill('SIGKILL');
      await once(receiver, 'exit');
      await rm(directory, { recursive: true, force: true });
    }
  });

  it.each([
    ['/no/such/socket', 'ENOENT'],
    [`@flannelette-nobody-${process.pid}`, 'ECONNREFUSED'],
    ['relative', 'EAFNOSUPPORT'],
    [`/${'x'.repeat(107)}`, 'ENAMETOOLONG'],
  ])('says why %s cannot be reached', (path, code) => {
    const codes: unknown[] = [];
    const log = pino({
      hooks: {
        logMethod: (args) => {
          codes.push((args[0] as { code?: unknown }).code);
        },
      },
    });
    ServiceManager.fromEnvironment({ NOTIFY_SOCKET: path }, log).ready();
    expect(codes).toEqual([code]);
  });
});
