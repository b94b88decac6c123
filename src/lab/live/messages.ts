/**
 * What the live page, its server (the parent) and the isolated lab tell each other; all of it plain JSON.
 *
 *   page --POST /command--> server --IPC--> lab      Command, answered by accepted or a reason
 *   page <--SSE /events--- server <--IPC--- lab      LabState whenever it changes, Sample twice a second
 */

/** Modes the page offers. */
export type PageMode = 'basic' | 'batch' | 'offload' | 'kernel';

/** What results are of: a mode, or a backend that has none. */
export type ResultName = PageMode | 'vxlan' | 'host-gw';

export type LoadKind = 'ping' | 'tcp' | 'udp';

export type Command =
  | { readonly command: LoadKind | 'stop' | 'add-host' | 'remove-host' }
  | { readonly command: 'mode'; readonly mode: PageMode };

export interface LabState {
  /** `stopped`: asked to end; `failed`: it ended by itself, `message` says why. */
  readonly phase: 'building' | 'live' | 'stopped' | 'failed';
  readonly mode: ResultName;
  /** Between which the page may switch; none where the kernel alone forwards. */
  readonly modes: readonly PageMode[];
  /** Name of the overlay's own device; null where packets leave by eth0. */
  readonly device: string | null;
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
  readonly mode: ResultName;
  readonly kind: LoadKind;
}

/** Derived from counters over a time; null where nothing was carried. */
export interface Figures {
  /**
   * Inner IP bytes that daemons or their programs delivered into flannel0, all hosts and directions
   * together; where the kernel alone forwards, those that went into the containers.
   */
  readonly bitsPerSecond: number;
  /** Inner packets of these; null where nobody counts packets. */
  readonly packetsPerSecond: number | null;
  /**
   * By the daemons, and by the kernel in front of them; not those of the containers' sockets. Null where
   * the kernel alone forwards.
   */
  readonly dropsPerSecond: number | null;
  /**
   * read, write and poll calls of all daemons' packet loops for a packet delivered: of both ends, as
   * `bench modes` counts. Null with few packets, when most calls are looks that find nothing.
   */
  readonly callsPerPacket: number | null;
  /** Bytes all daemons read and wrote for a byte delivered: 4 where nothing is lost. */
  readonly daemonCopies: number | null;
  /** CPUs of the machine that were busy, whatever with. */
  readonly busyCpus: number;
}

/** `flannel0` stands for the overlay's device, whatever its name. */
export type HopName = 'container' | 'docker0' | 'flannel0' | 'daemon' | 'eth0';

/**
 * Per second. Out: from the container towards the wire. Of a device `packets` are passes: a train of
 * many packets passes as one.
 */
export interface HopRate {
  readonly outPackets: number;
  readonly outBytes: number;
  readonly inPackets: number;
  readonly inBytes: number;
}

export interface HostSample {
  readonly number: number;
  /** Null: not on the way, or nobody counts packets there. */
  readonly hops: Readonly<Record<HopName, HopRate | null>>;
  /** Inner packets by daemon and programs; null where the kernel alone forwards. */
  readonly carried: HopRate | null;
  /** No process is on the way. */
  readonly byKernel: boolean;
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
export type IsolatedEvent =
  | { readonly type: 'state'; readonly state: LabState }
  | { readonly type: 'sample'; readonly sample: Sample }
  | { readonly type: 'answer'; readonly id: number; readonly refused: string | null };

/** From the server to the lab. */
export interface CommandRequest {
  readonly type: 'command';
  readonly id: number;
  readonly command: Command;
}
