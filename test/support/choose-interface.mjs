/** node choose-interface.mjs FLAGS...: prints what JSON flags choose on this host, a line each. */
import { hostInterfaces, InterfaceRules } from '../../dist/src/parts.js';

for (const text of process.argv.slice(2)) {
  const flags = { iface: [], ifaceRegex: [], ...JSON.parse(text) };
  const chosen = new InterfaceRules(flags, { interfaces: hostInterfaces }).choose();
  console.log(JSON.stringify(await chosen.catch((error) => error.message)));
}
