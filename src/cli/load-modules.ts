/**
 * Modules that the kernel does not load by itself when they are asked for, before the privilege to do so is
 * given up. Nothing is lost when it fails: what needs them says then what is missing.
 */
import { spawnSync } from 'node:child_process';

const LIMIT_MS = 10_000;

export function loadModules(names: readonly string[]): void {
  spawnSync('modprobe', ['-q', '-a', ...names], { stdio: 'ignore', timeout: LIMIT_MS });
}
