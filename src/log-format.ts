/** How the log is written (log.ts); apart from it, because flags name the formats before there is a log. */
export type LogFormat = 'text' | 'json';
export const LOG_FORMATS = ['text', 'json'] as const satisfies readonly LogFormat[];
