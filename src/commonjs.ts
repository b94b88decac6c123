/**
 * Packages and addons of Node's older module format, loaded by `require`. An `import` of one first reads
 * its text letter by letter for the names that it exports, which takes 35 ms for ipaddr.js.
 */
import { createRequire } from 'node:module';

export const requirePackage = createRequire(import.meta.url);
