/**
 * The external interface as the kernel's routes need it: by its index. It is another one after the
 * interface was deleted and made again (a driver), and when its address moves to a bridge or a bond.
 */
import { cidrOf, contains, type Ipv4 } from '../config/ipv4.js';
import { hostInterfaces, type HostInterface } from '../dataplane/dataplane.js';
import { systemError } from '../errors.js';
import type { ExternalInterface } from '../host/interface.js';

export class ExternalLink {
  readonly #external: Pick<ExternalInterface, 'name' | 'address'>;
  readonly #interfaces: () => readonly HostInterface[];
  #known: HostInterface;

  /** Throws a system error when there is no such interface. */
  constructor(
    external: Pick<ExternalInterface, 'name' | 'address'>,
    interfaces: (() => readonly HostInterface[]) | undefined,
  ) {
    this.#external = external;
    this.#interfaces = interfaces ?? hostInterfaces;
    const found = this.#find();
    if (found === undefined) throw systemError(`interface ${external.name} is gone`);
    this.#known = found;
  }

  get name(): string {
    return this.#known.name;
  }

  get index(): number {
    return this.#known.index;
  }

  /** Whether one of its networks has the host: a route to it has no gateway then. */
  isOnLink(host: Ipv4): boolean {
    return this.#known.addresses.some(
      ({ address, prefix }) => prefix > 0 && prefix < 32 && contains(cidrOf(address, prefix), host),
    );
  }

  /** Looks again; what was known stays while the interface is gone. */
  refresh(): void {
    this.#known = this.#find() ?? this.#known;
  }

  #find(): HostInterface | undefined {
    const { name, address: wanted } = this.#external;
    const all = this.#interfaces();
    const holders = all.filter(({ addresses }) =>
      addresses.some(({ address }) => address === wanted),
    );
    const named = (one: HostInterface): boolean => one.name === name;
    return holders.find(named) ?? holders[0] ?? all.find(named);
  }
}
