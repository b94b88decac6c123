/**
 * The live page where the kernel forwards: no daemon on the way, and a dash for what nobody counts.
 * The page with daemons is in lab-web.test.ts.
 */
import { existsSync } from 'node:fs';
import { chromium, type Browser, type Locator, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Program, run, waitFor } from '../../src/testbed/programs.js';
import { COMMAND, requireIsolation } from '../support/test-lab.js';
import { canKernel } from '../support/can-kernel.js';

const CHROMIUM = '/usr/bin/chromium';
const PATIENCE_MS = 40_000;

interface Case {
  readonly flags: string;
  readonly up: RegExp;
  /** Name of the box of the overlay's device. */
  readonly device: string;
  /** Boxes that count, and those that have a dash. */
  readonly counted: readonly string[];
  readonly unknown: readonly string[];
  /** Row of the table of results, and what it says of packets. */
  readonly row: string;
  readonly packets: RegExp;
  readonly modes: boolean;
}

const CASES: Case[] = [
  {
    flags: '--backend=vxlan',
    up: /^The lab is up: two hosts, backend vxlan\.$/,
    device: 'flannel.1',
    counted: ['container', 'docker0', 'flannel0', 'eth0'],
    unknown: ['daemon'],
    row: 'vxlan',
    packets: /^–$/,
    modes: false,
  },
  {
    flags: '--backend=host-gw',
    up: /^The lab is up: two hosts, backend host-gw\.$/,
    device: 'no device',
    counted: ['container', 'docker0', 'eth0'],
    unknown: ['daemon', 'flannel0'],
    row: 'host-gw',
    packets: /^–$/,
    modes: false,
  },
];
if (canKernel) {
  CASES.push({
    flags: '--mode=kernel',
    up: /^The lab is up: two hosts, mode kernel\.$/,
    device: 'flannel0',
    counted: ['container', 'docker0', 'eth0'],
    unknown: ['flannel0'],
    row: 'kernel',
    packets: /^[\d.]+ [kM]$/,
    modes: true,
  });
}

describe.skipIf(!existsSync(CHROMIUM))('the live page', { timeout: 120_000 }, () => {
  let browser: Browser;
  beforeAll(async () => {
    await requireIsolation();
    await run(['ip', 'link', 'set', 'lo', 'up']);
    browser = await chromium.launch({ executablePath: CHROMIUM });
  });
  afterAll(async () => {
    await browser?.close();
  });

  it.each(CASES)('of $flags has the way through the kernel', async (given) => {
    const lab = new Program([...COMMAND, 'lab', '--web=0', given.flags]);
    const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
    page.setDefaultTimeout(PATIENCE_MS);
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    try {
      const url = await waitFor('the address', PATIENCE_MS, () => {
        if (!lab.running) throw new Error(lab.stderr);
        return /http:\/\/127\.0\.0\.1:\d+\//.exec(lab.stdout)?.[0];
      });
      await page.goto(url);
      await page.locator('#message, #earlier').filter({ hasText: given.up }).first().waitFor();
      await shows(page, given);
      expect(complaints).toEqual([]);
      lab.kill('SIGINT');
      expect(await lab.ended).toBe(0);
    } finally {
      lab.kill('SIGKILL');
      await page.close();
    }
  });
});

async function shows(page: Page, given: Case): Promise<void> {
  const { device, counted, unknown, row, packets, modes } = given;
  const button = (name: string): Locator => page.getByRole('button', { name, exact: true });
  const count = (host: number, hop: string, way: string): Locator =>
    page.locator(`#host-${host} [data-hop="${hop}"] [data-direction="${way}"]`);
  expect(await page.locator('#host-1 [data-hop="flannel0"] .name').textContent()).toBe(device);
  expect(await button('batch').getAttribute('aria-disabled')).toBe(String(!modes));

  await button('TCP load').click();
  for (const host of [1, 2]) {
    for (const way of ['out', 'in']) {
      for (const hop of counted) await count(host, hop, way).filter({ hasText: /[1-9]/ }).waitFor();
      for (const hop of unknown) await count(host, hop, way).filter({ hasText: /^–$/ }).waitFor();
    }
  }
  await page.locator('.dot').first().waitFor();
  await page
    .locator('#throughput')
    .filter({ hasText: /[MG]bit\/s/ })
    .waitFor();
  // No daemon copies a byte, or makes a call for a packet.
  await page
    .locator('#copies')
    .filter({ hasText: /^0\.0$/ })
    .waitFor();
  const cells = page
    .locator('#results tr')
    .filter({ has: page.getByRole('rowheader', { name: row, exact: true }) })
    .locator('td[data-kind="tcp"]');
  await cells
    .nth(0)
    .filter({ hasText: /[MG]bit/ })
    .waitFor();
  expect(await cells.nth(1).textContent()).toMatch(packets);
  expect(Number(await cells.nth(2).textContent())).toBeLessThan(0.1);

  await button('Add host').click();
  await page
    .locator('#message, #earlier')
    .filter({ hasText: /^host-3 has joined/ })
    .first()
    .waitFor();
  await button('Remove host').click();
  await page
    .locator('#message, #earlier')
    .filter({ hasText: /^host-3 has left/ })
    .first()
    .waitFor();
}
