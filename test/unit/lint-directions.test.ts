/** The direction rules hold, and the checks that keep them fail on a violation. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..', '..');
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flannelette-lint-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
}

describe('of the C++', () => {
  const check = (where: string) =>
    spawnSync(process.execPath, [join(ROOT, 'scripts', 'check-native-directions.mjs'), where], {
      encoding: 'utf8',
    });

  it('hold', () => {
    expect(check(join(ROOT, 'native'))).toMatchObject({ status: 0, stdout: '' });
  });

  it.each([
    ['core/a.h', '#include "sys/tun.h"\n', 'core may not use sys'],
    ['core/a.cc', '#include <unistd.h>\n', 'core makes no system calls'],
    ['sys/a.h', '#include "engine/engine.h"\n', 'sys may not use engine'],
    ['engine/a.cc', '#  include <napi.h>\n', 'only binding may'],
    ['extra/a.h', '', 'not a layer'],
  ])('%s with %j is refused', (file, text, why) => {
    write({ [file]: text });
    const { status, stdout } = check(directory);
    expect(status).toBe(1);
    expect(stdout).toContain(why);
  });
});

describe('of the TypeScript', () => {
  const check = () =>
    spawnSync(
      join(ROOT, 'node_modules', '.bin', 'depcruise'),
      ['--config', join(ROOT, '.dependency-cruiser.cjs'), 'src'],
      { cwd: directory, encoding: 'utf8' },
    );
  const good = {
    'tsconfig.json': '{}',
    'src/errors.ts': 'export const e = 1;\n',
    'src/dataplane/native.ts': 'export const n = 1;\n',
    'src/dataplane/dataplane.ts': "export { n } from './native.js';\n",
    'src/lease/store.ts': "export { e } from '../errors.js';\n",
    'src/cli/main.ts': "export { e } from '../errors.js';\n",
  };

  it('let what is allowed pass', () => {
    write(good);
    expect(check().status).toBe(0);
  });

  it.each([
    ['src/lease/store.ts', '../dataplane/dataplane.js', 'n', 'leaf-layers'],
    ['src/firewall/rules.ts', '../lease/store.js', 'e', 'firewall-alone'],
    ['src/forward/udp/udp.ts', '../../dataplane/native.js', 'n', 'native-declared-once'],
    ['src/cli/run.ts', '../dataplane/dataplane.js', 'n', 'addon-behind-dataplane'],
    ['src/errors.ts', './cli/main.js', 'e', 'cli-on-top'],
    ['src/lease/store.ts', '../nowhere.js', 'n', 'no-unresolved'],
  ])('%s may not import %s', (file, target, name, rule) => {
    write({ ...good, [file]: `export { ${name} } from '${target}';\n` });
    const { status, stdout } = check();
    expect(status).not.toBe(0);
    expect(stdout).toContain(rule);
  });

  it.each([
    ['koffi', 'koffi-declared-once'],
    ['echarts', 'echarts-in-charts'],
    ['etcd3', 'etcd3-in-tests'],
  ])('%s is where it belongs', (name, rule) => {
    write({
      ...good,
      [`node_modules/${name}/package.json`]: `{"name":"${name}","main":"index.js"}`,
      [`node_modules/${name}/index.js`]: '',
      'src/lease/store.ts': `import '${name}';\n`,
    });
    const { status, stdout } = check();
    expect(status).not.toBe(0);
    expect(stdout).toContain(rule);
  });
});
