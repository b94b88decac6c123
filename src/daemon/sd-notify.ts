/**
 * Tells the service manager how the daemon is doing: the protocol of sd_notify(3), for units with
 * `Type=notify`. flanneld sends READY=1; stopping and the status line are more than it says.
 *
 * A daemon works the same without a manager: nothing here throws or waits.
 */
import { notifyManager } from '../dataplane/dataplane.js';
import { errnoOf, messageOf } from '../errors.js';
import type { Logger } from '../log.js';

/** Sends one datagram; throws when it cannot. `path` is the value of NOTIFY_SOCKET. */
export type NotifySender = (path: string, message: string) => void;

export class ServiceManager {
  readonly #path: string | undefined;
  readonly #log: Logger;
  readonly #send: NotifySender;
  #ready = false;
  #failed = false;

  private constructor(path: string | undefined, log: Logger, send: NotifySender) {
    this.#path = path;
    this.#log = log;
    this.#send = send;
  }

  /** The manager that NOTIFY_SOCKET names; without one every call does nothing. */
  static fromEnvironment(
    env: Readonly<Record<string, string | undefined>>,
    log: Logger,
    send: NotifySender = notifyManager,
  ): ServiceManager {
    const path = env.NOTIFY_SOCKET;
    return new ServiceManager(path === '' ? undefined : path, log, send);
  }

  /** Start-up is done; `status` as for status(). Sent once, again only when it did not get out. */
  ready(status?: string): void {
    if (this.#ready) return;
    this.#ready = this.#notify(status === undefined ? 'READY=1' : `READY=1\n${statusLine(status)}`);
  }

  /** Shutdown has begun: the manager waits for the exit from now on. */
  stopping(): void {
    this.#notify('STOPPING=1');
  }

  /** One line for people, as `systemctl status` shows it; line breaks become spaces. */
  status(text: string): void {
    this.#notify(statusLine(text));
  }

  /** Whether the manager has the message. */
  #notify(message: string): boolean {
    if (this.#path === undefined) return false;
    try {
      this.#send(this.#path, message);
      return true;
    } catch (error) {
      if (!this.#failed) {
        this.#log.warn(
          { path: this.#path, code: errnoOf(error) },
          `cannot tell the service manager (NOTIFY_SOCKET): ${messageOf(error)}; running on without`,
        );
      }
      this.#failed = true;
      return false;
    }
  }
}

/** A line break would begin another variable of the protocol. */
function statusLine(text: string): string {
  return `STATUS=${text.replaceAll(/\s*[\r\n]\s*/g, ' ').trim()}`;
}
