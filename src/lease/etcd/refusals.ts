/**
 * What etcd's errors mean to an operator: which of them another member may not say, and for the others
 * what is wrong and how to mend it.
 */
import type { Problem } from '../../problems.js';
import { isTokenRefusal } from './auth.js';
import { Code, GrpcError } from './grpc.js';

/** What was asked, for messages: `read /coreos.com/network/config`. */
export interface Operation {
  readonly verb: 'read' | 'write' | 'watch' | 'make' | 'renew';
  readonly key: string;
}

const REFUSALS: readonly number[] = [
  Code.invalidArgument,
  Code.failedPrecondition,
  Code.permissionDenied,
  Code.unauthenticated,
  Code.unimplemented,
  Code.dataLoss,
];

/** etcd answered and refuses; anything else is worth asking another member, or again. */
export function isRefusal(error: GrpcError): boolean {
  // A member that is learning or starting cannot serve yet; others can.
  if (/not capable|for learner|too many requests/.test(error.message)) return false;
  return REFUSALS.includes(error.code) || isNoSpace(error);
}

/** etcd's quota is used up: it reads and keeps grants alive, and writes nothing. */
export function isNoSpace(error: unknown): boolean {
  return error instanceof GrpcError && /database space exceeded/.test(error.message);
}

/** etcd's own words without its prefix. */
export function wordsOf(error: GrpcError): string {
  return error.message.replace(/^etcdserver: /, '');
}

/** The problem behind a refusal, for the board. */
export function problemOf(
  error: GrpcError,
  { verb, key }: Operation,
  username: string | undefined,
): Problem {
  const user =
    username === undefined ? 'this host, without --etcd-username,' : `user "${username}"`;
  if (error.code === Code.permissionDenied) {
    return {
      id: 'etcd_permission',
      message: `${user} may not ${verb} ${key} (${wordsOf(error)})`,
      remedy: `etcdctl role grant-permission ROLE --prefix=true readwrite ${prefixOf(key)}`,
    };
  }
  if (isNoSpace(error)) {
    return {
      id: 'etcd_no_space',
      message: 'its quota is used up (NOSPACE): no lease can be written until space is freed',
      remedy: 'etcdctl compact REVISION && etcdctl defrag && etcdctl alarm disarm',
    };
  }
  if (username === undefined && isTokenRefusal(error)) {
    return {
      id: 'etcd_credentials',
      message: `it asks for a user: give --etcd-username and --etcd-password (${wordsOf(error)})`,
    };
  }
  if (isTokenRefusal(error) || /authentication failed|user name not found/.test(error.message)) {
    return { id: 'etcd_credentials', message: `${user} is not let in: ${wordsOf(error)}` };
  }
  return { id: 'etcd_refused', message: `cannot ${verb} ${key}: ${wordsOf(error)}` };
}

/** The network's prefix of one of its keys. */
function prefixOf(key: string): string {
  return key.replace(/(config|subnets\/.*)$/, '');
}
