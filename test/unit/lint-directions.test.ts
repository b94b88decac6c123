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
  interface Cruised {
    readonly summary: {
      readonly violations: readonly {
        readonly from: string;
        readonly rule: { readonly name: string };
      }[];
    };
  }
  /** Each broken rule with the file that breaks it. */
  const violations = (): string[] => {
    const { stdout } = spawnSync(
      join(ROOT, 'node_modules', '.bin', 'depcruise'),
      ['--config', join(ROOT, '.dependency-cruiser.cjs'), '--output-type', 'json', 'src'],
      { cwd: directory, encoding: 'utf8', maxBuffer: 16 * 1024 * 1024 },
    );
    const { summary } = JSON.parse(stdout) as Cruised;
    return summary.violations.map(({ from, rule }) => `${from}: ${rule.name}`).sort();
  };
  const good = {
    'tsconfig.json': '{}',
    'src/errors.ts': 'export const e = 1;\n',
    'src/dataplane/native.ts': 'export const n = 1;\n',
    'src/dataplane/dataplane.ts': "export { n } from './native.js';\n",
    'src/forward/udp/udp-settings.ts': "export { e } from '../../errors.js';\n",
    'src/network/registry.ts': "export { e } from '../forward/udp/udp-settings.js';\n",
    'src/lease/store.ts': "export { e } from '../errors.js';\n",
    'src/cli/main.ts': "export { e } from '../errors.js';\n",
  };
  /** A file, what it imports, and the rule that forbids it. */
  const imports = [
    ['src/lease/device.ts', '../dataplane/dataplane.js', 'leaf-layers'],
    ['src/lease/etcd.ts', 'etcd3', 'etcd3-in-tests'],
    ['src/lease/lost.ts', '../nowhere.js', 'no-unresolved'],
    ['src/firewall/rules.ts', '../lease/store.js', 'firewall-alone'],
    ['src/forward/udp/udp.ts', '../../dataplane/native.js', 'native-declared-once'],
    ['src/daemon/loop.ts', '../forward/udp/udp-settings.js', 'forwarders-behind-registry'],
    ['src/cli/run-command.ts', '../dataplane/dataplane.js', 'addon-behind-dataplane'],
    ['src/text.ts', './cli/main.js', 'cli-on-top'],
    ['src/host/calls.ts', 'koffi', 'koffi-declared-once'],
    ['src/host/charts.ts', 'echarts', 'echarts-in-charts'],
  ] as const;

  it('let what is allowed pass', () => {
    write(good);
    expect(violations()).toEqual([]);
  });

  it('name every file that breaks one, and the rule', () => {
    write(good);
    for (const name of ['koffi', 'echarts', 'etcd3']) {
      write({
        [`node_modules/${name}/package.json`]: `{"name":"${name}","main":"index.js"}`,
        [`node_modules/${name}/index.js`]: '',
      });
    }
    for (const [file, target] of imports) write({ [file]: `import '${target}';\n` });
    const found = violations();
    for (const [file, , rule] of imports) expect(found).toContain(`${file}: ${rule}`);
    const planted = imports.map(([file]): string => file);
    expect(found.filter((line) => !planted.includes(line.split(':')[0] ?? ''))).toEqual([]);
  });
});
