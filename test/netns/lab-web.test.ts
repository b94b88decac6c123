/**
 * The live page in a real browser: headless Chromium outside the lab's namespaces, as a user's is.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { chromium, type Browser, type Locator, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Program, run, waitFor } from '../../src/testbed/programs.js';
import { COMMAND, requireIsolation } from '../support/test-lab.js';

const CHROMIUM = '/usr/bin/chromium';
/** What a load, a change or the lab's start may take on a busy machine. */
const PATIENCE_MS = 40_000;
/** Of each kind of load, in the table of results. */
const COLUMNS = { throughput: 0, packets: 1, calls: 2 };
/** Several of those in a row. */
const LIMIT = { timeout: 120_000 };

describe.skipIf(!existsSync(CHROMIUM))('the live page in Chromium', LIMIT, () => {
  let browser: Browser;
  let page: Page;
  let lab: Program;
  let url: string;
  /** Errors of the page's scripts and of its security policy. */
  const complaints: string[] = [];

  beforeAll(async () => {
    await requireIsolation();
    await run(['ip', 'link', 'set', 'lo', 'up']);
    lab = new Program([...COMMAND, 'lab', '--web=0', '--mode=basic']);
    url = await waitFor('the address', PATIENCE_MS, () => {
      if (!lab.running) throw new Error(lab.stderr);
      return /http:\/\/127\.0\.0\.1:\d+\//.exec(lab.stdout)?.[0];
    });
    browser = await chromium.launch({ executablePath: CHROMIUM });
    page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
    page.setDefaultTimeout(PATIENCE_MS);
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (line) => {
      // The browser's own notes of a lab that is away, and of commands that are refused (409).
      const text = line.text();
      const noted = text.includes('net::ERR') || text.includes('status of 409');
      if (line.type() === 'error' && !noted) complaints.push(text);
    });
    await page.goto(url);
    await saysNow(/^The lab is up/);
  }, LIMIT.timeout);
  afterAll(async () => {
    await browser?.close();
    lab?.kill('SIGKILL');
  });

  const button = (name: string): Locator => page.getByRole('button', { name, exact: true });
  const counter = (host: number, hop: string, direction: 'out' | 'in'): Locator =>
    page.locator(`#host-${host} [data-hop="${hop}"] [data-direction="${direction}"]`);

  /** Waits until the status says something. */
  async function saysNow(what: RegExp): Promise<void> {
    await page.locator('#message, #earlier').filter({ hasText: what }).first().waitFor();
  }

  async function reads(where: Locator, what: RegExp): Promise<string> {
    await where.filter({ hasText: what }).waitFor();
    return (await where.textContent()) ?? '';
  }

  /** Waits until a counter counts. */
  async function rises(host: number, hop: string): Promise<void> {
    await reads(counter(host, hop, 'out'), /[1-9]/);
    await reads(counter(host, hop, 'in'), /[1-9]/);
  }

  const running = async (load: string): Promise<boolean> =>
    (await button(load).getAttribute('aria-pressed')) === 'true';

  /** What the table of results has of a mode and a kind of load. */
  const result = (mode: string, kind: 'tcp' | 'udp', column: keyof typeof COLUMNS): Locator =>
    page
      .locator('#results tr')
      .filter({ has: page.getByRole('rowheader', { name: mode }) })
      .locator(`td[data-kind="${kind}"]`)
      .nth(COLUMNS[column]);

  /** Ends a load that goes on; it may come to its own end meanwhile. */
  async function endLoad(load: string): Promise<void> {
    await waitFor(`the end of ${load}`, PATIENCE_MS, async () => {
      if (!(await running(load))) return true;
      await button('Stop').click({ force: true });
      return undefined;
    });
    await saysNow(new RegExp(`^${load} (stopped|ended)`));
  }

  /** Waits for text while a load goes on, again and again if it takes so long. */
  async function readsUnder(load: string, where: Locator, what: RegExp): Promise<string> {
    return waitFor(`${load}: ${what.source}`, PATIENCE_MS, async () => {
      if (!(await running(load))) await button(load).click({ force: true });
      const text = (await where.textContent()) ?? '';
      return what.test(text) ? text : undefined;
    });
  }

  it('says below every figure what is counted', async () => {
    const tiles = page.locator('.tiles > div');
    expect(await tiles.count()).toBe(4);
    for (const tile of await tiles.all()) {
      expect(await tile.locator('.what').textContent()).toMatch(/\w{3,}.*\.\s*$/s);
    }
  });

  it('draws both hosts, and no third', async () => {
    for (const host of ['host-1', 'host-2']) {
      for (const name of ['docker0', 'flannel0', 'daemon', 'eth0']) {
        expect(await page.locator(`#${host} .name`).allTextContents()).toContain(name);
      }
    }
    expect(await page.getByText('host-3 is not there').isVisible()).toBe(true);
    expect(await button('basic').getAttribute('aria-pressed')).toBe('true');
    expect(await button('Stop').getAttribute('aria-disabled')).toBe('true');
  });

  it('counts pings at every hop while they go both ways, and stops them when told', async () => {
    // By the keyboard, as everything can be.
    await button('Ping').focus();
    await page.keyboard.press('Enter');
    for (const host of [1, 2]) {
      for (const hop of ['container', 'docker0', 'flannel0', 'daemon', 'eth0']) {
        await rises(host, hop);
      }
    }
    await page.locator('.dot').first().waitFor();
    // The daemons copy each byte four times; most calls of the few packets are looks for more.
    await reads(page.locator('#copies'), /^4\.0$/);
    await reads(page.locator('#copies-more'), /^ping adds 1/);
    expect(await page.locator('#calls').textContent()).toBe('–');
    await reads(page.locator('#calls-more'), /1,000 packets\/s/);
    expect(await button('TCP load').getAttribute('aria-disabled')).toBe('true');
    await endLoad('Ping');
    await saysNow(/^Ping stopped/);
  });

  it('shows what the mode changes while TCP goes on', async () => {
    const basic = await readsUnder('TCP load', result('basic', 'tcp', 'throughput'), /bit\/s/);
    await button('offload').click();
    await saysNow(/^Mode offload, after \d+ ms/);
    expect(await button('offload').getAttribute('aria-pressed')).toBe('true');
    const offload = await readsUnder('TCP load', result('offload', 'tcp', 'throughput'), /bit\/s/);
    expect(offload).not.toBe(basic);
    const calls = async (mode: string): Promise<number> =>
      Number(await result(mode, 'tcp', 'calls').textContent());
    // A read and a send for each packet at the one end and the other, at the least.
    expect(await calls('basic')).toBeGreaterThanOrEqual(4);
    expect(await calls('offload')).toBeLessThan(await calls('basic'));
    await endLoad('TCP load');
  });

  it('carries UDP, and shows it beside TCP', async () => {
    const tcp = await result('offload', 'tcp', 'throughput').textContent();
    await readsUnder('UDP load', result('offload', 'udp', 'throughput'), /[MG]bit/);
    await reads(page.locator('#throughput'), /[MG]bit\/s/);
    // Trains, with their length, at the devices that they pass; packets at the daemons.
    await readsUnder('UDP load', counter(2, 'eth0', 'in'), /×\d/);
    await readsUnder('UDP load', counter(2, 'daemon', 'in'), /^[\d.]+ k$/);
    await endLoad('UDP load');
    expect(await result('offload', 'tcp', 'throughput').textContent()).toBe(tcp);
  });

  it('adds a third host, which answers pings, and removes it, twice', async () => {
    for (let round = 0; round < 2; round += 1) {
      await button('Add host').click();
      await saysNow(/^host-3 has joined/);
      await button('Ping').click();
      await rises(3, 'container');
      await endLoad('Ping');
      await button('Remove host').click();
      await saysNow(/^host-3 has left/);
      await page.getByText('host-3 is not there').waitFor();
    }
  });

  it('moves nothing for people who want no motion', async () => {
    const still = await browser.newPage({ reducedMotion: 'reduce' });
    await still.goto(url);
    const motion = still.getByRole('button', { name: 'Animation' });
    await button('Ping').click();
    await still
      .locator('#host-2 [data-hop="daemon"] .count')
      .filter({ hasText: /[1-9]/ })
      .first()
      .waitFor();
    await page.locator('.dot').first().waitFor();
    expect(await motion.getAttribute('aria-pressed')).toBe('false');
    expect(await still.locator('.dot').count()).toBe(0);
    await motion.click();
    await still.locator('.dot').first().waitFor();
    await still.close();
  });

  it('ends with Ctrl-C, load and all, says so, and goes on with the next lab', async () => {
    lab.kill('SIGINT');
    expect(await lab.ended).toBe(0);
    expect(lab.stdout).toContain('The lab has ended; nothing of it is left behind.');
    await page
      .getByRole('alert')
      .filter({ hasText: /^The lab has ended/ })
      .waitFor();
    expect(await button('Ping').getAttribute('aria-disabled')).toBe('true');

    lab = new Program([...COMMAND, 'lab', `--web=${new URL(url).port}`]);
    await saysNow(/^The lab is up/);
    expect(await page.getByRole('alert').isVisible()).toBe(false);
  });

  it('shows why a lab failed, on the page and on the terminal', async () => {
    process.kill(await daemonOf('host-2'), 'SIGKILL');
    const why = /the daemon of host-2 ended with code 137/;
    await saysNow(why);
    expect(await lab.ended).toBe(1);
    expect(lab.stderr).toMatch(why);
  });

  it('has a page without errors', () => {
    expect(complaints).toEqual([]);
  });
});

async function daemonOf(host: string): Promise<number> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const argv = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (argv.includes('\0run\0') && argv.includes(`/${host}/subnet.env`)) return Number(pid);
  }
  throw new Error(`${host} has no daemon`);
}
