/** What a test measured and does not judge, for the document that quotes it. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
