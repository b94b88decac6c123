/** One step of a packet's way: a device where it can be captured, or what works on it between two. */
export type StepName =
  | 'sender'
  | 'container out'
  | 'port in'
  | 'docker0 in'
  | 'tunnel out'
  | 'encapsulation'
  | 'eth0 out'
  | 'switch in'
  | 'switch out'
  | 'eth0 in'
  | 'decapsulation'
  | 'decapsulated in'
  | 'tunnel in'
  | 'docker0 out'
  | 'port out'
  | 'container in'
  | 'receiver';

export type Side = 'user' | 'kernel';

export interface Crossing {
  /** From 1, in the order of the way. */
  readonly number: number;
  readonly name: string;
  readonly from: Side;
  readonly to: Side;
}

export interface Step {
  readonly name: StepName;
  /** The container, the host or the switch. */
  readonly where: string;
  /** The device's or process's name. */
  readonly device: string;
  readonly side: Side;
  /** At a device: the packet enters by it or leaves by it. */
  readonly direction?: 'in' | 'out';
  /** The border crossed to get here. */
  readonly crossing?: Crossing;
  /** What happens to the packet here, a line each, where no capture shows it. */
  readonly work?: readonly string[];
  /**
   * A packet that was received keeps the kernel's time of that wherever it is captured until it leaves:
   * when it was here is not known.
   */
  readonly keepsStamp?: true;
  /** Who took one from the TTL since the last capture, each by its kind. */
  readonly ttlTakenBy?: readonly TtlTaker[];
}

export type TtlTaker = 'host' | 'daemon' | 'program';

/** A step where packets can be captured. */
export interface Tap extends Step {
  readonly direction: 'in' | 'out';
  /** Undefined: the lab's own. */
  readonly namespace: string | undefined;
}

/** A step whose crossing has no number yet. */
export type Draft = Omit<Step, 'crossing'> & { readonly crossing?: Omit<Crossing, 'number'> };
type More = Pick<Draft, 'crossing' | 'work' | 'ttlTakenBy' | 'keepsStamp'>;

export function tap(
  name: StepName,
  where: string,
  device: string,
  direction: 'in' | 'out',
  more: More = {},
): Draft & Pick<Tap, 'namespace'> {
  const namespace = where === 'switch' ? undefined : where;
  return { name, where, namespace, device, direction, side: 'kernel', ...more };
}

/** A process. */
export function user(name: StepName, where: string, device: string, more: More = {}): Draft {
  return { name, where, device, side: 'user', ...more };
}

export function isTap(step: Step | Tap): step is Tap {
  return 'namespace' in step;
}
