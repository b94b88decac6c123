import { InvalidArgumentError } from 'commander';

/** Reads the value of a benchmark's option. */
export function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`expected an integer from ${low} to ${high}`);
  };
}
