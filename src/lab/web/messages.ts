/**
 * What the live page, its server outside and the lab inside say to one another; all of it plain JSON.
 *
 *   page --POST /command--> server --IPC--> lab      Command, answered by accepted or a reason
 *   page <--SSE /events--- server <--IPC--- lab      LabState whenever it changes, Sample twice a second
 */

/** Modes the page offers. */
export type PageMode = 'basic' | 'batch' | 'offload';

export type LoadKind = 'ping' | 'tcp' | 'udp';

export type Command =
  | { readonly command: LoadKind | 'stop' | 'add-host' | 'remove-host' }
  | { readonly command: 'mode'; readonly mode: PageMode };

export interface LabState {
  /** `stopped`: asked to end; `failed`: it ended by itself, `message` says why. */
  readonly phase: 'building' | 'live' | 'stopped' | 'failed';
  readonly mode: PageMode;
  /** The traffic that runs now, and how long it was started for. */
  readonly load: { readonly kind: LoadKind; readonly seconds: number } | null;
  /** A change under way, e.g. `Switching to batch`. */
  readonly change: string | null;
  readonly thirdHost: boolean;
  /** The latest news, one sentence. */
  readonly message: string;
  /** The last TCP and UDP load in each mode, the latest at the end. */
  readonly results: readonly ModeResult[];
}

export interface ModeResult extends Figures {
  readonly mode: PageMode;
  readonly kind: LoadKind;
}

/** Derived from counters over a time; null where nothing was carried. */
export interface Figures {
  /** Inner IP bytes that the daemons delivered, all hosts together. */
  readonly bitsPerSecond: number;
  /** Inner packets that the daemons delivered, all hosts together. */
  readonly packetsPerSecond: number;
  readonly dropsPerSecond: number;
  /** read, write and poll calls of a daemon's packet loops for a packet it carried. */
  readonly callsPerPacket: number | null;
  /** Bytes the daemons read and wrote for a byte delivered: 2 each where nothing is lost. */
  readonly daemonCopies: number | null;
  /** CPUs of the machine that were busy, whatever with. */
  readonly busyCpus: number;
}

export type HopName = 'container' | 'docker0' | 'flannel0' | 'daemon' | 'eth0';

/** Per second. Out: from the container towards the wire. A train counts as one packet of a device. */
export interface HopRate {
  readonly outPackets: number;
  readonly outBytes: number;
  readonly inPackets: number;
  readonly inBytes: number;
}

export interface HostSample {
  readonly number: number;
  readonly hops: Readonly<Record<HopName, HopRate>>;
  /** CPU seconds a second of this host's daemon. */
  readonly daemonCpu: number;
}

export interface Sample {
  /** Hosts whose daemon forwards. */
  readonly hosts: readonly HostSample[];
  readonly figures: Figures;
  readonly cpus: number;
}

/** From the lab to the server. */
export type InsideEvent =
  | { readonly type: 'state'; readonly state: LabState }
  | { readonly type: 'sample'; readonly sample: Sample }
  | { readonly type: 'answer'; readonly id: number; readonly refused: string | null };

/** From the server to the lab. */
export interface CommandRequest {
  readonly type: 'command';
  readonly id: number;
  readonly command: Command;
}
