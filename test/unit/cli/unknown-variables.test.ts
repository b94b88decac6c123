import { describe, expect, it } from 'vitest';
import { runFlags } from '../../../src/cli/run-flags.js';
import { unknownVariables } from '../../../src/cli/unknown-variables.js';

const found = (env: Record<string, string>) =>
  unknownVariables(runFlags, env).map(({ name, near }) => [name, near]);

describe('FLANNELD_ variables', () => {
  it.each([
    ['FLANNELD_IPMASQ', 'FLANNELD_IP_MASQ'],
    ['FLANNELD_ETCD_ENDPOINT', 'FLANNELD_ETCD_ENDPOINTS'],
    ['FLANNELD_ETCD_PREFX', 'FLANNELD_ETCD_PREFIX'],
    ['FLANNELD_ETCD_CA_FILE', 'FLANNELD_ETCD_CAFILE'],
    ['FLANNELD_INTERFACE', undefined],
    ['FLANNELD_HEALTHZPORT', 'FLANNELD_HEALTHZ_PORT'],
    ['FLANNELD_iface', 'FLANNELD_IFACE'],
    ['FLANNELD_OPTIONS', undefined],
  ])('%s is none; meant was %s', (name, near) => {
    expect(found({ [name]: 'x' })).toEqual([[name, near]]);
  });

  it('of flags, of others, empty ones and those of Kubernetes are not told', () => {
    expect(
      found({
        FLANNELD_IP_MASQ: 'true',
        FLANNELD_KUBE_API_URL: 'x',
        FLANNELD_V: '1',
        FLANNEL_OPTIONS: 'x',
        FLANNELD_IPMASQ: '',
        FLANNELD_SERVICE_HOST: '10.0.0.1',
        FLANNELD_PORT_8285_UDP_PROTO: 'udp',
        FLANNELD_PORT: 'udp://10.0.0.1:8285',
        PATH: 'x',
      }),
    ).toEqual([]);
  });
});
