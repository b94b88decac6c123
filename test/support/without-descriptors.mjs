/** Uses up every descriptor and prints by which code each look at the host then fails. */
import { openSync } from 'node:fs';
import { hostInterfaces, readDefaultInterface, sourceAddressTo } from '../../dist/src/parts.js';

hostInterfaces(); // Loads the addon.
const looks = {
  interfaces: async () => hostInterfaces(),
  defaultInterface: () => readDefaultInterface(),
  sourceAddressTo: () => sourceAddressTo('10.168.0.3'),
};
try {
  for (;;) openSync('/dev/null');
} catch {
  // Every descriptor is taken now.
}
for (const [name, look] of Object.entries(looks)) {
  const outcome = await look().then(
    () => 'no error',
    (error) => error.code,
  );
  console.log(`${name} ${outcome}`);
}
