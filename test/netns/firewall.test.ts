/**
 * The firewall's rules in a kernel: a network namespace of its own per test, the machine's iptables
 * and nft run in it by the module's command prefix.
 */
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/config/ipv4.js';
import {
  createFirewall,
  FirewallKeeper,
  otherIptables,
  watchRules,
  type Firewall,
  type FirewallPlan,
} from '../../src/firewall/firewall.js';
import { nftTable } from '../../src/firewall/rules.js';
import { inNamespace, Program, run, waitFor } from '../../src/testbed/programs.js';
import { silentLogger } from '../../src/log.js';
import {
  FILTER_RULES,
  FORWARD_JUMP,
  MASQ_JUMP,
  natRules,
  savedTable,
} from '../support/firewall-rules.js';
import { requireIsolation } from '../support/test-lab.js';

const NAMESPACE = 'firewall';
const PREFIX = inNamespace(NAMESPACE, []);
const PLAN: FirewallPlan = {
  network: parseCidr('network', '100.96.0.0/16'),
  subnet: parseCidr('subnet', '100.96.1.0/24'),
  masquerade: true,
  forward: true,
  randomFully: true,
};
/** Of another daemon on the same host. */
const BLUE: FirewallPlan = {
  ...PLAN,
  network: parseCidr('network', '100.97.0.0/16'),
  subnet: parseCidr('subnet', '100.97.1.0/24'),
};
const PLANS = [
  PLAN,
  BLUE,
  {
    ...BLUE,
    network: parseCidr('network', '10.0.0.0/8'),
    subnet: parseCidr('subnet', '10.1.2.0/24'),
  },
];
const GUARDED: FirewallPlan = { ...PLAN, tunnel: { port: 8285, device: 'eth0', direct: false } };
const NOTHING: FirewallPlan = { ...PLAN, masquerade: false, forward: false };

const NAT = natRules('100.96.1.0/24');
/** As flanneld v0.28 leaves it, by nft 1.0. */
const NFT = `table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr 100.96.1.0/24 ip daddr 100.96.0.0/16 return
		ip saddr 100.96.0.0/16 ip daddr 100.96.1.0/24 return
		ip saddr != 100.96.1.0/24 ip daddr 100.96.0.0/16 return
		ip saddr 100.96.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 100.96.0.0/16 ip daddr 100.96.0.0/16 masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 100.96.0.0/16 accept
		ip daddr 100.96.0.0/16 accept
	}
}
`;

const within = async (...argv: string[]): Promise<string> =>
  (await run(inNamespace(NAMESPACE, argv))).stdout;

const saved = (table: string) => savedTable(NAMESPACE, table);
const nftRules = () => within('nft', 'list', 'ruleset');
const iptables = (command: string) => within('iptables', ...command.split(' '));

beforeEach(async () => {
  await requireIsolation();
  await run(['ip', 'netns', 'add', NAMESPACE]);
});
afterEach(async () => {
  await run(['ip', 'netns', 'delete', NAMESPACE]);
});

