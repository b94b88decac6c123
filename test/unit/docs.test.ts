/** The documents against the code: what they name exists, and what exists is named. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dockerOptsCommand } from '../../src/cli/docker-opts-command.js';
import { environmentName, flagText, readArguments, resolveFlags } from '../../src/cli/flags.js';
import { daemonOptions, runCommand } from '../../src/cli/run-command.js';
import { runFlags } from '../../src/cli/run-flags.js';
import { flagsWithoutEffect } from '../../src/cli/without-effect.js';
import { Daemon } from '../../src/daemon/daemon.js';
import {
  resolveDaemonOptions,
  validateDaemonOptions,
  type DaemonSettings,
} from '../../src/daemon/options.js';
import { ExitCode } from '../../src/errors.js';
import { KeySpace } from '../../src/lease/etcd/codec.js';
import { ETCD_DEFAULTS, normalizeEtcdOptions } from '../../src/lease/etcd/etcd-options.js';
import { silentLogger } from '../../src/log.js';
import { createMetrics } from '../../src/metrics/metrics.js';
import { toolAt } from '../../src/testbed/tools.js';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** What real flanneld did with each value (test/support/flanneld/record.mjs). */
const FLANNELD = JSON.parse(read('test/support/flanneld/values.json')) as {
  readonly outcomes: Readonly<
    Record<string, readonly (readonly [outcome: string, ...argv: string[]])[]>
  >;
  /** By the last word of the command line: where its leases were, where its health port was. */
  readonly keys: Readonly<Record<string, string>>;
  readonly listens: Readonly<Record<string, string>>;
};

const OPERATIONS = read('docs/operations.md');
const DOCUMENTS = new Map(
  [
    'README.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    'bench/README.md',
    'src/lab/README.md',
    ...readdirSync(join(ROOT, 'docs'))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `docs/${name}`),
    ...readdirSync(join(ROOT, 'docs', 'teaching')).map((name) => `docs/teaching/${name}`),
  ].map((path) => [path, read(path)]),
);
const SOURCES = sourcesBelow('src');

