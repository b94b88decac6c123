/** The go command, for programs that are built from their published modules. */
import { spawnSync } from 'node:child_process';

/** What it says on stdout; throws an error that names the command that failed. */
export function go(cwd, args, env = {}) {
  const options = {
    cwd,
    env: { ...process.env, CGO_ENABLED: '0', GOWORK: 'off', ...env },
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  };
  const { status, stdout, stderr, error } = spawnSync('go', args, options);
  if (status === 0) return stdout;
  const said = error?.message ?? stderr.trim().split('\n').at(-1);
  throw new Error(`go ${args[0]}: ${said}`);
}

/** Builds one program of a published module into the folder. */
export function goInstall(folder, program, version) {
  const flags = ['-trimpath', '-ldflags=-s -w'];
  go(folder, ['install', ...flags, `${program}@${version}`], { GOBIN: folder });
}
