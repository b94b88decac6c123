/** The bounds that options are checked by before the addon is loaded are the addon's own. */
import { expect, it } from 'vitest';
import { LIMITS } from '../../../src/dataplane/limits.js';
import { native } from '../../../src/dataplane/native.js';

it('are what the addon exports', () => {
  expect(native().limits).toEqual(LIMITS);
});