describe('docs/operations.md', () => {
  describe('the table of flags', () => {
    const documented = new Map(
      rowsOf('Flags', 'flag').map((row) => [quotedIn(row.flag)[0] ?? '', row]),
    );

    it('has every flag of run and no other', () => {
      const flags = Object.values(runFlags).map(({ name }) => flagText(name));
      expect([...documented.keys()].sort()).toEqual(flags.sort());
    });

    it.each(Object.entries(runFlags))('has variable and default of %s', (key, flag) => {
      const row = documented.get(flagText(flag.name));
      const variable = flag.argumentOnly === true ? 'none' : `\`${environmentName(flag.name)}\``;
      expect(row?.variable).toBe(variable);
      const value = key === 'etcdEndpoints' ? ETCD_DEFAULTS.endpoints.join(',') : flag.shownDefault;
      expect(row?.default).toBe(value === undefined ? 'none' : `\`${value}\``);
    });

    it('says of every flag how it compares with flanneld', () => {
      for (const { compared = '' } of documented.values()) {
        expect(compared).toMatch(/^(same|ours|refused|ignored|differs: \S.*)$/);
      }
    });
  });

  describe('compares with what flanneld was seen to do', () => {
    /** Where it is what the value does that differs, and not whether it is taken. */
    const OTHERWISE = ['--etcd-cafile', '--version'];
    const rows = rowsOf('Flags', 'flag').filter(({ compared }) => compared !== 'ours');

    it('for every flag of flanneld', () => {
      const names = rows.map(({ flag }) => quotedIn(flag)[0]?.replace(/^-+/, ''));
      expect(names.sort()).toEqual(Object.keys(FLANNELD.outcomes).sort());
    });

    it.each(rows)('$flag: $compared', ({ flag: cell, compared = '' }) => {
      const flag = quotedIn(cell)[0] ?? '';
      const values = FLANNELD.outcomes[flag.replace(/^-+/, '')] ?? [];
      expect(values.length).toBeGreaterThan(1);
      const others = values.filter(([outcome, ...argv]) => !isSame(outcome, argv));
      if (compared === 'same' || OTHERWISE.includes(flag)) expect(others).toEqual([]);
      else if (compared === 'ignored') for (const [, ...argv] of values) expectIgnored(argv);
      else if (compared === 'refused')
        expect(values.some(([, ...argv]) => isRefused(argv))).toBe(true);
      else expect(others).not.toEqual([]);
    });
  });

  it('and the help say of the same flags that they are refused or ignored', () => {
    const rows = rowsOf('Flags', 'flag');
    for (const [, flag] of Object.entries(runFlags)) {
      const row = rows.find((candidate) => quotedIn(candidate.flag)[0] === flagText(flag.name));
      for (const word of ['refused', 'ignored']) {
        expect([flag.name, flag.help.startsWith(word)]).toEqual([
          flag.name,
          row?.compared === word,
        ]);
      }
    }
  });

  it('names every metric there is, with its meaning', () => {
    const rows = rowsOf('Metrics', 'metric');
    expect(rows.map((row) => quotedIn(row.metric)[0]).sort()).toEqual([...metricNames()].sort());
    for (const { meaning } of rows) expect(meaning).not.toBe('');
  });

  it('names every drop reason there is', () => {
    const counters = read('native/core/counters.h');
    const names = /kDropReasons> names = \{([^}]*)\}/.exec(counters)?.[1] ?? '';
    const reasons = [...names.matchAll(/"(\w+)"/g)].map((match) => match[1]);
    expect(reasons.length).toBeGreaterThan(0);
    expect(rowsOf('Drop reasons', 'reason').map((row) => quotedIn(row.reason)[0])).toEqual(reasons);
  });

  it('names every problem there is', () => {
    const naming = SOURCES.filter((text) => /import .*\bProblem\b/.test(text)).join('\n');
    const ids = [...naming.matchAll(/\bid: '([a-z_]+)'/g)].map((match) => match[1]);
    const named = rowsOf('Problems', 'problem').map((row) => quotedIn(row.problem)[0]);
    expect(ids.length).toBeGreaterThan(0);
    expect([...new Set(ids)].filter((id) => !named.includes(id))).toEqual([]);
  });

  it('has the fields of /readyz', () => {
    const options = daemonOptions(resolveFlags(runFlags, readArguments([], runCommand), {}));
    const readiness = new Daemon(options, silentLogger()).readiness();
    const rows = rowsOf('Health and metrics', 'field');
    expect(rows.map((row) => quotedIn(row.field)[0])).toEqual(Object.keys(readiness));
    const store = rows.find((row) => quotedIn(row.field)[0] === 'store');
    expect(quotedIn(store?.meaning).sort()).toEqual(Object.keys(readiness.store).sort());
  });

  it('has a row for every problem that can be found', () => {
    const ids = SOURCES.filter((text) => /problems\.js'/.test(text)).flatMap((text) =>
      [...text.matchAll(/\bid: '([a-z0-9_]+)'/g)].map((match) => match[1]),
    );
    expect(ids).toContain('all_leases_rejected');
    const rows = rowsOf('Problems', 'problem').map((row) => quotedIn(row.problem)[0]);
    for (const id of ids) expect(rows).toContain(id);
  });

  describe('the unit', () => {
    const UNIT = 'deploy/flannelette.service';

    it('is the file in deploy', () => {
      expect(OPERATIONS).toContain(`\`\`\`ini\n${read(UNIT)}\`\`\`\n`);
    });

    it('starts the command that the package has, with flags it has', () => {
      const main = (JSON.parse(read('package.json')) as { bin: { flannelette: string } }).bin;
      const path = `/usr/lib/node_modules/flannelette/${main.flannelette}`;
      const starts = [...read(UNIT).matchAll(/^ExecStart(?:Post)?=((?:.*\\\n)*.*)/gm)].map(
        ([, line = '']) => line.replaceAll(/\s*\\\n\s*/g, ' '),
      );
      expect(starts[0]).toBe(`/usr/bin/node --v8-pool-size=0 ${path} run`);
      const words = starts[1]?.replace(`/usr/bin/node ${path} docker-opts `, '').split(' ') ?? [];
      expect(() => readArguments(words, dockerOptsCommand)).not.toThrow();
      expect(starts).toHaveLength(2);
    });

    it('does not try again what only another command line mends', () => {
      const codes = `${ExitCode.usage} ${ExitCode.steppedAside}`;
      expect(read(UNIT)).toContain(`\nRestartPreventExitStatus=${codes}\n`);
    });

    const analyze = toolAt('systemd-analyze');
    it.skipIf(analyze === undefined)('is sound and tight to systemd-analyze', () => {
      const call = (...argv: string[]) =>
        spawnSync(analyze ?? '', [...argv, join(ROOT, UNIT)], { encoding: 'utf8' });
      const { stderr } = call('verify');
      // Where it will be installed is not where it is tested.
      const complaints = stderr
        .split('\n')
        .filter((line) => !line.includes('/usr/bin/node'))
        // systemd before 254.
        .filter((line) => !/Unknown key '(RestartSteps|RestartMaxDelaySec)'/.test(line));
      expect(complaints.join('')).toBe('');
      const { status, stdout } = call('security', '--offline=true', '--threshold=30', '--no-pager');
      expect([status, stdout.trim().split('\n').at(-1)]).toEqual([
        0,
        expect.stringMatching(/exposure level for flannelette\.service: [0-3]\.\d OK/),
      ]);
    });
  });

  it('has the exit codes', () => {
    const codes = rowsOf('Exit codes', 'code').map((row) => Number(quotedIn(row.code)[0]));
    expect(codes).toEqual(Object.values(ExitCode));
  });

  describe('the troubleshooting table', () => {
    const rows = rowsOf('Troubleshooting', 'symptom');
    const COLUMN = 'log line or message';
    const lines = [...new Set(rows.flatMap((row) => quotedIn(row[COLUMN])))];

    it('has a symptom, a cause and an advice in every row', () => {
      expect(rows.length).toBeGreaterThan(15);
      for (const row of rows) {
        for (const column of ['symptom', 'cause', 'what to do']) expect(row[column]).not.toBe('');
      }
    });

    it.each(lines)('quotes what the code says: %s', (line) => {
      // An ellipsis stands for what varies; the parts around it are of one file.
      const parts = line.split('…').map((part) => part.trim());
      const found = SOURCES.some((text) => parts.every((part) => text.includes(part)));
      expect(found).toBe(true);
    });
  });
});

