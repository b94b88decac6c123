/** Routes in the form the native forwarding table takes: triples of network, prefix length, next hop. */
import type { Route, RouteChange } from '../../network/route-table.js';

/** In place of a next hop: the route is taken away. */
const NO_ROUTE = 0;

/** All routes, for an empty table. */
export function compileRoutes(routes: readonly Route[]): Uint32Array {
  return compile(routes, ({ subnet, nextHop }) => [subnet.network, subnet.prefix, nextHop]);
}

/** Changes in their order. */
export function compileChanges(changes: readonly RouteChange[]): Uint32Array {
  return compile(changes, ({ type, route: { subnet, nextHop } }) => [
    subnet.network,
    subnet.prefix,
    type === 'remove' ? NO_ROUTE : nextHop,
  ]);
}

function compile<T>(
  items: readonly T[],
  triple: (item: T) => readonly [number, number, number],
): Uint32Array {
  const triples = new Uint32Array(items.length * 3);
  for (const [at, item] of items.entries()) triples.set(triple(item), at * 3);
  return triples;
}