describe('iptables', () => {
  let firewall: Firewall;
  beforeEach(() => {
    firewall = createFirewall('iptables', silentLogger(), PREFIX);
  });

  it('has the rules of flanneld, and a second apply changes nothing', async () => {
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await saved('nat')).toBe(NAT);
    expect(await saved('filter')).toBe(FILTER_RULES);
    expect(await firewall.apply(PLAN)).toBe(false);
    // A new process, with nothing remembered.
    expect(await createFirewall('iptables', silentLogger(), PREFIX).apply(PLAN)).toBe(false);
  });

  it('guards the tunnel, puts that back, and takes it away with the rest', async () => {
    const rules = [
      '-A FORWARD -m comment --comment "flannelette guard" -j FLANNELETTE-GUARD',
      '-A FLANNELETTE-GUARD -s 100.96.1.0/24 -o eth0 -p udp -m udp --dport 8285 -m comment --comment "flannelette guard" -j DROP',
    ];
    const guard = async () => (await saved('mangle')).match(/^-A .*/gm) ?? [];
    await firewall.apply(GUARDED);
    expect(await guard()).toEqual(rules);
    expect(await saved('filter')).toBe(FILTER_RULES);
    expect(await firewall.apply(GUARDED)).toBe(false);
    await within('iptables', '-t', 'mangle', '-F', 'FLANNELETTE-GUARD');
    expect(await firewall.apply(GUARDED)).toBe(true);
    expect(await guard()).toEqual(rules);
    const moved = { port: 8472, device: 'eth1', direct: true };
    expect(await firewall.apply({ ...GUARDED, tunnel: moved })).toBe(true);
    expect((await guard())[1]).toContain('! -d 100.96.0.0/16 -o eth1 -p udp -m udp --dport 8472');
    expect(await firewall.apply({ ...GUARDED, tunnel: moved })).toBe(false);
    await firewall.clean(GUARDED);
    expect(await saved('mangle')).not.toContain('FLANNELETTE');
  });

  it('masquerades without --random-fully when not asked for', async () => {
    await firewall.apply(PLAN);
    expect(await firewall.apply({ ...PLAN, randomFully: false })).toBe(true);
    expect(await saved('nat')).toBe(NAT.replaceAll(' --random-fully', ''));
  });

  it('leaves the nat table alone when not masquerading', async () => {
    expect(await firewall.apply({ ...PLAN, masquerade: false })).toBe(true);
    expect(await nftRules()).not.toContain('table ip nat');
    expect(await saved('filter')).toBe(FILTER_RULES);
  });

  it('removes what an earlier run left and is not wanted any more', async () => {
    await firewall.apply(PLAN);
    expect(await firewall.apply({ ...PLAN, masquerade: false })).toBe(true);
    expect(await saved('nat')).not.toMatch(/flannel/i);
    expect(await saved('filter')).toBe(FILTER_RULES);
    expect(await firewall.apply(NOTHING)).toBe(true);
    expect(await saved('filter')).not.toMatch(/flannel/i);
    expect(await firewall.apply(NOTHING)).toBe(false);
  });

  it.each([
    ['a rule deleted', '-t nat -D FLANNEL-POSTRTG 3'],
    ['a chain flushed', '-t nat -F FLANNEL-POSTRTG'],
    ['another chain flushed', '-F FLANNEL-FWD'],
    ['a jump deleted with all of its chain', '-t nat -F POSTROUTING'],
    ['a whole table flushed', '-t filter -F'],
  ])('is repaired: %s', async (_what, command) => {
    await firewall.apply(PLAN);
    await iptables(command);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await saved('nat')).toBe(NAT);
    expect(await saved('filter')).toBe(FILTER_RULES);
  });

  it('is repaired: a jump there three times', async () => {
    await firewall.apply(PLAN);
    const restore = inNamespace(NAMESPACE, ['iptables-restore', '--noflush']);
    await run(restore, { input: `*nat\n${MASQ_JUMP}\n${MASQ_JUMP}\nCOMMIT\n` });
    expect((await saved('nat')).split(MASQ_JUMP)).toHaveLength(4);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await saved('nat')).toBe(NAT);
  });

  it.each([
    ['subnet', { subnet: parseCidr('subnet', '100.96.77.0/24') }],
    [
      'network',
      {
        network: parseCidr('network', '10.244.0.0/16'),
        subnet: parseCidr('subnet', '10.244.3.0/24'),
        // As subnet.env of the run before says.
        formerNetwork: PLAN.network,
      },
    ],
  ])('is made anew when the %s changed, with nothing of the old left', async (_what, change) => {
    const plan: FirewallPlan = { ...PLAN, ...change };
    await firewall.apply(PLAN);
    expect(await createFirewall('iptables', silentLogger(), PREFIX).apply(plan)).toBe(true);
    const nat = await saved('nat');
    expect(nat.split(MASQ_JUMP)).toHaveLength(2);
    expect(nat).not.toContain('100.96.1.0');
    await firewall.apply({ ...PLAN, formerNetwork: plan.network });
    expect(await saved('nat')).toBe(NAT);
    expect(await saved('filter')).toBe(FILTER_RULES);
  });

  it('leaves the rules of others as they are, and their order', async () => {
    const others = [
      '-P FORWARD DROP',
      '-N DOCKER',
      '-A DOCKER -d 172.17.0.2/32 -j ACCEPT',
      '-A FORWARD -o docker0 -j DOCKER',
      '-t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE',
      '-t nat -N FLANNEL-POSTRTG2',
      '-t nat -A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080',
      '-t mangle -A FORWARD -p tcp -m tcp --syn -j TCPMSS --set-mss 1300',
    ];
    for (const command of others) await iptables(command);
    const tables = async () => Promise.all(['nat', 'filter', 'mangle'].map(saved));
    const before = await tables();
    expect(before.join('')).toContain('-A FORWARD -o docker0 -j DOCKER');
    await firewall.apply(PLAN);
    await iptables('-t nat -F FLANNEL-POSTRTG');
    await firewall.apply(PLAN);
    const own = /^(-A |:)FLANNEL-(POSTRTG|FWD) .*\n|^-A .*-j FLANNEL-(POSTRTG|FWD)\n/gm;
    expect((await tables()).map((text) => text.replaceAll(own, ''))).toEqual(before);
    await firewall.clean(PLAN);
    expect(await tables()).toEqual(before);
  });

  describe('with others in the chains', () => {
    const masq = (match: string, target: string) => [
      ...['-t', 'nat', '-A', 'FLANNEL-POSTRTG', ...match.split(' ')],
      ...['-m', 'comment', '--comment', 'flanneld masq', '-j', target],
    ];
    const own = (text: string): string[] =>
      text.split('\n').filter((line) => /^-A FLANNEL.*100\.96\./.test(line));

    it('stands beside a daemon with another Network, whoever comes and goes', async () => {
      const blue = createFirewall('iptables', silentLogger(), PREFIX);
      await Promise.all([firewall.apply(PLAN), blue.apply(BLUE)]);
      for (let round = 0; round < 3; round += 1) {
        expect(await firewall.apply(PLAN)).toBe(false);
        expect(await blue.apply(BLUE)).toBe(false);
      }
      const both = await saved('nat');
      expect(both.split(MASQ_JUMP)).toHaveLength(2);
      expect(both.match(/100\.97\.1\.0\/24/g)).toHaveLength(3);
      // One takes another subnet, and then ends for good.
      const moved = { ...BLUE, subnet: parseCidr('subnet', '100.97.7.0/24') };
      expect(await blue.apply(moved)).toBe(true);
      expect(await firewall.apply(PLAN)).toBe(false);
      expect(await saved('nat')).not.toContain('100.97.1.0');
      expect(await blue.apply({ ...moved, masquerade: false, forward: false })).toBe(true);
      expect(await firewall.apply(PLAN)).toBe(false);
      expect(await saved('nat')).toBe(NAT);
      expect(await saved('filter')).toBe(FILTER_RULES);
    });

    it('is not emptied by the start of another daemon', async () => {
      const kept = PLANS.map((plan) => ({
        plan,
        daemon: createFirewall('iptables', silentLogger(), PREFIX),
      }));
      await Promise.all(kept.map(async ({ daemon, plan }) => daemon.apply(plan)));
      for (const { daemon, plan } of kept) expect(await daemon.apply(plan)).toBe(false);
    });

    it('comes back beside a flanneld that emptied the chains and goes on checking', async () => {
      await firewall.apply(PLAN);
      // As flanneld starts: the chain cleared, the jump taken and appended, its rules behind it.
      await iptables('-t nat -F FLANNEL-POSTRTG');
      for (const [match, target] of [
        ['-m mark --mark 0x4000/0x4000', 'RETURN'],
        ['-s 100.97.1.0/24 -d 100.97.0.0/16', 'RETURN'],
        ['-s 100.97.0.0/16 ! -d 224.0.0.0/4', 'MASQUERADE'],
      ] as const) {
        await within('iptables', ...masq(match, target));
      }
      const theirs = (await saved('nat')).match(/^-A FLANNEL-POSTRTG .*$/gm);
      expect(await firewall.apply(PLAN)).toBe(true);
      const rules = (await saved('nat')).match(/^-A FLANNEL-POSTRTG .*$/gm);
      expect(rules?.slice(0, 3)).toEqual(theirs);
      expect(rules).toHaveLength(8);
      expect(await firewall.apply(PLAN)).toBe(false);
    });

    it.each([
      ['in front', '-t nat -I FLANNEL-POSTRTG 1 -d 192.0.2.0/24 -j RETURN'],
      ['between', '-t nat -I FLANNEL-POSTRTG 4 -d 192.0.2.0/24 -j ACCEPT'],
      ['behind', '-t nat -A FLANNEL-POSTRTG -s 192.0.2.0/24 -j MASQUERADE'],
      ['for forwarding', '-I FLANNEL-FWD 2 -s 192.0.2.0/24 -j DROP'],
    ])(
      "leaves an operator's rule %s, also when ours are repaired and when they go",
      async (_what, command) => {
        await firewall.apply(PLAN);
        await iptables(command);
        expect(await firewall.apply(PLAN)).toBe(false);
        const before = await Promise.all(['nat', 'filter'].map(saved));
        await within(
          'iptables',
          ...masq('-s 100.96.0.0/16 -d 100.96.1.0/24', 'RETURN').with(2, '-D'),
        );
        await within(
          'iptables',
          '-D',
          'FLANNEL-FWD',
          '-d',
          '100.96.0.0/16',
          '-m',
          'comment',
          '--comment',
          'flanneld forward',
          '-j',
          'ACCEPT',
        );
        expect(await firewall.apply(PLAN)).toBe(true);
        const after = await Promise.all(['nat', 'filter'].map(saved));
        expect(after.flatMap(own)).toEqual(before.flatMap(own));
        expect(after.join('')).toContain('192.0.2.0/24');
        await firewall.clean(PLAN);
        const left = await Promise.all(['nat', 'filter'].map(saved));
        expect(left.join('')).toContain('192.0.2.0/24');
        expect(left.flatMap(own)).toEqual([]);
      },
    );
  });

  describe('where FORWARD refuses everything', () => {
    const forward = async () =>
      (await saved('filter')).split('\n').filter((line) => line.startsWith('-A FORWARD'));
    const REJECT = '-A FORWARD -j REJECT --reject-with icmp-host-prohibited';

    it('stands before that, behind the rules of an operator, and stays there', async () => {
      const specific = '-A FORWARD -s 192.0.2.0/24 -j DROP';
      for (const rule of [specific, REJECT]) await iptables(rule);
      expect(await firewall.apply(PLAN)).toBe(true);
      expect(await forward()).toEqual([specific, FORWARD_JUMP, REJECT]);
      expect(await firewall.apply(PLAN)).toBe(false);
      // A firewall's reload.
      await iptables('-F FORWARD');
      for (const rule of [specific, REJECT]) await iptables(rule);
      expect(await firewall.apply(PLAN)).toBe(true);
      expect(await forward()).toEqual([specific, FORWARD_JUMP, REJECT]);
      await firewall.clean(PLAN);
      expect(await forward()).toEqual([specific, REJECT]);
    });

    it('moves when an operator puts that in front, and tells which rule it is', async () => {
      const told: Record<string, unknown>[] = [];
      const log = pino(
        {},
        {
          write: (line: string) => told.push(JSON.parse(line) as object & Record<string, unknown>),
        },
      );
      const telling = createFirewall('iptables', log, PREFIX);
      await telling.apply(PLAN);
      expect(told).toEqual([]);
      await iptables(REJECT.replace('-A FORWARD', '-I FORWARD 1'));
      expect(await telling.apply(PLAN)).toBe(true);
      expect(await forward()).toEqual([FORWARD_JUMP, REJECT]);
      expect(told).toHaveLength(1);
      expect(told[0]).toMatchObject({ level: 40, rule: REJECT });
    });

    it('stands inside the chain that does, before its last word', async () => {
      await iptables('-N DOCKER-USER');
      await iptables('-A FORWARD -j DOCKER-USER');
      const user = ['-A DOCKER-USER -s 192.0.2.0/24 -j DROP', '-A DOCKER-USER -j DROP'];
      for (const rule of user) await iptables(rule);
      const chain = async () =>
        (await saved('filter')).split('\n').filter((line) => line.startsWith('-A DOCKER-USER'));
      expect(await firewall.apply(PLAN)).toBe(true);
      const jump = '-A DOCKER-USER -m comment --comment "flannelette forward" -j FLANNEL-FWD';
      expect(await chain()).toEqual(user.toSpliced(1, 0, jump));
      expect(await forward()).toEqual(['-A FORWARD -j DOCKER-USER', FORWARD_JUMP]);
      expect(await firewall.apply(PLAN)).toBe(false);
      await iptables('-D DOCKER-USER -j DROP');
      expect(await firewall.apply(PLAN)).toBe(true);
      expect(await chain()).toEqual(user.slice(0, 1));
      await iptables('-A DOCKER-USER -j DROP');
      await firewall.apply(PLAN);
      await firewall.clean(PLAN);
      expect(await chain()).toEqual(user);
      expect(await saved('filter')).not.toContain('FLANNEL');
    });
  });

  it('keeps a chain that another rule leads to, but empty', async () => {
    await firewall.apply(PLAN);
    await iptables('-A INPUT -i eth9 -j FLANNEL-FWD');
    expect(await firewall.apply(NOTHING)).toBe(true);
    expect(await saved('filter')).toContain(
      ':FLANNEL-FWD - [0:0]\n-A INPUT -i eth9 -j FLANNEL-FWD',
    );
    expect(await firewall.apply(NOTHING)).toBe(false);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await saved('filter')).toContain(`-j FLANNEL-FWD\n${FORWARD_JUMP}\n`);
  });
});