describe.each([...DOCUMENTS])('%s', (document, text) => {
  it('names no metric that is not there', () => {
    const known = metricNames();
    for (const [name] of text.matchAll(/\bflannelette_[a-z_]+/g)) {
      expect(known).toContain(name.replace(/_(bucket|sum|count)$/, ''));
    }
  });

  it('names no variable of a flag that is not there', () => {
    const known = Object.values(runFlags).map(({ name }) => environmentName(name));
    for (const [name] of text.matchAll(/\bFLANNELD_[A-Z][A-Z0-9_]*/g)) {
      if (name !== 'FLANNELD_NAME') expect(known).toContain(name);
    }
  });

  it('shows command lines of run that are valid', () => {
    for (const line of text.split('\n')) {
      const [, words] = /^\s*(?:\w+=\S+ )?flannelette run\b([^`#&|]*)/.exec(line) ?? [];
      if (words === undefined) continue;
      const argv = words.split(/\s+/).filter((word) => word !== '' && word !== '...');
      const values = resolveFlags(runFlags, readArguments(argv, runCommand), {});
      expect(() => {
        validateDaemonOptions(resolveDaemonOptions(daemonOptions(values, POD)));
      }, line).not.toThrow();
    }
  });

  it('links to files and headings that are there', () => {
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target.includes('://')) continue;
      const [file = '', anchor] = target.split('#');
      const path = file === '' ? document : join(document, '..', file);
      const there = DOCUMENTS.get(path) ?? read(path);
      if (anchor !== undefined) expect(headingAnchors(there)).toContain(anchor);
    }
  });
});

describe('docs/kubernetes.md', () => {
  const page = DOCUMENTS.get('docs/kubernetes.md') ?? '';
  const rows = page
    .split('\n')
    .filter((line) => / \| `.*` \|/.test(line) && !line.includes('.com/'));
  /** As they are made up in the source, of which each is a part. */
  const words = SOURCES.join('\n').replaceAll(/\$\{[^}]*\}/g, '…');

  it('quotes log lines as the code has them', () => {
    const quoted = rows.flatMap((row) => [...(row.split(' | ')[2] ?? '').matchAll(/`([^`]+)`/g)]);
    expect(quoted.length).toBeGreaterThan(10);
    for (const [, line = ''] of quoted) {
      // What varies: names, values and addresses.
      const parts = line.split(/node-\d|"[^"]*"|10\.[\d./]+|\(missing\)|\/[a-z/.-]+json/);
      for (const part of parts.filter((one) => one.trim().length > 3)) {
        if (line.startsWith('open /run')) continue;
        expect([line, words.includes(part.trim().replace(/^: |:$/g, ''))]).toEqual([line, true]);
      }
    }
  });

  it('names problems and a manifest that are there', () => {
    for (const [, id] of page.matchAll(/`(kube_[a-z_]+|config_[a-z]+)`/g)) {
      expect(rowsOf('Problems', 'problem').map((row) => quotedIn(row.problem)[0])).toContain(id);
    }
    expect(existsSync(join(ROOT, 'deploy', 'kube-flannelette.yml'))).toBe(true);
  });
});

describe.each([...DOCUMENTS].filter(([path]) => /teaching\/\d/.test(path)))('%s', (path, text) => {
  const PROMPT = /^(\$|host-\d#|container-\d#) \S/;

  it('has commands, each with the output of a real run', () => {
    const blocks = [...text.matchAll(/^```console\n(.*?)^```$/gms)].map(([, lines = '']) => lines);
    expect(blocks).not.toEqual([]);
    for (const block of blocks) {
      const lines = block.trimEnd().split('\n');
      expect(lines[0]).toMatch(PROMPT);
      const silent = lines.filter(
        (line, at) => PROMPT.test(line) && PROMPT.test(lines[at + 1] ?? '$ end'),
      );
      expect(silent).toEqual([]);
    }
  });

  it('has an answer to every question, and is in the list of lessons', () => {
    const items = (title: string): number =>
      [...(text.split(`## ${title}\n`)[1]?.split('\n## ')[0] ?? '').matchAll(/^\d\. /gm)].length;
    expect(items('Questions')).toBeGreaterThanOrEqual(3);
    expect(items('Answers')).toBe(items('Questions'));
    expect(DOCUMENTS.get('docs/teaching/README.md')).toContain(`](${path.split('/').at(-1)})`);
  });
});

/** What the kubelet gives a pod of the manifest. */
const POD = {
  NODE_NAME: 'node-1',
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
};
/** Values that are found to be none only when the host is looked at. */
const ENDS_LATER: readonly string[] = ['-iface='];
/** As flanneld: the value is taken or not, and is the same prefix and address if it is one. */
function isSame(outcome: string, argv: readonly string[]): boolean {
  const last = argv.at(-1) ?? '';
  let options: DaemonSettings;
  try {
    const values = resolveFlags(runFlags, readArguments(argv, runCommand), {});
    // It prints, and ends.
    if (values.version) return outcome === 'ends';
    options = resolveDaemonOptions(daemonOptions(values));
    validateDaemonOptions(options);
  } catch {
    return outcome === 'ends';
  }
  if (argv.length > 1 && ENDS_LATER.includes(last)) return outcome === 'ends';
  const key = FLANNELD.keys[last];
  const ours = new KeySpace(
    normalizeEtcdOptions(options.store.kind === 'etcd' ? options.store : ETCD_DEFAULTS).prefix,
  ).subnets;
  if (key !== undefined && key !== ours) return false;
  // Every address, of IPv6 too, or one.
  const listens = FLANNELD.listens[last]?.replace(/:\d+$/, '').replace('*', '');
  const ip = options.healthzIp === 'localhost' ? '127.0.0.1' : options.healthzIp;
  return outcome === 'runs' && (listens === undefined || listens === ip);
}

function isRefused(argv: readonly string[]): boolean {
  try {
    resolveFlags(runFlags, readArguments(argv, runCommand), {});
    return false;
  } catch {
    return true;
  }
}

/** Taken, and warned about when it says something. */
function expectIgnored(argv: readonly string[]): void {
  const given = readArguments(argv, runCommand);
  expect(() => daemonOptions(resolveFlags(runFlags, given, {}))).not.toThrow();
  const warned = flagsWithoutEffect(runFlags, given, {});
  expect(warned).toHaveLength(argv.at(-1)?.endsWith('=') === true ? 0 : 1);
}

type Row = Readonly<Record<string, string | undefined>>;

/** The rows of the first table below a heading whose first column has this title. */
function rowsOf(heading: string, first: string): readonly Row[] {
  const [, section = ''] = OPERATIONS.split(new RegExp(`^##+ ${heading}$`, 'm'));
  const lines = section.split('\n');
  const start = lines.findIndex((line) => cellsOf(line)[0] === first);
  expect(start, `a table of ${first} below ${heading}`).toBeGreaterThanOrEqual(0);
  const titles = cellsOf(lines[start] ?? '');
  const rest = lines.slice(start + 2);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  return rest.slice(0, end).map((line) => {
    const cells = cellsOf(line);
    expect(cells, line).toHaveLength(titles.length);
    return Object.fromEntries(titles.map((title, index) => [title, cells[index]]));
  });
}

/** Cells of a table's line; a bar inside backticks is written `\|`. */
function cellsOf(line: string): string[] {
  if (!line.startsWith('|')) return [];
  const cells = line.split(/(?<!\\)\|/).slice(1, -1);
  return cells.map((cell) => cell.trim());
}

function quotedIn(text = ''): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '');
}

function headingAnchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

function metricNames(): ReadonlySet<string> {
  const metrics = createMetrics({
    version: '',
    mode: '',
    sample: () => {
      throw new Error('nothing is scraped');
    },
  });
  const names = metrics.registry.getMetricsAsArray().map(({ name }) => name);
  metrics.close();
  return new Set(names.filter((name) => name.startsWith('flannelette_')));
}

/** Texts of the source files, their strings joined that run over several lines. */
function sourcesBelow(directory: string): string[] {
  return readdirSync(join(ROOT, directory), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => read(join(directory, name)).replaceAll(/['`]\s*\+\s*['`]/g, ''));
}

describe('CONTRIBUTING.md', () => {
  it('says where things go by files that are there', () => {
    const text = DOCUMENTS.get('CONTRIBUTING.md') ?? '';
    const section = text.slice(text.indexOf('## Where things go'), text.indexOf('## Dependencies'));
    const paths = Array.from(
      section.matchAll(/`((?:src|native|bench)\/[^`]+)`/g),
      ([, path]) => path,
    );
    expect(paths.length).toBeGreaterThan(10);
    const missing = paths.filter(
      (path) => path !== undefined && !path.includes('NAME') && !existsSync(join(ROOT, path)),
    );
    expect(missing).toEqual([]);
  });
});
