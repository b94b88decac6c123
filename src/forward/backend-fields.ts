/** Fields of the network configuration's Backend object; each throws an input error that names it. */
import { field } from '../config/json.js';
import type { BackendConfig } from '../config/network.js';
import { inputError } from '../errors.js';

/** Undefined when it is missing or null. */
export function integerField(
  { raw }: BackendConfig,
  name: string,
  least: number,
  most: number,
): number | undefined {
  const value = field(raw, name) ?? undefined;
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    throw inputError(`Backend.${name}`, value, `a whole number from ${least} to ${most}`);
  }
  return value;
}

/** False when it is missing or null. */
export function flagField({ raw }: BackendConfig, name: string): boolean {
  const value = field(raw, name) ?? false;
  if (typeof value !== 'boolean') throw inputError(`Backend.${name}`, value, 'true or false');
  return value;
}
