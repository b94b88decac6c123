import { describe, expect, it } from 'vitest';
import { parseCidr, parseIpv4 } from '../../../src/config/ipv4.js';
import { bridgeProblems } from '../../../src/host/container-bridge.js';
import type { HostInterfaceInfo } from '../../../src/host/interface.js';

function device(name: string, ...addresses: string[]): HostInterfaceInfo {
  return {
    name,
    index: 1,
    mtu: 1500,
    up: true,
    loopback: false,
    addresses: addresses.map((text) => {
      const [address = '', prefix] = text.split('/');
      return { address: parseIpv4('test', address), prefix: Number(prefix) };
    }),
  };
}

const EXTERNAL = device('eth0', '10.168.0.2/24');
const TUN = device('flannel0', '10.96.1.0/32');

function problems(...more: HostInterfaceInfo[]) {
  return bridgeProblems({
    interfaces: [EXTERNAL, TUN, ...more],
    network: parseCidr('network', '10.0.0.0/8'),
    subnet: parseCidr('subnet', '10.96.1.0/24'),
    external: parseIpv4('external', '10.168.0.2'),
    isBridge: (name) => /^(docker|cni|br)/.test(name),
  });
}

describe('a container bridge', () => {
  it.each([
    ['is not there yet', []],
    ["has the subnet's gateway", [device('docker0', '10.96.1.1/24')]],
    ['has another address of the subnet', [device('docker0', '10.96.1.254/25')]],
    ['has an address of its own besides', [device('docker0', '192.168.5.1/24', '10.96.1.1/24')]],
    ['has no address', [device('docker0')]],
    [
      'is beside another one outside',
      [device('docker0', '172.17.0.1/16'), device('cni0', '10.96.1.1/24')],
    ],
    [
      'is not what serves the subnet',
      [device('docker0', '172.17.0.1/16'), device('veth1', '10.96.1.1/32')],
    ],
    ['is no bridge', [device('tun7', '172.17.0.1/16')]],
  ])('that %s is no problem', (_what, devices) => {
    expect(problems(...devices)).toEqual([]);
  });

  it("that has the tunnel's own address is the host's network", () => {
    const interfaces = [TUN, device('br0', '10.168.0.2/24')];
    expect(
      bridgeProblems({
        interfaces,
        network: parseCidr('network', '10.0.0.0/8'),
        subnet: parseCidr('subnet', '10.96.1.0/24'),
        external: parseIpv4('external', '10.168.0.2'),
        isBridge: (name) => name === 'br0',
      }),
    ).toEqual([]);
  });

  it.each([
    ['172.17.0.1/16', 'docker0 has 172.17.0.1/16, outside the network 10.0.0.0/8'],
    ['10.96.7.1/24', "docker0 has 10.96.7.1/24, in 10.96.7.0/24, which is not this node's"],
  ])('outside the subnet is named: %s', (address, message) => {
    const found = problems(device('docker0', address));
    expect(found).toMatchObject([
      { id: 'container_bridge_outside_subnet', remedy: 'dockerd --bip=10.96.1.1/24' },
    ]);
    expect(found[0]?.message).toContain(message);
  });

  it('that takes more than the subnet is named', () => {
    const found = problems(device('docker0', '10.96.1.1/16'));
    expect(found).toMatchObject([
      { id: 'container_bridge_too_wide', remedy: 'dockerd --bip=10.96.1.1/24' },
    ]);
    expect(found[0]?.message).toContain('10.96.1.1/16, more than this node');
  });

  it("has no remedy of Docker's when it is not Docker's", () => {
    expect(problems(device('cni0', '172.17.0.1/16'))[0]?.remedy).toBeUndefined();
  });
});
