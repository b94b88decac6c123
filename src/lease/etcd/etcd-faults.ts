/**
 * Why a connection to an endpoint failed, in one line for an operator, and whether waiting helps: an
 * absent member comes back, a wrong certificate or scheme does not by itself. Where the error alone
 * does not say, the endpoint is looked at once more: a handshake that is never used, to see which
 * certificate it shows or which protocol it speaks.
 */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect as connectTls, type PeerCertificate } from 'node:tls';
import { errnoOf, messageOf } from '../../errors.js';
import { openSocket, type DialError, type DialFailure } from './dial.js';
import { GrpcConnection } from './grpc.js';
import { SilenceError, within } from '../timing.js';
import { UNTRUSTED } from '../tls-codes.js';

export interface Fault {
  readonly endpoint: string;
  readonly why: string;
  /** Certificates, scheme or port are wrong, here or there: somebody has to change them. */
  readonly misconfigured: boolean;
  /** It was connected and said nothing for as long as it was given. */
  readonly silent: boolean;
}

/** For the second look at an endpoint. */
const LOOK_MS = 2_000;
/** Characters of a foreign certificate's names in a message. */
const MAX_SHOWN = 200;

export async function explain({ failure }: DialError, signal: AbortSignal): Promise<Fault> {
  const wrong = await misconfiguration(failure, signal);
  const why = wrong ?? absence(failure);
  return {
    endpoint: failure.endpoint.text,
    why,
    misconfigured: wrong !== undefined,
    silent: failure.cause instanceof SilenceError && failure.stage !== 'connect',
  };
}

/** The certificate's end as a sentence's part, when it is past or yet to begin. */
export function outOfDate(
  certificate: Pick<X509Certificate, 'validFrom' | 'validTo'>,
  now = Date.now(),
): string | undefined {
  const { validFrom, validTo } = certificate;
  if (Date.parse(validTo) < now) return `expired on ${isoTime(validTo)}`;
  if (Date.parse(validFrom) > now) return `is not valid before ${isoTime(validFrom)}`;
  return undefined;
}

function isoTime(text: string): string {
  return new Date(text).toISOString().replace('.000Z', 'Z');
}

/** Undefined when it looks like nothing but an absence. */
async function misconfiguration(
  failure: DialFailure,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { stage, endpoint, tls, cause } = failure;
  const own = tls?.own === undefined ? undefined : outOfDate(tls.own);
  if (stage === 'http2' && !endpoint.secure) return secretlyTls(failure, signal);
  if (stage !== 'tls' && (stage !== 'http2' || tls === undefined)) return undefined;
  const code = errnoOf(cause) ?? '';
  if (UNTRUSTED.has(code)) {
    const shown = await shownCertificate(failure, signal);
    const issuer = shown === undefined ? '' : ` (issued by ${nameOf(shown.issuer)})`;
    return `etcd's certificate${issuer} is signed by none of ${tls?.trusted ?? 'the trusted certificates'}`;
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const shown = await shownCertificate(failure, signal);
    const dates =
      shown === undefined
        ? undefined
        : outOfDate({ validFrom: shown.valid_from, validTo: shown.valid_to });
    const what = code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet';
    return dates === undefined
      ? `a certificate that etcd's is signed by ${what}, by this host's clock`
      : `etcd's certificate ${dates}, by this host's clock`;
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `etcd's certificate is not for ${endpoint.host}, but for ${namesIn(cause)}`;
  }
  const alert = alertOf(cause);
  if (alert !== undefined && ABOUT_CERTIFICATES.test(alert)) {
    if (tls?.own === undefined) {
      return `etcd asks for a client certificate: give --etcd-certfile and --etcd-keyfile (TLS alert: ${alert})`;
    }
    return own === undefined
      ? `etcd refuses the certificate of --etcd-certfile (TLS alert: ${alert})`
      : `the certificate of --etcd-certfile ${own} (TLS alert: ${alert})`;
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || (await speaksPlainHttp2(failure, signal))) {
    return 'the server does not speak TLS: write http:// instead of https://';
  }
  // OpenSSL's own; connections that just end have no such code.
  if (/^ERR_(SSL|OSSL|TLS)_|^(EPROTO|CERT_|UNABLE_|INVALID_)/.test(code)) {
    return `TLS does not come about: ${reasonOf(cause)}`;
  }
  if (own !== undefined) return `the certificate of --etcd-certfile ${own}`;
  return undefined;
}

