/**
 * The list of plugins by which a container runtime sets up the network of a pod (CNI specification 1.0,
 * "Configuration format"): flannel's 10-flannel.conflist.
 *
 *   runtime --first file of /etc/cni/net.d by name--> flannel plugin --> subnet.env
 *                                                          '--> bridge (cni0) --> host-local
 *                                                     portmap
 */
import { constants } from 'node:fs';
import { access, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isObject, type JsonObject } from '../config/json.js';
import { errnoOf, inputError, messageOf } from '../errors.js';

/** Names that a container runtime reads in its directory (libcni). */
const CONFIGURATION = /\.(conf|conflist|json)$/;

/** What the flannel plugin calls when its `delegate` names nothing else. */
const DELEGATE = 'bridge';
const DELEGATE_IPAM = 'host-local';

/** What kube-flannel installs; `subnetFile` when it is not the flannel plugin's default. */
export function defaultConflist(subnetFile?: string): string {
  const flannel = {
    type: 'flannel',
    ...(subnetFile === undefined ? {} : { subnetFile }),
    delegate: { hairpinMode: true, isDefaultGateway: true },
  };
  const portmap = { type: 'portmap', capabilities: { portMappings: true } };
  const list = { name: 'cbr0', cniVersion: '0.3.1', plugins: [flannel, portmap] };
  return `${JSON.stringify(list, null, 2)}\n`;
}

/**
 * Names of the programs that a list needs, those that its plugins call included. Throws an input error
 * that names `field` and the key.
 */
export function pluginsOf(text: string, field: string): string[] {
  const list = parseList(text, field);
  for (const key of ['name', 'cniVersion']) {
    const value = list[key];
    if (typeof value !== 'string' || value === '') {
      throw inputError(
        `${field}: ${key}`,
        value,
        key === 'name' ? 'a name, e.g. cbr0' : 'a version, e.g. 0.3.1',
      );
    }
  }
  const { plugins } = list;
  if (!Array.isArray(plugins) || plugins.length === 0) {
    throw inputError(`${field}: plugins`, plugins, 'a list of at least one plugin');
  }
  const names = plugins.flatMap((plugin: unknown, index) =>
    programsOf(plugin, `${field}: plugins[${index}]`),
  );
  return [...new Set(names)];
}

function parseList(text: string, field: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw inputError(field, text.slice(0, 60), `JSON (${messageOf(error)})`);
  }
  if (isObject(value)) return value;
  throw inputError(field, value, 'a JSON object with name, cniVersion and plugins');
}

function programsOf(plugin: unknown, field: string): string[] {
  if (!isObject(plugin)) throw inputError(field, plugin, 'an object with type');
  const type = programName(plugin['type'], `${field}.type`);
  const delegate = plugin['delegate'];
  if (delegate !== undefined && !isObject(delegate)) {
    throw inputError(`${field}.delegate`, delegate, 'an object');
  }
  if (type !== 'flannel') return [type, ...ipamOf(plugin, field)];
  const called = programName(delegate?.['type'] ?? DELEGATE, `${field}.delegate.type`);
  const ipam = ipamOf(delegate ?? {}, `${field}.delegate`);
  return [type, called, ...(ipam.length === 0 ? [DELEGATE_IPAM] : ipam)];
}

function ipamOf({ ipam }: JsonObject, field: string): string[] {
  if (!isObject(ipam) || ipam['type'] === undefined) return [];
  return [programName(ipam['type'], `${field}.ipam.type`)];
}

/** A name without a folder: runtimes look it up in theirs. */
function programName(value: unknown, field: string): string {
  if (typeof value === 'string' && /^[A-Za-z0-9][\w.-]*$/.test(value)) return value;
  throw inputError(field, value, 'the name of a plugin, e.g. bridge');
}

/** Those of the programs that are not executable files of the directory. */
export async function missingPlugins(
  directory: string,
  names: readonly string[],
): Promise<string[]> {
  const found = await Promise.all(names.map((name) => isProgram(join(directory, name))));
  return names.filter((_, index) => found[index] !== true);
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** The file that a runtime would take instead, as its name comes first; undefined when there is none. */
export async function fileBefore(directory: string, name: string): Promise<string | undefined> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const [first] = [...names, name].filter((file) => CONFIGURATION.test(file)).sort();
  return first === name ? undefined : first;
}
