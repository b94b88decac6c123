/**
 * The live page's side outside the namespaces: the server on the machine's own loopback, joined to
 * the isolated lab by its IPC channel. No route, interface or firewall rule leads into the lab.
 *
 *   browser -- HTTP 127.0.0.1 -- this process -- IPC -- flannelette lab --isolated
 */
import type { DaemonMode } from '../../daemon/options.js';
import type { LabBackend } from '../backends/backend.js';
import { ExitCode } from '../../errors.js';
import { runIsolated } from '../../testbed/isolate.js';
import { readPage } from './files.js';
import { buildingState, resultName } from './state.js';
import type { Command, CommandRequest, IsolatedEvent, LabState } from './messages.js';
import { PageServer } from './page-server.js';

const ANSWER_MS = 5_000;
const NOT_YET = 'the lab is not up yet, or has ended';

export interface PageOptions {
  /** TCP port on 127.0.0.1; 0 for a free one. */
  readonly port: number;
  readonly backend: LabBackend;
  readonly mode: DaemonMode;
  readonly print: (text: string) => void;
}

/** Runs `argv`, the isolated lab, with a page in front of it; the exit code of the lab. */
export async function runWithPage(
  argv: readonly string[],
  { port, backend, mode, print }: PageOptions,
): Promise<ExitCode> {
  const lab = new RemoteLab();
  let state: LabState = buildingState(resultName(backend, mode), backend);
  const server = await PageServer.listen(port, await readPage(), (command) =>
    state.phase === 'live' ? lab.ask(command) : Promise.resolve(NOT_YET),
  );
  const show = (news: LabState): void => {
    state = news;
    server.publish('state', state);
  };
  const stopping = (): void => {
    show({ ...state, phase: 'stopped', message: 'The lab was asked to stop.' });
  };
  process.on('SIGINT', stopping);
  process.on('SIGTERM', stopping);
  try {
    show(state);
    print(`The live page: ${server.url}\n`);
    const code = await runIsolated<IsolatedEvent>(argv, {
      begin: (send) => {
        lab.send = send;
      },
      hear: (event) => {
        if (event.type === 'answer') lab.answered(event.id, event.refused);
        else if (event.type === 'sample') server.publish('sample', event.sample);
        else show(event.state);
      },
    });
    if (code !== ExitCode.ok && state.phase !== 'failed' && state.phase !== 'stopped') {
      show({ ...state, phase: 'failed', message: 'The lab ended by itself; see the terminal.' });
    }
    return code;
  } finally {
    process.off('SIGINT', stopping);
    process.off('SIGTERM', stopping);
    lab.close();
    await server.close();
  }
}

/** Commands to the isolated lab, and its answers. */
class RemoteLab {
  send: (message: object) => boolean = () => false;
  readonly #waiting = new Map<number, (refused: string | null) => void>();
  #last = 0;

  /** Why the lab does not do it now; null when it does. */
  ask(command: Command): Promise<string | null> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.answered(id, NOT_YET);
      }, ANSWER_MS);
      this.#waiting.set(id, (refused) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        resolve(refused);
      });
      const request: CommandRequest = { type: 'command', id, command };
      if (!this.send(request)) this.answered(id, NOT_YET);
    });
  }

  answered(id: number, refused: string | null): void {
    this.#waiting.get(id)?.(refused);
  }

  close(): void {
    for (const id of [...this.#waiting.keys()]) this.answered(id, NOT_YET);
  }
}
