/** Runs a program to its end or its time, for the scripts that count what it says. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '..');
/** Characters of output that are kept, the last ones. */
const KEPT = 1_000_000;

/**
 * In a process group of its own, of which all is sent `signal` when the time is over. `stdout` and
 * `output`, which has both streams, are kept; `told` gets each piece as it comes.
 */
export function run([file, ...args], { timeoutMs, signal = 'SIGKILL', env = process.env, told }) {
  return new Promise((done) => {
    const child = spawn(file, args, {
      cwd: ROOT,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const kept = { stdout: '', output: '' };
    const collect = (streams) => (chunk) => {
      for (const stream of streams) kept[stream] = (kept[stream] + chunk).slice(-KEPT);
      told?.(chunk);
    };
    child.stdout.on('data', collect(['stdout', 'output']));
    child.stderr.on('data', collect(['output']));
    const timer = setTimeout(() => {
      kept.output += `\nnot done within ${timeoutMs / 1000} s`;
      process.kill(-child.pid, signal);
    }, timeoutMs);
    child.on('error', (error) => {
      kept.output += error.message;
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      done({ code: code ?? 1, ...kept });
    });
  });
}