describe('iptables of another release', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'flannelette-iptables-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** A program that comes before the machine's own of this name. */
  async function stand(name: string, script: string): Promise<void> {
    await writeFile(join(directory, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  function behind(warnings: string[]): Firewall {
    const log = pino({}, { write: (line: string) => warnings.push(line) });
    return createFirewall('iptables', log, [
      ...PREFIX,
      'env',
      `PATH=${directory}:/usr/sbin:/usr/bin:/bin`,
    ]);
  }

  it('before 1.6.2 gets neither --random-fully nor --wait, said once', async () => {
    await stand('iptables', 'echo iptables v1.6.1');
    await stand(
      'iptables-restore',
      'case "$*" in *--wait*) exit 2;; esac; exec /usr/sbin/iptables-restore "$@"',
    );
    const warnings: string[] = [];
    const firewall = behind(warnings);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(false);
    expect(await saved('nat')).toBe(NAT.replaceAll(' --random-fully', ''));
    expect(warnings).toHaveLength(1);
  });

  it('that refuses --random-fully gets the rules without it, said once', async () => {
    await stand(
      'iptables-restore',
      'input=$(cat); case "$input" in *random-fully*) echo unknown option >&2; exit 2;; esac\n' +
        'echo "$input" | /usr/sbin/iptables-restore "$@"',
    );
    const warnings: string[] = [];
    const firewall = behind(warnings);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(false);
    expect(await saved('nat')).toBe(NAT.replaceAll(' --random-fully', ''));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('unknown option');
  });

  it('that prints our rules in other words is not repaired again and again', async () => {
    await stand('iptables-save', '/usr/sbin/iptables-save "$@" | sed s@0x4000/0x4000@0x4000@');
    const firewall = behind([]);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(false);
    await iptables('-t nat -D FLANNEL-POSTRTG 1');
    expect(await firewall.apply(PLAN)).toBe(true);
  });

  it('that prints a rule in words nobody knows is taken at its word', async () => {
    await stand(
      'iptables-save',
      '/usr/sbin/iptables-save "$@" | sed "s@ ! -d 224.0.0.0/4@ -m new --not mcast@"',
    );
    const firewall = behind([]);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(false);
    expect(await saved('nat')).toBe(NAT);
    // A new process knows nothing of that, and does not add rules for ever.
    const next = behind([]);
    for (let check = 0; check < 4; check += 1) await next.apply(PLAN).catch(() => undefined);
    expect(await next.apply(PLAN)).toBe(false);
    expect(await saved('nat')).toBe(NAT);
  });

  it('that hides its kind does not lose its own rules as those of another', async () => {
    await stand('iptables', 'echo iptables v1.8.9');
    const prefix = [...PREFIX, 'env', `PATH=${directory}:/usr/sbin:/usr/bin:/bin`];
    await behind([]).apply(PLAN);
    expect(await otherIptables(silentLogger(), prefix).clean(PLAN)).toBe(false);
    expect(await saved('nat')).toBe(NAT);
  });

  it('that cannot delete a rule of a later one by its text empties a chain of ours alone', async () => {
    await stand(
      'iptables-restore',
      'input=$(cat); case "$input" in *"-D FLANNEL-POSTRTG"*) echo Bad rule >&2; exit 1;; esac\n' +
        'echo "$input" | /usr/sbin/iptables-restore "$@"',
    );
    const firewall = behind([]);
    await firewall.apply(PLAN);
    const moved = { ...PLAN, subnet: parseCidr('subnet', '100.96.7.0/24') };
    expect(await firewall.apply(moved)).toBe(true);
    expect(await saved('nat')).toBe(natRules('100.96.7.0/24'));
    await iptables('-t nat -A FLANNEL-POSTRTG -s 192.0.2.0/24 -j ACCEPT');
    await expect(firewall.apply(PLAN)).rejects.toThrow('Bad rule');
    expect(await saved('nat')).toContain('192.0.2.0/24');
  });

  it('whose restore does nothing is an error', async () => {
    await stand('iptables-restore', 'cat > /dev/null');
    await expect(behind([]).apply(PLAN)).rejects.toThrow(
      'chain FLANNEL-POSTRTG of table nat is not as it was just made',
    );
  });
});

describe('legacy iptables', () => {
  let directory = '';
  let behind: string[];
  beforeEach(async ({ skip }) => {
    const probe = inNamespace(NAMESPACE, ['iptables-legacy', '-n', '-L']);
    const { code, stderr } = await run(probe, { accept: [0, 1, 2, 3, 127] });
    skip(code !== 0, `no legacy iptables here: ${stderr}`);
    directory = await mkdtemp(join(tmpdir(), 'flannelette-legacy-'));
    for (const name of ['iptables', 'iptables-save', 'iptables-restore']) {
      const legacy = name.replace('iptables', 'iptables-legacy');
      await symlink(`/usr/sbin/${legacy}`, join(directory, name));
    }
    behind = ['env', `PATH=${directory}:/usr/sbin:/usr/bin:/bin`];
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });
  const create = () => createFirewall('iptables', silentLogger(), [...PREFIX, ...behind]);
  const tables = async () => (await within(...behind, 'iptables-save')).replaceAll(/^#.*\n/gm, '');

  // Tables are printed in the order they were loaded.
  const complete = (text: string) => text === NAT + FILTER_RULES || text === FILTER_RULES + NAT;

  it('has the same rules, and loads no table just to look', async () => {
    expect(await create().apply(NOTHING)).toBe(false);
    expect(await create().apply({ ...PLAN, masquerade: false })).toBe(true);
    expect(await tables()).toBe(FILTER_RULES);
    expect(await create().apply(PLAN)).toBe(true);
    expect(await tables()).toSatisfy(complete);
    await within(...behind, 'iptables', '-F', 'FLANNEL-FWD');
    expect(await create().apply(PLAN)).toBe(true);
    expect(await create().apply(PLAN)).toBe(false);
    expect(await tables()).toSatisfy(complete);
    await create().clean(PLAN);
    expect(await tables()).not.toMatch(/flannel/i);
  });

  it('waits for the lock of another iptables, and says who has it when it takes too long', async () => {
    const hold = (seconds: number) =>
      new Program(['flock', '/run/xtables.lock', 'sh', '-c', `echo held; sleep ${seconds}`]);
    const held = async (holder: Program) =>
      waitFor('the lock', 5_000, () => (holder.stdout === '' ? undefined : true));
    const short = hold(1);
    await held(short);
    expect(await create().apply(PLAN)).toBe(true);
    await short.stop();
    await within(...behind, 'iptables', '-F', 'FLANNEL-FWD');
    const long = hold(8);
    await held(long);
    await expect(create().apply(PLAN)).rejects.toThrow('xtables lock');
    // Not taken for a machine without --random-fully.
    await long.ended;
    expect(await create().apply(PLAN)).toBe(true);
    expect(await tables()).toSatisfy(complete);
  });
});

describe('nftables', () => {
  let firewall: Firewall;
  beforeEach(() => {
    firewall = createFirewall('nftables', silentLogger(), PREFIX);
  });

  it('has the table of flanneld, and a second apply changes nothing', async () => {
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await nftRules()).toBe(NFT);
    expect(nftTable(PLAN)).toBe(NFT);
    expect(await firewall.apply(PLAN)).toBe(false);
    expect(await createFirewall('nftables', silentLogger(), PREFIX).apply(PLAN)).toBe(false);
  });

  it('guards the tunnel and counts; the count is no change', async () => {
    const guard = async () => (await nftRules()).match(/chain guard \{[^}]*/)?.[0] ?? 'none';
    const rule =
      'ip saddr 100.96.1.0/24 oifname "eth0" udp dport 8285 counter packets 0 bytes 0 drop';
    await firewall.apply(GUARDED);
    expect(await guard()).toContain('type filter hook forward priority mangle; policy accept;');
    expect(await guard()).toContain(rule);
    expect(await firewall.apply(GUARDED)).toBe(false);
    await within('nft', 'flush', 'chain', 'ip', 'flannel-ipv4', 'guard');
    expect(await firewall.apply(GUARDED)).toBe(true);
    expect(await guard()).toContain(rule);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await nftRules()).toBe(NFT);
  });

  it.each([
    ['masquerading only', { forward: false }],
    ['forwarding only', { masquerade: false }],
    ['not fully-random', { randomFully: false }],
    ['another subnet', { subnet: parseCidr('subnet', '100.96.77.0/24') }],
  ])('is made anew for another plan: %s', async (_what, change) => {
    await firewall.apply(PLAN);
    expect(await firewall.apply({ ...PLAN, ...change })).toBe(true);
    expect(await nftRules()).toBe(nftTable({ ...PLAN, ...change }));
    expect(await firewall.apply({ ...PLAN, ...change })).toBe(false);
  });

  it.each([
    ['the chain flushed', 'flush chain ip flannel-ipv4 forward'],
    ['the table flushed', 'flush table ip flannel-ipv4'],
    ['the table deleted', 'delete table ip flannel-ipv4'],
    ['the ruleset flushed', 'flush ruleset'],
  ])('is repaired: %s', async (_what, command) => {
    await firewall.apply(PLAN);
    await within('nft', ...command.split(' '));
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await nftRules()).toBe(NFT);
  });

  it('stands beside a daemon with another Network, whoever comes and goes', async () => {
    const blue = createFirewall('nftables', silentLogger(), PREFIX);
    await Promise.all([firewall.apply(PLAN), blue.apply(BLUE)]);
    for (let round = 0; round < 3; round += 1) {
      expect(await firewall.apply(PLAN)).toBe(false);
      expect(await blue.apply(BLUE)).toBe(false);
    }
    expect((await nftRules()).match(/100\.97\.1\.0\/24/g)).toHaveLength(3);
    await within('nft', 'flush', 'chain', 'ip', 'flannel-ipv4', 'postrtg');
    expect(await blue.apply(BLUE)).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await blue.apply(BLUE)).toBe(false);
    const moved = { ...BLUE, subnet: parseCidr('subnet', '100.97.7.0/24') };
    expect(await blue.apply(moved)).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(false);
    expect(await nftRules()).not.toContain('100.97.1.0');
    expect(await blue.apply({ ...moved, masquerade: false, forward: false })).toBe(true);
    expect(await firewall.apply(PLAN)).toBe(false);
    // The other's rules came first, and with them the chains.
    expect((await nftRules()).split('\n').toSorted()).toEqual(NFT.split('\n').toSorted());
  });

  it.each([
    ['a rule in front', 'insert rule ip flannel-ipv4 postrtg ip daddr 192.0.2.0/24 return'],
    ['a rule behind', 'add rule ip flannel-ipv4 forward ip saddr 192.0.2.0/24 drop'],
    ['a chain', 'add chain ip flannel-ipv4 extra'],
    ['a set', 'add set ip flannel-ipv4 extra { type ipv4_addr; }'],
  ])("leaves an operator's part of the table: %s", async (_what, command) => {
    const theirs = /192\.0\.2\.0|extra/g;
    await firewall.apply(PLAN);
    await within('nft', command);
    expect(await firewall.apply(PLAN)).toBe(false);
    const before = await nftRules();
    await within('nft', 'insert rule ip flannel-ipv4 forward ip saddr 100.96.0.0/16 accept');
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await nftRules()).toBe(before);
    await firewall.clean(PLAN);
    expect((await nftRules()).match(theirs)).toHaveLength(1);
    expect(await nftRules()).not.toContain('100.96.');
  });

  it("says of a chain that is not flannel's what it expected", async () => {
    await within('nft', 'add table ip flannel-ipv4');
    await within('nft', 'add chain ip flannel-ipv4 forward { type filter hook input priority 5; }');
    expect(await firewall.apply(PLAN)).toBe(true);
    await within('nft', 'delete table ip flannel-ipv4');
    await within('nft', 'add table ip flannel-ipv4');
    await within('nft', 'add chain ip flannel-ipv4 forward { type filter hook input priority 5; }');
    await within('nft', 'add rule ip flannel-ipv4 forward ip saddr 192.0.2.0/24 drop');
    await expect(firewall.apply(PLAN)).rejects.toThrow(
      "chain forward of table flannel-ipv4 is not flannel's",
    );
  });

  it('of a release that prints a rule in words nobody knows is taken at its word', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-nft-'));
    const script = '#!/bin/sh\n/usr/sbin/nft "$@" | sed "s@ip daddr != 224.0.0.0/4@not mcast@"\n';
    await writeFile(join(directory, 'nft'), script, { mode: 0o755 });
    const odd = () =>
      createFirewall('nftables', silentLogger(), [
        ...PREFIX,
        'env',
        `PATH=${directory}:/usr/bin:/bin`,
      ]);
    try {
      const first = odd();
      expect(await first.apply(PLAN)).toBe(true);
      expect(await first.apply(PLAN)).toBe(false);
      expect(await nftRules()).toBe(NFT);
      const next = odd();
      for (let check = 0; check < 4; check += 1) await next.apply(PLAN).catch(() => undefined);
      expect(await next.apply(PLAN)).toBe(false);
      expect(await nftRules()).toBe(NFT);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('has a policy that drops put right', async () => {
    await firewall.apply(PLAN);
    await within('nft', 'add chain ip flannel-ipv4 forward { policy drop; }');
    expect(await firewall.apply(PLAN)).toBe(true);
    expect(await nftRules()).toBe(NFT);
  });

  it('leaves the tables of others as they are', async () => {
    const others =
      'table ip docker {\n\tchain forward {\n\t\tip saddr 172.17.0.0/16 drop\n\t}\n}\n';
    await run(inNamespace(NAMESPACE, ['nft', '-f', '-']), { input: others });
    await firewall.apply(PLAN);
    expect(await nftRules()).toBe(others + NFT);
    await firewall.clean(PLAN);
    expect(await nftRules()).toBe(others);
    await firewall.clean(PLAN);
  });

  it('is removed by an empty plan', async () => {
    await firewall.apply(PLAN);
    expect(await firewall.apply(NOTHING)).toBe(true);
    expect(await nftRules()).toBe('');
    expect(await firewall.apply(NOTHING)).toBe(false);
  });

  it('works without what the machine refuses, said once', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'flannelette-nft-'));
    const script =
      '#!/bin/sh\ncase "$1" in list) exec /usr/sbin/nft "$@";; esac\ninput=$(cat)\n' +
      'case "$input" in *comment*|*fully-random*) echo syntax error >&2; exit 1;; esac\n' +
      'echo "$input" | /usr/sbin/nft "$@"\n';
    await writeFile(join(directory, 'nft'), script, { mode: 0o755 });
    const warnings: string[] = [];
    const old = createFirewall('nftables', pino({}, { write: (line) => warnings.push(line) }), [
      ...PREFIX,
      'env',
      `PATH=${directory}:/usr/bin:/bin`,
    ]);
    try {
      expect(await old.apply(PLAN)).toBe(true);
      expect(await old.apply(PLAN)).toBe(false);
      const plain = NFT.replaceAll(' fully-random', '').replaceAll(/^\t+comment .*\n/gm, '');
      expect(await nftRules()).toBe(plain);
      await within('nft', 'flush', 'ruleset');
      expect(await old.apply(PLAN)).toBe(true);
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toContain('syntax error');
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

describe('the keeper', () => {
  let stop: AbortController;
  let running: Promise<void>[];
  beforeEach(() => {
    stop = new AbortController();
    running = [];
  });
  afterEach(async () => {
    stop.abort();
    await Promise.all(running);
  });

  function keep(kind: 'iptables' | 'nftables', prefix = PREFIX, plan = PLAN): FirewallKeeper {
    const log = silentLogger();
    const keeper = new FirewallKeeper({
      firewall: createFirewall(kind, log, prefix),
      others: [createFirewall(kind === 'iptables' ? 'nftables' : 'iptables', log, prefix)],
      plan,
      resyncSeconds: 1,
      log,
    });
    running.push(keeper.run(stop.signal));
    return keeper;
  }
  const until = (what: string, probe: () => boolean) =>
    waitFor(what, 5_000, () => (probe() ? true : undefined));

  it('puts back what others take, counts it, and leaves the rules on exit', async () => {
    const keeper = keep('iptables');
    await until('rules', () => keeper.inPlace);
    expect(await saved('nat')).toBe(NAT);
    await iptables('-t nat -D FLANNEL-POSTRTG 3');
    await until('a repair', () => keeper.repairs === 1);
    await iptables('-F FLANNEL-FWD');
    await until('another repair', () => keeper.repairs === 2);
    stop.abort();
    await Promise.all(running);
    expect(await saved('nat')).toBe(NAT);
    expect(await saved('filter')).toBe(FILTER_RULES);
  });

  it('changes from iptables to nftables and back, each time cleaning the other', async () => {
    for (const kind of ['iptables', 'nftables', 'iptables'] as const) {
      stop = new AbortController();
      const keeper = keep(kind);
      await until(`rules of ${kind}`, () => keeper.inPlace);
      expect((await nftRules()).includes('flannel-ipv4')).toBe(kind === 'nftables');
      expect((await saved('nat')).includes('FLANNEL-POSTRTG')).toBe(kind === 'iptables');
      expect((await saved('filter')).includes('FLANNEL-FWD')).toBe(kind === 'iptables');
      stop.abort();
      await Promise.all(running);
    }
  });

  it.each(['iptables', 'nftables'] as const)(
    'waits for %s to be installed and says which package has it',
    async (kind) => {
      const directory = await mkdtemp(join(tmpdir(), 'flannelette-path-'));
      try {
        const hidden = [...PREFIX, '/usr/bin/env', `PATH=${directory}`];
        const keeper = keep(kind, hidden);
        await until('an error', () => keeper.error !== undefined);
        expect(keeper.error).toMatch(
          new RegExp(`is not installed: install the Debian package ${kind}$`),
        );
        expect(keeper.inPlace).toBe(false);
        for (const program of ['iptables', 'iptables-save', 'iptables-restore', 'nft']) {
          const script = `#!/bin/sh\nexec /usr/sbin/${program} "$@"\n`;
          await writeFile(join(directory, program), script, { mode: 0o755 });
        }
        await until('rules', () => keeper.inPlace);
        expect(keeper.error).toBeUndefined();
        expect(keeper.repairs).toBe(0);
      } finally {
        stop.abort();
        await Promise.all(running);
        await rm(directory, { recursive: true });
      }
    },
  );

  it.each(['iptables', 'nftables'] as const)(
    'needs no %s when there is nothing to put in place',
    async (kind) => {
      const keeper = keep(kind, [...PREFIX, '/usr/bin/env', 'PATH=/nowhere'], NOTHING);
      const done = await createFirewall(kind, silentLogger(), [
        ...PREFIX,
        '/usr/bin/env',
        'PATH=/nowhere',
      ]).apply(NOTHING);
      expect(done).toBe(false);
      expect(keeper.inPlace).toBe(true);
      expect(keeper.error).toBeUndefined();
    },
  );
});

describe('the watch of the rules', () => {
  it('tells of every change, by whichever program, until aborted', async () => {
    const stop = new AbortController();
    let told = 0;
    const watching = watchRules(() => (told += 1), stop.signal, PREFIX);
    // The program takes a moment to listen.
    await waitFor('a first change', 5_000, async () => {
      await iptables('-A INPUT -j ACCEPT');
      return told > 0 ? true : undefined;
    });
    for (const command of ['iptables -F INPUT', 'nft add table inet x', 'nft flush ruleset']) {
      const before = told;
      await within(...command.split(' '));
      await waitFor(`to be told of ${command}`, 2_000, () => told > before || undefined);
    }
    stop.abort();
    await watching;
  });

  it('gives up where no program tells of them', async () => {
    const nowhere = [...PREFIX, '/usr/bin/env', 'PATH=/nowhere'];
    const watching = watchRules(() => undefined, new AbortController().signal, nowhere);
    await expect(watching).rejects.toThrow('xtables-monitor');
  });
});
