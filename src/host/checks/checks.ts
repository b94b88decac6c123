/**
 * What this host's own settings do to the overlay: routes that win over its route, reverse path
 * filters, forwarding that is off. Looked for, and named; nothing is changed.
 */
import { messageOf } from '../../errors.js';
import type { Problem } from '../../problems.js';
import { checkRoutes } from './routes.js';
import { checkSettings } from './kernel-settings.js';
import type { OverlayView } from './view.js';

export type { OverlayView } from './view.js';

export interface HostFindings {
  readonly problems: readonly Problem[];
  /** Why some checks could not be made: that nothing was found means nothing then. */
  readonly unchecked: readonly string[];
}

/** Never rejects: what cannot be looked at is no problem that was found. */
export async function checkHost(view: OverlayView): Promise<HostFindings> {
  const checks = [checkRoutes, checkSettings];
  const found = await Promise.allSettled(checks.map(async (check) => check(view)));
  return {
    problems: found.flatMap((result) => (result.status === 'fulfilled' ? result.value : [])),
    unchecked: found.flatMap((result) =>
      result.status === 'fulfilled' ? [] : [messageOf(result.reason)],
    ),
  };
}
