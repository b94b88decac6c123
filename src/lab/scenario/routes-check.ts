/** Node 1's routes compared with the documents'. */
import { inNamespace, run } from '../../testbed/programs.js';
import { GATEWAY, hostPlan, OVERLAY, type HostPlan } from '../../testbed/topology.js';

/** As `ip -j route` says it. */
export interface Route {
  readonly dst: string;
  readonly dev: string;
  readonly gateway?: string;
  readonly prefsrc?: string;
  /** Unless it is unicast: `local` for the host's own addresses. */
  readonly type?: string;
}

export interface RoutesCheck {
  readonly ok: boolean;
  /** `ip route` of the host, as a person sees it. */
  readonly text: string;
  readonly problems: readonly string[];
}

export async function checkRoutes(plan: HostPlan): Promise<RoutesCheck> {
  const { stdout } = await run(inNamespace(plan.host, ['ip', '-j', 'route']));
  const { stdout: text } = await run(inNamespace(plan.host, ['ip', 'route']));
  const found = await Promise.all(
    (JSON.parse(stdout) as Route[]).map((route) => withSource(plan, route)),
  );
  const expected: Route[] = [
    { dst: 'default', gateway: GATEWAY, dev: 'eth0' },
    { dst: OVERLAY, dev: 'flannel0', prefsrc: plan.tunAddress },
    { dst: plan.subnet, dev: 'docker0', prefsrc: plan.bridgeAddress },
    { dst: '10.168.0.0/24', dev: 'eth0' },
  ];
  const problems = expected
    .filter((route) => !found.some((candidate) => matches(candidate, route)))
    .map((route) => `missing: ${showRoute(route)}`);
  for (const route of found) {
    if (!expected.some((candidate) => matches(route, candidate))) {
      problems.push(`not in the documents: ${showRoute(route)}`);
    }
  }
  return { ok: problems.length === 0, text: text.trimEnd(), problems };
}

/**
 * The overlay's route names no source, because kernels before 5.14 refuse the documents' while docker0
 * is there; the kernel then picks one, and that one has to be theirs.
 */
async function withSource(plan: HostPlan, route: Route): Promise<Route> {
  if (route.dst !== OVERLAY || route.prefsrc !== undefined) return route;
  const peer = hostPlan(plan.number === 1 ? 2 : 1).containerAddress;
  const query = inNamespace(plan.host, ['ip', '-j', 'route', 'get', peer]);
  const { stdout } = await run(query, { accept: [0, 2] });
  const [picked] = JSON.parse(stdout || '[]') as Route[];
  const leadsThere = picked?.prefsrc !== undefined && picked.dev === route.dev;
  return leadsThere ? { ...route, prefsrc: picked.prefsrc } : route;
}

function matches(found: Route, expected: Route): boolean {
  return (
    found.dst === expected.dst &&
    found.dev === expected.dev &&
    (expected.gateway === undefined || found.gateway === expected.gateway) &&
    (expected.prefsrc === undefined || found.prefsrc === expected.prefsrc)
  );
}

/** As `ip route` shows it. */
export function showRoute({ dst, gateway, dev, prefsrc, type }: Route): string {
  const kind = type === undefined || type === 'unicast' ? '' : `${type} `;
  const via = gateway === undefined ? '' : ` via ${gateway}`;
  const source = prefsrc === undefined ? '' : ` src ${prefsrc}`;
  return `${kind}${dst}${via} dev ${dev}${source}`;
}
