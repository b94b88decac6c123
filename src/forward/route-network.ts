/**
 * Routes of other hosts' subnets kept in the kernel, for backends whose packets the kernel forwards:
 * put as leases come, repaired when another program takes them away, and removed at the end.
 *
 * Routes to the same subnets that are not ours are replaced when they stand in the way (the same
 * metric); others are left alone.
 */
import { formatCidr, formatIpv4, subnetKey, type Cidr } from '../config/ipv4.js';
import { lookAtHost, type Looks } from '../dataplane/host-changes.js';
import type { GatewayRoute, KernelRoute, KernelRoutes } from '../dataplane/kernel-routes.js';
import { errnoOf, messageOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Route, RouteChange } from '../network/route-table.js';
import type { Problem, ProblemBoard } from '../problems.js';
import { RateLimitedLog } from '../rate-limited-log.js';
import type { ExternalLink } from './external-link.js';

/** Least time between two checks. */
const CHECK_MS = 2_000;
/** But the time between checks is so many times what the last one took. */
const CHECK_REST = 20;
/** Hosts named in a problem; more are counted. */
const NAMED = 3;
/** What is reported to the problem board. */
const SOURCE = 'kernel routes';
/** The gateway is on no link of this host: the first since Linux 4.17. */
const OFF_LINK: readonly string[] = ['ENETUNREACH', 'EHOSTUNREACH'];

export interface RouteNetworkParts {
  readonly kernel: KernelRoutes;
  readonly external: ExternalLink;
  readonly log: Logger;
  readonly problems: ProblemBoard | undefined;
}

interface Refusal {
  readonly route: Route;
  readonly error: unknown;
}

export class RouteNetwork {
  readonly #parts: RouteNetworkParts;
  readonly #wanted = new Map<string, Route>();
  readonly #refused = new Map<string, Refusal>();
  readonly #restored: RateLimitedLog;
  readonly #refusals: RateLimitedLog;
  /** Why the kernel's routes could not be read last time. */
  #unread: string | undefined;
  #looks: Looks | undefined;
  #closed = false;

