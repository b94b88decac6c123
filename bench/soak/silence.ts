/** The longest time without an answer, from what `ping -D` printed. */

/** When answers came, in seconds since 1970. */
export function readAnswers(output: string): number[] {
  return [...output.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from /gm)].map(([, at]) => Number(at));
}

/** The longest gap between answers from `from` to `to`, whose ends count as answers. */
export function longestSilence(answers: readonly number[], from: number, to: number): number {
  const inside = answers.filter((at) => at > from && at < to);
  const points = [from, ...inside, to];
  return Math.max(...points.slice(1).map((at, index) => at - (points[index] ?? at)));
}
