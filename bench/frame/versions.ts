/** Which state of the sources and of other programs a result belongs to. */
import { execFileSync } from 'node:child_process';

/** The short hash of HEAD, with `, changed` when files differ from it; `unknown` without git. */
export function describeCommit(root: string): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: 'pipe' }).trim();
    const dirty = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ', changed';
    return `${git('rev-parse', '--short', 'HEAD')}${dirty}`;
  } catch {
    return 'unknown';
  }
}

/** Debian packages with their versions; `unknown` where dpkg does not know. */
export function describePackages(names: readonly string[]): string {
  try {
    const argv = ['-W', '-f', '${Package} ${Version}\\n', ...names];
    const found = execFileSync('dpkg-query', argv, { encoding: 'utf8', stdio: 'pipe' });
    return found.trim().split('\n').join(', ');
  } catch {
    return 'unknown';
  }
}
