import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCidr } from '../../../src/config/ipv4.js';
import { readSubnetEnv, writeSubnetEnv } from '../../../src/host/subnet-env.js';

const ENV = {
  network: parseCidr('test', '100.96.0.0/16'),
  subnet: parseCidr('test', '100.96.1.0/24'),
  mtu: 1472,
  ipMasq: false,
};
const TEXT =
  'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.1.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flannelette-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('writing', () => {
  it("is flanneld's format to the byte, with its modes, whatever the umask", async () => {
    const path = join(directory, 'run', 'flannel', 'subnet.env');
    const before = process.umask(0o077);
    try {
      await mkdir(join(directory, 'run'), { mode: 0o755 });
      await writeSubnetEnv(path, ENV);
    } finally {
      process.umask(before);
    }
    expect(await readFile(path, 'utf8')).toBe(TEXT);
    expect((await stat(path)).mode & 0o777).toBe(0o644);
    expect(await readdir(join(directory, 'run', 'flannel'))).toEqual(['subnet.env']);
  });

  it('makes the directory with mode 0755', async () => {
    const before = process.umask(0o022);
    try {
      await writeSubnetEnv(join(directory, 'flannel', 'subnet.env'), ENV);
    } finally {
      process.umask(before);
    }
    expect((await stat(join(directory, 'flannel'))).mode & 0o777).toBe(0o755);
  });

  it('replaces what was there, a left-over of a killed run included', async () => {
    const path = join(directory, 'subnet.env');
    await writeFile(path, 'old');
    await writeFile(
      join(directory, '.subnet.env'),
      'a longer left-over of a run that was killed, '.repeat(9),
    );
    await writeSubnetEnv(path, { ...ENV, ipMasq: true });
    expect(await readFile(path, 'utf8')).toBe(TEXT.replace('false', 'true'));
    expect(await readdir(directory)).toEqual(['subnet.env']);
  });

  it('that fails names path and errno and leaves no temporary file', async () => {
    const path = join(directory, 'subnet.env');
    await mkdir(path);
    await expect(writeSubnetEnv(path, ENV)).rejects.toMatchObject({
      kind: 'system',
      field: '--subnet-file',
      code: 'EISDIR',
      message: expect.stringContaining(path) as string,
    });
    expect(await readdir(directory)).toEqual(['subnet.env']);
  });

  it('below a file, or where the kernel takes no files, fails as plainly', async () => {
    await writeFile(join(directory, 'file'), '');
    await expect(writeSubnetEnv(join(directory, 'file', 'subnet.env'), ENV)).rejects.toMatchObject({
      code: 'ENOTDIR',
    });
    // The kernel's own directory takes no new files, for root neither.
    await expect(writeSubnetEnv('/proc/self/subnet.env', ENV)).rejects.toMatchObject({
      kind: 'system',
      message: expect.stringMatching(
        /^cannot write the subnet file \/proc\/self\/subnet.env \(E/,
      ) as string,
    });
  });
});

describe('reading', () => {
  const read = async (text: string): ReturnType<typeof readSubnetEnv> => {
    await writeFile(join(directory, 'subnet.env'), text);
    return readSubnetEnv(join(directory, 'subnet.env'));
  };

  it('returns what was written', async () => {
    expect(await read(TEXT)).toEqual(ENV);
  });

  it('ignores lines it does not know', async () => {
    expect(await read('# hello\nFLANNEL_IPV6_SUBNET=x\n\nFLANNEL_SUBNET=10.5.72.1/24\n')).toEqual({
      subnet: parseCidr('test', '10.5.72.0/24'),
    });
  });

  it.each([
    '',
    'nonsense',
    'FLANNEL_SUBNET=',
    'FLANNEL_SUBNET=10.5.72.1',
    'FLANNEL_IPMASQ=maybe',
    'FLANNEL_NETWORK=::/8',
  ])('takes %j for nothing', async (text) => {
    expect(await read(text)).toBeUndefined();
  });

  const SUBNET = { subnet: parseCidr('test', '10.5.72.0/24') };
  it.each([
    ['export FLANNEL_SUBNET=10.5.72.1/24\n', SUBNET],
    ['  export\tFLANNEL_SUBNET="10.5.72.1/24" # by hand\n', SUBNET],
    ["FLANNEL_SUBNET='10.5.72.1/24'\r\nFLANNEL_MTU=1450 # bytes\r\n", { ...SUBNET, mtu: 1450 }],
    ['\uFEFFFLANNEL_SUBNET=10.5.72.1/24', SUBNET],
    ['FLANNEL_SUBNET=10.5.72.1/24;\n', SUBNET],
    ['FLANNEL_SUBNET=10.5.72.1/24,fc00::1/64\n', SUBNET],
    // One line that makes no sense, before or after, or of the very same name.
    ['FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=big', SUBNET],
    ['FLANNEL_NETWORK=::/8\nFLANNEL_SUBNET=10.5.72.1/24', SUBNET],
    ['FLANNEL_IPMASQ=maybe\nFLANNEL_SUBNET=10.5.72.1/24', SUBNET],
    ['FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_SUBNET=\n', SUBNET],
    ['FLANNEL_SUBNET="10.5\n}{ :-(\nFLANNEL_SUBNET=10.5.72.1/24', SUBNET],
    ['FLANNEL_SUBNET=10.5.71.1/24\nFLANNEL_SUBNET=10.5.72.1/24', SUBNET],
  ])('keeps the subnet of %j', async (text, expected) => {
    expect(await read(text)).toEqual(expected);
  });

  it('takes a missing file, a pipe and one too large for nothing', async () => {
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    expect(await readSubnetEnv(join(directory, 'pipe'))).toBeUndefined();
    expect(await read(`${TEXT}${'#'.repeat(100_000)}`)).toBeUndefined();
  });

  it('takes a missing file for nothing', async () => {
    expect(await readSubnetEnv(join(directory, 'none'))).toBeUndefined();
  });
});
