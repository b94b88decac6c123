/** A route of a host, as ip(8) has it. */

/** As `ip -j route` says it. */
export interface Route {
  readonly dst: string;
  /** None of a route that refuses: its type is `unreachable`. */
  readonly dev?: string;
  readonly gateway?: string;
  readonly prefsrc?: string;
  /** Unless it is unicast: `local` for the host's own addresses. */
  readonly type?: string;
  /** `onlink`: the gateway is taken to be on the device's link, whatever its address. */
  readonly flags?: readonly string[];
}

/** As `ip route` shows it. */
export function showRoute({ dst, gateway, dev, prefsrc, type, flags }: Route): string {
  const kind = type === undefined || type === 'unicast' ? '' : `${type} `;
  const via = gateway === undefined ? '' : ` via ${gateway}`;
  const source = prefsrc === undefined ? '' : ` src ${prefsrc}`;
  // As it was given, not what the link is like at this moment.
  const onlink = flags?.includes('onlink') === true ? ' onlink' : '';
  const device = dev === undefined ? '' : ` dev ${dev}`;
  return `${kind}${dst}${via}${device}${source}${onlink}`;
}
