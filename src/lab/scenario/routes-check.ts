/** Node 1's routes compared with the documents', and what the routes need besides. */
import type { Entries, LabBackend } from '../backends/backend.js';
import { showRoute, type Route } from '../backends/route.js';
import { UDP } from '../backends/udp.js';
import { inNamespace, run } from '../../testbed/programs.js';
import { GATEWAY, hostPlan, OVERLAY, type HostPlan } from '../../testbed/topology.js';

export interface RoutesCheck {
  readonly ok: boolean;
  /** `ip route` of the host, as a person sees it. */
  readonly text: string;
  /** Neighbours and forwarding entries, where the backend has some of its own. */
  readonly entries?: Entries;
  readonly problems: readonly string[];
}

/** Of a host whose peers are these, which routes of udp do not depend on. */
export async function checkRoutes(
  plan: HostPlan,
  peers: readonly HostPlan[] = [],
  backend: LabBackend = UDP,
): Promise<RoutesCheck> {
  const { stdout } = await run(inNamespace(plan.host, ['ip', '-j', 'route']));
  const { stdout: text } = await run(inNamespace(plan.host, ['ip', 'route']));
  const found = await Promise.all(
    (JSON.parse(stdout) as Route[]).map((route) => withSource(plan, route)),
  );
  const expected: Route[] = [
    { dst: 'default', gateway: GATEWAY, dev: 'eth0' },
    ...backend.routes(plan, peers),
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
  const entries = await backend.entries?.(plan, peers);
  if (entries !== undefined) problems.push(...entryProblems(entries));
  return {
    ok: problems.length === 0,
    text: text.trimEnd(),
    ...(entries === undefined ? {} : { entries }),
    problems,
  };
}

function entryProblems({ found, expected }: Entries): string[] {
  return [
    ...expected.filter((line) => !found.includes(line)).map((line) => `missing: ${line}`),
    ...found
      .filter((line) => !expected.includes(line))
      .map((line) => `not in the documents: ${line}`),
  ];
}

/**
 * The overlay's route names no source, because kernels before 5.14 refuse the documents' while docker0
 * is there; the kernel then picks one, and that one has to be theirs.
 */
async function withSource(plan: HostPlan, route: Route): Promise<Route> {
  if (route.dst !== OVERLAY || route.dev === undefined || route.prefsrc !== undefined) return route;
  const query = inNamespace(plan.host, ['ip', '-j', 'route', 'get', UNLEASED]);
  const { stdout } = await run(query, { accept: [0, 2] });
  const [picked] = JSON.parse(stdout || '[]') as Route[];
  const leadsThere = picked?.prefsrc !== undefined && picked.dev === route.dev;
  return leadsThere ? { ...route, prefsrc: picked.prefsrc } : route;
}

/** In the overlay, and in no host's subnet: hosts may have routes of their own. */
const UNLEASED = hostPlan(200).containerAddress;

function matches(found: Route, expected: Route): boolean {
  return (
    found.dst === expected.dst &&
    found.dev === expected.dev &&
    (found.type ?? 'unicast') === (expected.type ?? 'unicast') &&
    (expected.gateway === undefined || found.gateway === expected.gateway) &&
    (expected.prefsrc === undefined || found.prefsrc === expected.prefsrc) &&
    (expected.flags ?? []).every((flag) => found.flags?.includes(flag) ?? false)
  );
}