  constructor(parts: RouteNetworkParts) {
    this.#parts = parts;
    this.#restored = new RateLimitedLog((fields) => {
      parts.log.warn(fields, 'another program changed a route; restored');
    });
    this.#refusals = new RateLimitedLog((fields) => {
      parts.log.warn(fields, 'the kernel refuses a route; retrying');
    });
  }

  /** Why no other host can be reached, though there are some; undefined otherwise. */
  get error(): string | undefined {
    if (this.#unread !== undefined) return this.#unread;
    const [first] = this.#refused.values();
    if (first === undefined || this.#refused.size < this.#wanted.size) return undefined;
    return this.#explain(first);
  }

  /** Why the kernel has no route to the subnet now; undefined when it was not refused. */
  refusalOf(subnet: Cidr): string | undefined {
    const refusal = this.#refused.get(subnetKey(subnet));
    return refusal === undefined ? undefined : this.#explain(refusal);
  }

  /** The first call also begins the checks. */
  apply(changes: readonly RouteChange[]): void {
    if (this.#closed) return;
    for (const change of changes) {
      const key = subnetKey(change.route.subnet);
      if (change.type === 'remove') {
        this.#wanted.delete(key);
        this.#refused.delete(key);
        this.#delete(change.route);
      } else {
        this.#wanted.set(key, change.route);
        if (this.#put(key, change.route) || change.type === 'add') continue;
        // The host before has the subnet no more.
        const { previous } = change;
        if (previous.nextHop !== change.route.nextHop) this.#delete(previous);
      }
    }
    this.#report();
    this.#looks ??= lookAtHost(
      () => {
        this.check();
      },
      { restMs: CHECK_MS, restTimes: CHECK_REST, often: () => this.#refused.size > 0 },
      this.#parts.kernel.changes,
    );
  }

  /** Of what an earlier run put, takes away what was left and is not wanted now. */
  removeLeft(routes: () => readonly Route[]): void {
    if (this.#closed) return;
    const others = routes().filter(
      ({ subnet, nextHop }) => this.#wanted.get(subnetKey(subnet))?.nextHop !== nextHop,
    );
    if (others.length === 0) return;
    const { kernel, log } = this.#parts;
    try {
      const present = firstOfEach(kernel.list());
      const left = others.filter((route) => {
        const found = present.get(subnetKey(route.subnet));
        return found !== undefined && isSame(found, this.#inKernel(route));
      });
      for (const route of left) this.#delete(route);
      if (left.length > 0) log.info({ routes: left.length }, 'routes of ended leases removed');
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'cannot look for routes left behind');
    }
  }

  /** Takes every route away that was put, or, with `keep`, leaves them. Idempotent. */
  close(keep = false): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#looks?.end();
    if (keep) this.#parts.log.info({ routes: this.#wanted.size }, 'the routes stay in the kernel');
    else for (const route of this.#wanted.values()) this.#delete(route);
    this.#parts.problems?.report(SOURCE, []);
  }

  /** Puts back what is missing; what the kernel refused is tried again. */
  check(): void {
    let present: ReadonlyMap<string, KernelRoute>;
    try {
      this.#parts.external.refresh();
      present = firstOfEach(this.#parts.kernel.list());
      this.#unread = undefined;
    } catch (error) {
      this.#unread = `the kernel's routes cannot be read: ${messageOf(error)}`;
      return;
    }
    for (const [key, route] of this.#wanted) {
      const wanted = this.#inKernel(route);
      const found = present.get(key);
      if (found !== undefined && isSame(found, wanted)) {
        this.#refused.delete(key);
        continue;
      }
      const isNew = !this.#refused.has(key);
      if (this.#put(key, route) && isNew) {
        this.#restored.report({ route: describe(route), found: found?.gateway ?? null });
      }
    }
    this.#report();
  }

  /** False when the kernel refuses. */
  #put(key: string, route: Route): boolean {
    try {
      this.#parts.kernel.put(this.#inKernel(route));
      this.#refused.delete(key);
      return true;
    } catch (error) {
      if (!this.#refused.has(key)) {
        this.#refusals.report({ route: describe(route), error: messageOf(error) });
      }
      this.#refused.set(key, { route, error });
      return false;
    }
  }

  #delete(route: Route): void {
    try {
      this.#parts.kernel.delete(this.#inKernel(route));
    } catch (error) {
      // The interface is gone, and the kernel removed its routes with it.
      this.#parts.log.debug(
        { route: describe(route), error: messageOf(error) },
        'a route was not removed',
      );
    }
  }

  #inKernel({ subnet, nextHop }: Route): GatewayRoute {
    return { destination: subnet, gateway: nextHop, interfaceIndex: this.#parts.external.index };
  }

  #report(): void {
    this.#parts.problems?.report(SOURCE, this.#problem());
  }

  #problem(): Problem[] {
    const refused = [...this.#refused.values()];
    if (refused.length === 0) return [];
    const named = refused.slice(0, NAMED).map((refusal) => this.#explain(refusal));
    if (refused.length > NAMED) named.push(`and ${refused.length - NAMED} more`);
    return [{ id: 'route_refused', message: named.join('; ') }];
  }

  #explain({ route, error }: Refusal): string {
    const what = `no route ${describe(route)}`;
    const code = errnoOf(error);
    if (code === undefined || !OFF_LINK.includes(code)) return `${what}: ${messageOf(error)}`;
    return `${what}: that host is not on the segment of ${this.#parts.external.name} (${code}), and every host has to be on one layer-2 segment`;
  }
}

/** The route that counts for each destination, by its key. */
function firstOfEach(routes: readonly KernelRoute[]): ReadonlyMap<string, KernelRoute> {
  const first = new Map<string, KernelRoute>();
  for (const route of routes) {
    const key = subnetKey(route.destination);
    const before = first.get(key);
    if (before === undefined || route.metric < before.metric) first.set(key, route);
  }
  return first;
}

function isSame(found: KernelRoute, wanted: GatewayRoute): boolean {
  return (
    found.metric === 0 &&
    found.gateway === wanted.gateway &&
    found.interfaceIndex === wanted.interfaceIndex
  );
}

function describe({ subnet, nextHop }: Route): string {
  return `${formatCidr(subnet)} via ${formatIpv4(nextHop)}`;
}
