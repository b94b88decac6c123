import { describe, expect, it } from 'vitest';
import {
  capabilityNumber,
  neededCapabilities,
  ownPrivileges,
  parsePrivileges,
} from '../../../src/daemon/privileges.js';

const status = (permitted: string, more = ''): string =>
  `Name:\tnode\nCapInh:\t0000000000000000\nCapPrm:\t${permitted}\nCapEff:\t0000000000000000\n${more}`;

describe('parsePrivileges', () => {
  it.each([
    ['0000000000003000', ['NET_ADMIN', 'NET_RAW']],
    ['0000000000000000', []],
    ['0000008000003000', ['NET_ADMIN', 'NET_RAW', 'BPF']],
    ['8000000000000001', ['CHOWN', '63']],
  ])('names the capabilities of %s', (permitted, capabilities) => {
    expect(parsePrivileges(status(permitted))?.capabilities).toEqual(capabilities);
  });

  it.each([
    ['NoNewPrivs:\t1\nSeccomp:\t2\n', true],
    ['NoNewPrivs:\t0\n', false],
    // Before Linux 4.10.
    ['', null],
  ])('reads no_new_privs of %j', (more, expected) => {
    expect(parsePrivileges(status('0000000000003000', more))?.noNewPrivileges).toBe(expected);
  });

  it('takes nothing for what is no status', () => {
    for (const text of ['', 'CapPrm:\tzz\n', 'CapEff:\t0000000000003000\n']) {
      expect(parsePrivileges(text)).toBeUndefined();
    }
    expect(ownPrivileges('/proc/none/status')).toBeUndefined();
  });

  it('numbers them as linux/capability.h', () => {
    const numbers = neededCapabilities('kernel').map(capabilityNumber);
    expect(numbers).toEqual([12, 13, 38, 39]);
    expect(capabilityNumber('CHECKPOINT_RESTORE')).toBe(40);
    expect(neededCapabilities('auto')).toEqual(['NET_ADMIN', 'NET_RAW']);
  });
});
