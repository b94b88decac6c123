/**
 * The teaching tunnel as a program: a host's end of the overlay, with the lease file as it is at the
 * start. Needs ip(8) and the right to make a TUN; the device goes with the process.
 *
 *   node dist/bench/js-tunnel/js-tunnel.js --lease-file=FILE --public-ip=ADDRESS --mtu=BYTES
 *
 * Says `forwarding` when it forwards, and a line of counters as JSON for each SIGUSR2.
 */
import { Command, CommanderError } from 'commander';
import { formatCidr, formatIpv4, parseIpv4 } from '../../src/config/ipv4.js';
import { parseUdpSettings } from '../../src/forward/udp/udp-settings.js';
import { parseNetworkConfig, type NetworkConfig } from '../../src/config/network.js';
import { ExitCode, FlannelletteError, inputError, messageOf } from '../../src/errors.js';
import { stopSignal } from '../../src/testbed/isolate.js';
import { ipBatch } from '../../src/testbed/topology.js';
import { readLeaseFile, unreadable } from '../../src/lease/file/file-read.js';
import type { Lease } from '../../src/lease/store.js';
import { RouteTable } from '../../src/network/route-table.js';
import { integer } from '../frame/frame.js';
import { JsTunnel, type TunnelOptions } from './tunnel.js';

interface Options {
  readonly leaseFile: string;
  readonly publicIp: string;
  readonly mtu: number;
}

process.exitCode = await main();

async function main(): Promise<ExitCode> {
  try {
    await forward(readOptions());
    return ExitCode.ok;
  } catch (error) {
    // commander has printed what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
    process.stderr.write(`js tunnel: ${messageOf(error)}\n`);
    return error instanceof FlannelletteError ? error.exitCode : ExitCode.failure;
  }
}

function readOptions(): Options {
  return new Command('js tunnel')
    .description(
      'A tunnel in JavaScript, one read and one send per packet through FFI: for teaching.',
    )
    .requiredOption('--lease-file <path>', 'who holds which subnet')
    .requiredOption('--public-ip <address>', "this host's address, which holds a lease")
    .option('--mtu <bytes>', 'of the TUN, 68 to 65507', integer(68, 65_507), 1_472)
    .exitOverride()
    .parse()
    .opts<Options & Record<string, unknown>>();
}

async function forward({ leaseFile, publicIp, mtu }: Options): Promise<void> {
  const stop = stopSignal();
  const { config, tunnelOptions } = await readOverlay(leaseFile, publicIp);
  const tunnel = new JsTunnel(tunnelOptions);
  try {
    const own = formatIpv4(tunnelOptions.own.network);
    await ipBatch(undefined, [
      `address add ${own}/32 dev ${tunnel.device}`,
      `link set ${tunnel.device} mtu ${mtu} up`,
      `route add ${formatCidr(config.network)} dev ${tunnel.device}`,
    ]);
    process.on('SIGUSR2', () => {
      process.stdout.write(`${JSON.stringify(tunnel.counters)}\n`);
    });
    process.stdout.write('forwarding\n');
    await tunnel.run(stop);
  } finally {
    tunnel.close();
  }
}

async function readOverlay(
  leaseFile: string,
  publicIp: string,
): Promise<{ config: NetworkConfig; tunnelOptions: TunnelOptions }> {
  const address = parseIpv4('--public-ip', publicIp);
  const { document } = await readLeaseFile(leaseFile).catch((error: unknown) => {
    throw unreadable(leaseFile, error);
  });
  if (document.config === undefined) {
    throw inputError('config', undefined, `a network configuration in ${leaseFile}`);
  }
  const config = parseNetworkConfig(document.config);
  const leases = [...document.leases.values()];
  const { subnet: own } = leaseOf(leases, address, leaseFile);
  const { network } = config;
  const routes = new RouteTable({ network, own, ownPublicIp: address });
  routes.replaceAll(leases);
  return {
    config,
    tunnelOptions: { routes, own, address, port: parseUdpSettings(config.backend).port },
  };
}

function leaseOf(leases: readonly Lease[], address: number, leaseFile: string): Lease {
  const own = leases.find(({ attributes }) => attributes.publicIp === address);
  if (own !== undefined) return own;
  throw inputError('--public-ip', formatIpv4(address), `an address with a lease in ${leaseFile}`);
}
