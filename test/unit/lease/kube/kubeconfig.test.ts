/** Which server and credentials a kubeconfig, or a pod, means; nothing is connected. */
import { mkdtemp, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubeCredentials } from '../../../../src/lease/kube/credentials.js';
import {
  checkKubeOptions,
  KUBE_DEFAULTS,
  type KubeOptions,
} from '../../../../src/lease/kube/kube-options.js';
import { parseKubeconfig } from '../../../../src/lease/kube/kubeconfig.js';

const CONFIG = `
apiVersion: v1
kind: Config
current-context: here
contexts:
- name: there
  context: {cluster: none, user: none}
- name: here
  context: {cluster: c, user: u}
clusters:
- name: c
  cluster:
    server: https://10.168.0.1:6443
    certificate-authority: pki/ca.crt
    tls-server-name: kubernetes
users:
- name: u
  user:
    tokenFile: token
`;
const PATH = '/etc/kubernetes/flannel.conf';
const b64 = (text: string): string => Buffer.from(text).toString('base64');

describe('a kubeconfig', () => {
  it('is read for its current context, files beside it', async () => {
    const access = await parseKubeconfig(CONFIG, PATH);
    expect(access.url.href).toBe('https://10.168.0.1:6443/');
    expect(access).toMatchObject({
      ca: { file: '/etc/kubernetes/pki/ca.crt' },
      token: { file: '/etc/kubernetes/token' },
      serverName: 'kubernetes',
      insecure: false,
    });
    expect((await parseKubeconfig(CONFIG, PATH, 'https://other:1')).url.host).toBe('other:1');
  });

  it('may be JSON, and hold what it needs itself', async () => {
    const access = await parseKubeconfig(
      JSON.stringify({
        'current-context': 'x',
        contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
        clusters: [
          { name: 'x', cluster: { server: 'https://k', 'certificate-authority-data': b64('CA') } },
        ],
        users: [
          {
            name: 'x',
            user: { 'client-certificate-data': b64('CERT'), 'client-key-data': b64('KEY') },
          },
        ],
      }),
      PATH,
    );
    expect(access).toMatchObject({
      ca: { text: 'CA' },
      cert: { text: 'CERT' },
      key: { text: 'KEY' },
      token: undefined,
    });
  });

  it.each([
    ['a: [', 'expected YAML or JSON'],
    ['just text', 'expected a kubeconfig'],
    ['kind: Config', 'current-context: (missing) is not valid: expected the name of a context'],
    [CONFIG.replace('current-context: here', 'current-context: x'), 'context: "x" is not valid'],
    [CONFIG.replace('cluster: c,', 'cluster: x,'), 'cluster: "x" is not valid'],
    [CONFIG.replace('user: u}', 'user: x}'), 'user: "x" is not valid'],
    [CONFIG.replace('https:', 'ftp:'), 'server: "ftp://10.168.0.1:6443" is not valid'],
    [CONFIG.replace('tokenFile: token', 'tokenFile: [1]'), 'tokenFile: "object" is not valid'],
    [
      CONFIG.replace('tokenFile: token', 'exec: {command: aws}'),
      'user.exec: "***" is not valid: expected a token, tokenFile or client certificate',
    ],
    [
      CONFIG.replace('tokenFile: token', 'password: geheim\n    username: u'),
      'user.username: "***"',
    ],
    [CONFIG.replace('tls-server-name', 'proxy-url'), 'cluster.proxy-url: "***"'],
    ['a: &a [x]\nb: [*a, *a]', 'expected YAML or JSON'],
  ])('of no use is refused in one line that names the field (%#)', async (text, why) => {
    const found = parseKubeconfig(text, PATH);
    await expect(found).rejects.toThrow(why);
    await expect(found).rejects.toMatchObject({ kind: 'input' });
    const { message } = await found.then(
      () => new Error(),
      (error: Error) => error,
    );
    expect(message).toContain(PATH);
    expect(message).not.toMatch(/\n|geheim/);
  });
});

