import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { main } from '../../../src/cli/program.js';

/** The documents' file. */
const DOCUMENTS = {
  name: 'cbr0',
  cniVersion: '0.3.1',
  plugins: [
    { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
};

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-cni-'));
  await mkdir(join(directory, 'bin'));
  for (const name of ['flannel', 'bridge', 'host-local', 'portmap']) await addPlugin(name);
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function addPlugin(name: string, mode = 0o755): Promise<void> {
  await writeFile(join(directory, 'bin', name), '');
  await chmod(join(directory, 'bin', name), mode);
}

async function install(flags: readonly string[] = [], env: Record<string, string> = {}) {
  let out = '';
  let err = '';
  const places = [`--conf-dir=${join(directory, 'net.d')}`, `--bin-dir=${join(directory, 'bin')}`];
  const code = await main(['install-cni', ...places, ...flags], {
    env,
    out: (text) => (out += text),
    err: (text) => (err += text),
  });
  return { code, out, err };
}

const installed = (name = '10-flannel.conflist'): Promise<string> =>
  readFile(join(directory, 'net.d', name), 'utf8');

describe('install-cni', () => {
  it("writes the documents' file, open to all readers, and nothing else", async () => {
    expect(await install()).toEqual({ code: 0, out: '', err: '' });
    expect(JSON.parse(await installed())).toEqual(DOCUMENTS);
    expect(await readdir(join(directory, 'net.d'))).toEqual(['10-flannel.conflist']);
    const { mode } = await stat(join(directory, 'net.d', '10-flannel.conflist'));
    expect(mode & 0o777).toBe(0o644);
  });

  it('replaces the file that is there, byte for byte by the one that is named', async () => {
    await install();
    const text = '{"name":"n","cniVersion":"1.0.0", "plugins":[{"type":"bridge"}]}';
    await writeFile(join(directory, 'cni-conf.json'), text);
    await rm(join(directory, 'bin', 'flannel'));
    const { code } = await install([`--conf-file=${join(directory, 'cni-conf.json')}`]);
    expect([code, await installed()]).toEqual([0, text]);
  });

  it("names the daemon's subnet file where it is another one", async () => {
    await install([], { FLANNELD_SUBNET_FILE: '/run/other.env' });
    expect(JSON.parse(await installed())).toMatchObject({
      plugins: [{ type: 'flannel', subnetFile: '/run/other.env' }, {}],
    });
    await install(['--subnet-file=/run/flannel/subnet.env', '--conf-name=20-x.conflist']);
    expect(JSON.parse(await installed('20-x.conflist'))).toEqual(DOCUMENTS);
  });

  it('prints without looking for plugins', async () => {
    await rm(join(directory, 'bin'), { recursive: true });
    const { code, out } = await install(['--print']);
    expect([code, JSON.parse(out)]).toEqual([0, DOCUMENTS]);
    await expect(installed()).rejects.toThrow('ENOENT');
  });

  it('says which file the runtime takes instead', async () => {
    await mkdir(join(directory, 'net.d'));
    for (const name of ['05-calico.conflist', '05-notes.txt', '99-bridge.conf'])
      await writeFile(join(directory, 'net.d', name), '{}');
    expect(await install()).toEqual({
      code: 0,
      out: '',
      err: `${join(directory, 'net.d', '05-calico.conflist')} comes before 10-flannel.conflist by name: the container runtime takes that one\n`,
    });
  });

  it('writes nothing while a plugin is missing or no program', async () => {
    await rm(join(directory, 'bin', 'host-local'));
    await addPlugin('portmap', 0o644);
    const { code, err } = await install();
    expect(code).toBe(1);
    expect(err).toContain(
      `--bin-dir: ${join(directory, 'bin')} lacks host-local, portmap: expected flannel, bridge, host-local, portmap`,
    );
    await expect(installed()).rejects.toThrow('ENOENT');
  });

  const plugin = (value: unknown): string =>
    JSON.stringify({ name: 'n', cniVersion: '1.0.0', plugins: [value] });
  it.each([
    ['{', 'JSON ('],
    ['[]', 'a JSON object with name, cniVersion and plugins'],
    ['{}', 'name: (missing) is not valid: expected a name, e.g. cbr0'],
    ['{"name":"n","cniVersion":1}', 'cniVersion: 1 is not valid: expected a version'],
    ['{"name":"n","cniVersion":"1.0.0"}', 'plugins: (missing) is not valid: expected a list'],
    [plugin('bridge'), 'plugins[0]: "bridge" is not valid: expected an object with type'],
    [plugin({}), 'plugins[0].type: (missing) is not valid: expected the name of a plugin'],
    [plugin({ type: '../sh' }), 'plugins[0].type: "../sh" is not valid: expected the name'],
    [plugin({ type: 'flannel', delegate: 1 }), 'plugins[0].delegate: 1 is not valid'],
    [plugin({ type: 'bridge', ipam: { type: '' } }), 'plugins[0].ipam.type: "" is not valid'],
  ])('refuses %s', async (text, message) => {
    const path = join(directory, 'cni-conf.json');
    await writeFile(path, text);
    const { code, err } = await install([`--conf-file=${path}`]);
    expect(code).toBe(2);
    expect(err).toContain(path);
    expect(err).toContain(message);
    expect(err.trim().split('\n')).toHaveLength(1);
  });

  it('names a file or directory that cannot be used', async () => {
    const gone = join(directory, 'nonesuch.json');
    expect(await install([`--conf-file=${gone}`])).toMatchObject({
      code: 1,
      err: expect.stringContaining(`--conf-file: cannot read ${gone}: ENOENT`) as string,
    });
    await writeFile(join(directory, 'file'), '');
    const { code, err } = await install([`--conf-dir=${join(directory, 'file')}`]);
    expect(code).toBe(1);
    expect(err).toMatch(/^--conf-dir: cannot write .*\/file\/10-flannel\.conflist: ENOTDIR/);
    expect((await install(['--conf-name=../x.conflist'])).err).toContain(
      '--conf-name: "../x.conflist" is not valid: expected a file name that ends in .conflist',
    );
  });
});