function absence({ stage, endpoint, address, cause }: DialFailure): string {
  const at = address === endpoint.host ? '' : ` (${address})`;
  switch (errnoOf(cause)) {
    case 'ECONNREFUSED':
      return `connection refused${at}`;
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return `no route to it${at}`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `its name cannot be resolved (${errnoOf(cause) ?? ''})`;
    case 'ECONNRESET':
      return `it closes the connection${at}`;
    default:
  }
  const step = { resolve: 'its name', connect: 'connecting', tls: 'TLS', http2: 'HTTP/2' }[stage];
  return `${step}: ${messageOf(cause)}${at}`;
}

/** A plain connection that came to nothing: does the other side want TLS, or is it no etcd at all? */
async function secretlyTls(failure: DialFailure, signal: AbortSignal): Promise<string | undefined> {
  if ((await shownCertificate(failure, signal)) !== undefined) {
    return 'the server speaks TLS: write https:// instead of http://';
  }
  return /^ERR_HTTP2_(ERROR|SESSION_ERROR)$/.test(errnoOf(failure.cause) ?? '')
    ? 'the server does not speak HTTP/2: not the client port of etcd v3'
    : undefined;
}

/** The certificate the endpoint shows; undefined when TLS does not get that far. */
async function shownCertificate(
  { endpoint, address }: DialFailure,
  signal: AbortSignal,
): Promise<PeerCertificate | undefined> {
  const { host, port } = endpoint;
  return look(signal, async (own) => {
    const socket = await openSocket(address, port, own);
    return new Promise<PeerCertificate | undefined>((resolve) => {
      // Nothing is sent or taken over this connection: it is only to show its certificate.
      const tls = connectTls({
        socket,
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
        ...(isIP(host) === 0 ? { servername: host } : {}),
      });
      const done = (found: PeerCertificate | undefined): void => {
        tls.destroy();
        resolve(found);
      };
      tls.once('secureConnect', () => {
        done(tls.getPeerCertificate());
      });
      tls.on('error', () => {
        done(undefined);
      });
      tls.once('close', () => {
        done(undefined);
      });
      own.addEventListener('abort', () => tls.destroy(), { once: true });
    });
  });
}

async function speaksPlainHttp2(failure: DialFailure, signal: AbortSignal): Promise<boolean> {
  const { endpoint, address } = failure;
  const answer = await look(signal, async (own) => {
    const socket = await openSocket(address, endpoint.port, own);
    const plain = endpoint.text.replace(/^https:/, 'http:');
    const options = { endpoint: plain, silenceMs: () => LOOK_MS };
    const connection = await GrpcConnection.open(socket, options, own);
    connection.close();
    return true;
  });
  return answer === true;
}

async function look<T>(
  signal: AbortSignal,
  work: (own: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  return within(LOOK_MS, signal, work).catch(() => undefined);
}

function nameOf(name: PeerCertificate['issuer']): string {
  const { CN, O, OU } = name;
  return JSON.stringify(String(CN ?? O ?? OU ?? '').slice(0, MAX_SHOWN));
}

/** `DNS:etcd.example, IP Address:10.168.0.9` of the error's certificate. */
function namesIn(cause: unknown): string {
  const { cert } = cause as { cert?: PeerCertificate };
  const names = cert?.subjectaltname ?? (cert === undefined ? 'another' : nameOf(cert.subject));
  return names.length <= MAX_SHOWN ? names : `${names.slice(0, MAX_SHOWN)}...`;
}

/** `bad certificate` of ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE; undefined when it is no alert. */
function alertOf(cause: unknown): string | undefined {
  const [, name] = /_ALERT_(.*)$/.exec(errnoOf(cause) ?? '') ?? [];
  return name?.toLowerCase().replaceAll('_', ' ');
}

/** What a server says that wants a client certificate, or another one (TLS 1.2: handshake failure). */
const ABOUT_CERTIFICATES = /certificate|unknown ca|access denied|handshake failure/;

/** OpenSSL's reason without thread, file and line. */
function reasonOf(cause: unknown): string {
  const { reason } = cause as { reason?: unknown };
  return typeof reason === 'string' && reason !== '' ? reason : messageOf(cause);
}
