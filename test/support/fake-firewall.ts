/** A firewall that does as the test says; no program is run. */
import type { Firewall, FirewallPlan } from '../../src/firewall/firewall.js';

export class FakeFirewall implements Firewall {
  readonly kind;
  applied = 0;
  /** What was asked for last. */
  plan: FirewallPlan | undefined;
  cleaned = 0;
  /** What apply does: fails with an error, or returns this. */
  next: boolean | Error = true;
  hangs = false;

  constructor(kind: Firewall['kind']) {
    this.kind = kind;
  }

  async apply(plan: FirewallPlan, signal?: AbortSignal): Promise<boolean> {
    this.applied += 1;
    this.plan = plan;
    if (this.hangs) {
      await new Promise((_resolve, reject) => {
        signal?.addEventListener('abort', () => {
          reject(new Error('ended'));
        });
      });
    }
    if (this.next instanceof Error) throw this.next;
    return this.next;
  }

  async clean(): Promise<boolean> {
    this.cleaned += 1;
    throw new Error('nft is not installed');
  }
}
