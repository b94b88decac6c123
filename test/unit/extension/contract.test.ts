import { describe, expect, it } from 'vitest';
import {
  backendData,
  checkBackendData,
  readOwnNetwork,
  showHolder,
} from '../../../src/extension/contract.js';

describe('what flanneld sets', () => {
  it('is read as flanneld writes it', () => {
    const env = { NETWORK: '100.96.0.0/16', SUBNET: '100.96.1.0/24', PUBLIC_IP: '10.168.0.2' };
    expect(showHolder(readOwnNetwork(env))).toBe('100.96.1.0/24 via 10.168.0.2');
    expect(readOwnNetwork({ ...env, NETWORK: '100.96.3.4/16' }).network.prefix).toBe(16);
  });

  it.each([
    [{ SUBNET: '100.96.1.0/24', PUBLIC_IP: '10.168.0.2' }, 'NETWORK: (missing)'],
    [{ NETWORK: '100.96.0.0/16', SUBNET: '', PUBLIC_IP: '10.168.0.2' }, 'SUBNET: ""'],
    [{ NETWORK: '100.96.0.0/16', SUBNET: '100.96.1.0/24', PUBLIC_IP: '<nil>' }, 'PUBLIC_IP: "<'],
  ])('%j names what is wrong', (env, message) => {
    expect(() => readOwnNetwork(env)).toThrow(message);
  });
});

describe('BackendData', () => {
  const data = backendData(8285);

  it.each(['', '\n', data, `${data}\n`, `(node:1) Warning: x\n${data}\n`])(
    '%j is taken',
    (text) => {
      expect(() => {
        checkBackendData(text, 8285);
      }).not.toThrow();
    },
  );

  it.each([
    ['02:42:ac:11:00:02\n', 'the other host has another data plane'],
    ['{"dataPlane":"other","udpPort":8285}', 'the other host has another data plane'],
    [backendData(8286), 'udpPort: 8286 is not valid: expected 8285'],
    ['{"dataPlane":"flannelette"}', 'udpPort: (missing) is not valid: expected 8285'],
  ])('%j is refused', (text, message) => {
    expect(() => {
      checkBackendData(text, 8285);
    }).toThrow(message);
  });
});
