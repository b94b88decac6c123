/**
 * Priorities for systemd's journal: a line that begins with `<N>` is filed under syslog's priority N
 * (sd-daemon(3)), so that `journalctl -p warning` finds it. Only where standard error really is the
 * journal: a unit may send it elsewhere, and a program that this process starts inherits the variable.
 */
import { fstatSync } from 'node:fs';

/** syslog(3) priorities. */
export const PRIORITY = { critical: 2, error: 3, warning: 4, info: 6, debug: 7 } as const;
export type Priority = (typeof PRIORITY)[keyof typeof PRIORITY];

/** JOURNAL_STREAM is `DEVICE:INODE` of the stream that leads to the journal, systemd.exec(5). */
export function isJournal(
  env: Readonly<Record<string, string | undefined>>,
  descriptor: number,
): boolean {
  const stream = env['JOURNAL_STREAM'];
  if (stream === undefined || stream === '') return false;
  try {
    const { dev, ino } = fstatSync(descriptor, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