describe('options', () => {
  const nameless: KubeOptions = {
    ...KUBE_DEFAULTS,
    serviceHost: '10.96.0.1',
    servicePort: '443',
  };
  const pod: KubeOptions = { ...nameless, nodeName: 'node-1' };

  it('of a pod are enough', () => {
    checkKubeOptions(pod);
    checkKubeOptions({ ...nameless, podName: 'p', podNamespace: 'kube-flannel' });
    checkKubeOptions({ ...pod, serviceHost: 'fd00::1' });
  });

  it.each<[string, KubeOptions]>([
    ['NODE_NAME: (missing) is not valid: expected this node', nameless],
    ['NODE_NAME: "Node 1" is not valid', { ...pod, nodeName: 'Node 1' }],
    ['NODE_NAME: "a/../b" is not valid', { ...pod, nodeName: 'a/../b' }],
    ['NODE_NAME: (missing)', { ...nameless, podName: 'p' }],
    ['KUBERNETES_SERVICE_HOST: (missing)', { ...KUBE_DEFAULTS, nodeName: 'n' }],
    ['--kube-api-url: "10.0.0.1:6443" is not valid', { ...pod, apiUrl: '10.0.0.1:6443' }],
    ['--kube-api-url: "https://***@k" is not valid', { ...pod, apiUrl: 'https://u:geheim@k' }],
    ['--net-config-path: "/etc/" is not valid', { ...pod, netConfigPath: '/etc/' }],
    ['--kube-annotation-prefix: "x" is not valid', { ...pod, annotationPrefix: 'x' }],
  ])('are refused: %s', (why, options) => {
    expect(() => {
      checkKubeOptions(options);
    }).toThrow(why);
  });
});

describe('credentials', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'flannelette-account-'));
  });
  afterEach(() => rm(directory, { recursive: true }));
  const file = (name: string): string => join(directory, name);
  const account = (more: Partial<KubeOptions> = {}) =>
    new KubeCredentials({
      ...KUBE_DEFAULTS,
      serviceHost: 'fd00::1',
      servicePort: '443',
      serviceAccountPath: directory,
      nodeName: 'n',
      ...more,
    });

  it("of a pod are its service account's, read again each time, and kept when they are gone", async () => {
    await writeFile(file('token'), 'one\n');
    await writeFile(file('ca.crt'), '');
    const credentials = account();
    const first = await credentials.load();
    expect(first.url.href).toBe('https://[fd00::1]/');
    expect(first.authorization).toBe('Bearer one');
    await writeFile(file('token'), 'two');
    const second = await credentials.load();
    expect(second.authorization).toBe('Bearer two');
    expect(second.agent).toBe(first.agent);
    await unlink(file('token'));
    expect((await credentials.load()).authorization).toBe('Bearer two');
    expect(credentials.stale).toContain(`token: cannot read ${file('token')}`);
  });

  it('that cannot be read at the start are told by what they are', async () => {
    await writeFile(file('token'), 'one');
    await expect(account().load()).rejects.toThrow(
      `certificate authority: cannot read ${file('ca.crt')}: ENOENT`,
    );
    await expect(account({ kubeconfigFile: file('conf') }).load()).rejects.toThrow(
      `--kubeconfig-file: cannot read ${file('conf')}: ENOENT`,
    );
  });

  it('never go over plain http, and are none without an account', async () => {
    await writeFile(file('token'), 'one');
    await writeFile(file('ca.crt'), '');
    const plain = await account({ apiUrl: 'http://127.0.0.1:8001' }).load();
    expect(plain.authorization).toBeUndefined();
    expect(plain.identity).toBe('no credentials');
    const { authorization } = await account({ apiUrl: 'https://127.0.0.1:6443' }).load();
    expect(authorization).toBe('Bearer one');
    const serviceAccountPath = file('none');
    const nobody = await account({ apiUrl: 'https://127.0.0.1:6443', serviceAccountPath }).load();
    expect(nobody.authorization).toBeUndefined();
  });
});
