/**
 * Why the API server cannot be used, in one line for an operator, and whether waiting helps: a server that
 * is away comes back, a token, certificate or role somebody has to put right.
 */
import type { PeerCertificate } from 'node:tls';
import { isObject } from '../../config/json.js';
import { errnoOf, messageOf, systemError, type FlannelletteError } from '../../errors.js';
import type { Problem } from '../../problems.js';
import { STORE_AWAY, STORE_MISCONFIGURED, STORE_REFUSES } from '../store-errors.js';
import { UNTRUSTED } from '../tls-codes.js';
import type { Credentials } from './credentials.js';

/** What was asked, in the words of RBAC. */
export interface Ask {
  readonly verb: 'get' | 'list' | 'watch' | 'patch';
  readonly resource: 'nodes' | 'nodes/status' | 'pods';
  /** Of the object, where it is about one. */
  readonly name?: string;
}

/** An answer that is not the object: HTTP status and the words of its Status object. */
export class ApiStatus extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** Of an object of kind Status, or any other answer's body. */
export function apiStatus(status: number, body: unknown): ApiStatus {
  const { reason, message, code } = isObject(body) ? body : {};
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  const words = text(message).slice(0, MAX_SHOWN).replaceAll(/\s+/g, ' ');
  return new ApiStatus(typeof code === 'number' ? code : status, text(reason), words);
}

const MAX_SHOWN = 300;

/** The past that was asked for is gone: list again. */
export function isExpired(error: unknown): boolean {
  if (!(error instanceof ApiStatus)) return false;
  return (
    error.status === 410 ||
    // Of a server whose etcd was put back to an earlier state: it never gets there.
    (error.status === 504 && /too large resource version/i.test(error.message))
  );
}

export interface Explained {
  readonly error: FlannelletteError;
  /** What somebody has to put right; undefined when waiting is all there is to do. */
  readonly problem: Problem | undefined;
}

export function explain(
  cause: unknown,
  ask: Ask,
  server: Pick<Credentials, 'trusted' | 'identity'> & { readonly location: string },
): Explained {
  const [code, id, why, remedy] = judge(cause, ask, server);
  const message = `${server.location}: ${why}`;
  const error = systemError(message, { code, cause, field: describe(ask) });
  if (id === undefined) return { error, problem: undefined };
  return { error, problem: { id, message, ...(remedy === undefined ? {} : { remedy }) } };
}

export function describe({ verb, resource, name }: Ask): string {
  return `${verb} ${resource}${name === undefined ? '' : `/${name}`}`;
}

type Judgement = readonly [code: string, id: string | undefined, why: string, remedy?: string];

function judge(
  cause: unknown,
  ask: Ask,
  { trusted, identity }: Pick<Credentials, 'trusted' | 'identity'>,
): Judgement {
  if (cause instanceof ApiStatus) return judgeStatus(cause, ask, identity);
  const code = errnoOf(cause) ?? '';
  if (UNTRUSTED.has(code)) {
    return [STORE_MISCONFIGURED, 'kube_tls', `its certificate is signed by none of ${trusted}`];
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const { cert } = cause as { cert?: PeerCertificate };
    const names = cert?.subjectaltname?.slice(0, MAX_SHOWN) ?? 'another name';
    const why = `its certificate is not for this address, but for ${names}`;
    return [STORE_MISCONFIGURED, 'kube_tls', why];
  }
  if (/^(CERT_|ERR_SSL_|ERR_OSSL_|EPROTO|UNABLE_|HPE_)/.test(code)) {
    const why = `TLS or HTTP does not come about: ${messageOf(cause)}`;
    return [STORE_MISCONFIGURED, 'kube_tls', why];
  }
  return [STORE_AWAY, undefined, absence(code, cause)];
}

function judgeStatus({ status, message }: ApiStatus, ask: Ask, identity: string): Judgement {
  const { verb, resource, name = '' } = ask;
  const words = message === '' ? '' : ` (${message})`;
  switch (status) {
    case 401:
      return [
        STORE_REFUSES,
        'kube_credentials',
        `it does not accept the ${identity}: 401 Unauthorized; expected one of this cluster that has not expired`,
      ];
    case 403:
      return [
        STORE_REFUSES,
        'kube_permission',
        `it does not allow "${verb}" of "${resource}": 403 Forbidden${words}; expected a ClusterRole with that rule`,
        'kubectl apply -f deploy/kube-flannelette.yml',
      ];
    case 404:
      if (name === '') {
        const why = `it is no Kubernetes API server: 404 for ${describe(ask)}`;
        return [STORE_MISCONFIGURED, 'kube_not_an_api', why];
      }
      return [
        STORE_MISCONFIGURED,
        'kube_no_object',
        resource === 'pods'
          ? `it has no pod ${name}: expected that of POD_NAME in POD_NAMESPACE`
          : `it has no node ${name}: expected NODE_NAME to be the name of a node (kubectl get nodes)`,
      ];
    default:
  }
  const why = `it answers ${describe(ask)} with ${status}${words}`;
  const passing = status >= 500 || [408, 409, 410, 429].includes(status);
  return passing ? [STORE_AWAY, undefined, why] : [STORE_REFUSES, 'kube_refused', why];
}

function absence(code: string, cause: unknown): string {
  switch (code) {
    case 'ECONNREFUSED':
      return 'connection refused';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'no route to it';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `its name cannot be resolved (${code})`;
    case 'ECONNRESET':
      return 'it closes the connection';
    default:
      return messageOf(cause);
  }
}
