/**
 * The firewall in a daemon's life: the rules are flanneld's to the byte, come back when another
 * program takes them, follow the subnet, and stay when the daemon ends.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { inNamespace, run, waitFor } from '../../src/testbed/programs.js';
import { LAB_DIRECTORY } from '../../src/testbed/topology.js';
import { CONFIG, EtcdLab } from '../support/etcd-lab.js';
import { FILTER_RULES, natRules, savedTable } from '../support/firewall-rules.js';

let lab: EtcdLab;
beforeAll(async () => {
  lab = await EtcdLab.setUp();
});
afterAll(() => lab.tearDown());
beforeEach(() => lab.configure());
afterEach(() => lab.reset());

const within = async (...argv: string[]): Promise<string> =>
  (await run(inNamespace(lab.near.host, argv))).stdout;

const saved = (table: 'nat' | 'filter') => savedTable(lab.near.host, table);

it('has the rules of flanneld before it is ready, repairs them, and leaves them', async () => {
  const flags = ['--ip-masq', '--iptables-resync=1'];
  const daemon = await lab.start(lab.near, { flags });
  await daemon.ready();
  expect(await saved('nat')).toBe(natRules('100.96.1.0/24'));
  expect(await saved('filter')).toBe(FILTER_RULES);
  expect(await daemon.metric('firewall_repairs_total')).toBe(0);
  expect(await daemon.metric('firewall_in_place')).toBe(1);

  for (const [count, command] of [
    [1, '-t nat -D FLANNEL-POSTRTG 3'],
    [2, '-F FLANNEL-FWD'],
  ] as const) {
    await within('iptables', ...command.split(' '));
    await daemon.until('a repair', 5_000, async () => {
      return (await daemon.metric('firewall_repairs_total')) === count;
    });
    expect(await saved('nat')).toBe(natRules('100.96.1.0/24'));
    expect(await saved('filter')).toBe(FILTER_RULES);
  }
  expect(await daemon.terminate()).toMatchObject({ code: 0 });
  expect(await saved('nat')).toBe(natRules('100.96.1.0/24'));
  expect(await saved('filter')).toBe(FILTER_RULES);

  // The next daemon finds them as they should be, and has nothing to repair.
  const next = await lab.start(lab.near, { flags });
  await next.ready();
  expect(await next.logged('firewall rules in place')).toMatchObject({ changed: false });
});

it('only accepts forwarding unless asked to masquerade, and nothing when told so', async () => {
  const daemon = await lab.start(lab.near);
  await daemon.ready();
  expect(await saved('filter')).toBe(FILTER_RULES);
  expect(await saved('nat')).not.toMatch(/flannel/i);
  await daemon.terminate();
  const without = await lab.start(lab.near, { flags: ['--iptables-forward-rules=false'] });
  await without.ready();
  // What the run before left goes, now that nobody wants it.
  await waitFor(
    'no rules',
    5_000,
    async () => !/flannel/i.test(await saved('filter')) || undefined,
  );
});

it('has the rules of the new subnet after another host took ours', async () => {
  const daemon = await lab.start(lab.near, { flags: ['--ip-masq', '--iptables-resync=1'] });
  await daemon.ready();
  await lab.putLease('100.96.1.0/24', '10.168.0.9');
  let subnet = '';
  await daemon.until('on another subnet', 10_000, async () => {
    subnet = (await daemon.status()).lease?.subnet ?? '';
    return subnet !== '100.96.1.0/24' && (await daemon.readyz()).code === 200;
  });
  expect(await saved('nat')).toBe(natRules(subnet));
  expect(await saved('filter')).toBe(FILTER_RULES);
  // That was no repair: nobody had touched the rules.
  expect(await daemon.metric('firewall_repairs_total')).toBe(0);
});

it('is nftables where the network says EnableNFTables, and cleans the other', async () => {
  const flags = ['--ip-masq', '--iptables-resync=1'];
  const before = await lab.start(lab.near, { flags });
  await before.ready();
  await before.terminate();
  await lab.configure({ ...CONFIG, EnableNFTables: true });
  const daemon = await lab.start(lab.near, { flags });
  await daemon.ready();
  expect(await within('nft', 'list', 'table', 'ip', 'flannel-ipv4')).toBe(NFT);
  expect(await saved('nat')).not.toMatch(/flannel/i);
  expect(await saved('filter')).not.toMatch(/flannel/i);
  await within('nft', 'delete', 'table', 'ip', 'flannel-ipv4');
  await daemon.until('a repair', 5_000, async () => {
    return (await daemon.metric('firewall_repairs_total')) === 1;
  });
  expect(await within('nft', 'list', 'table', 'ip', 'flannel-ipv4')).toBe(NFT);
  await daemon.terminate();
  expect(await within('nft', 'list', 'table', 'ip', 'flannel-ipv4')).toBe(NFT);
});

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

	chain guard {
		comment "chain to keep containers from writing to the tunnel"
		type filter hook forward priority mangle; policy accept;
		ip saddr 100.96.1.0/24 oifname "eth0" udp dport 8285 counter packets 0 bytes 0 drop
	}
}
`;

it('that refuses leaves a daemon forwarding; /readyz says why until it works', async () => {
  // What iptables says without CAP_NET_ADMIN.
  const bin = join(LAB_DIRECTORY, 'bin');
  await mkdir(bin, { recursive: true });
  const script = '#!/bin/sh\necho "iptables: Permission denied (you must be root)" >&2\nexit 4\n';
  for (const name of ['iptables-save', 'iptables-restore']) {
    await writeFile(join(bin, name), script, { mode: 0o755 });
  }
  const env = { PATH: `${bin}:${process.env.PATH}`, FLANNELD_IPTABLES_RESYNC: '1' };
  const daemon = await lab.start(lab.near, { env });
  const other = await lab.start(lab.far);
  await other.ready();
  await daemon.logged('firewall rules cannot be put in place', 10_000);
  await lab.reaches(lab.far, lab.near.tunAddress);
  const { code, detail } = await daemon.readyz();
  expect(code).toBe(503);
  expect(detail.firewall).toMatchObject({ ok: false });
  expect(detail.firewall.error).toContain('you must be root');
  await rm(bin, { recursive: true });
  await daemon.ready(5_000);
  expect(await saved('filter')).toBe(FILTER_RULES);
});
