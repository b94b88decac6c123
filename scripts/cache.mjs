/** What is fetched once for this user, outside the repository. As in src/testbed/tools.ts. */
import { homedir } from 'node:os';
import { join } from 'node:path';

export const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'flannelette');
