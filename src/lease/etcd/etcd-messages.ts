/**
 * etcd's messages and methods, as far as flannelette speaks to it: field numbers are those of etcd's
 * `rpc.proto`, `kv.proto` and `auth.proto` (API v3, unchanged since 3.0). Unused fields are left
 * out; a decoder skips them.
 */
import {
  bool,
  bytes,
  id,
  int,
  message,
  nested,
  repeated,
  text,
  type Content,
  type Message,
} from './protobuf.js';

/** An RPC: its HTTP/2 path and what goes in and comes out. */
export interface Method<Request, Response> {
  readonly path: string;
  readonly request: Message<Request>;
  readonly response: Message<Response>;
}

const Header = message({ clusterId: id(1), revision: int(3), raftTerm: id(4) });

const KeyValue = message({ key: bytes(1), modRevision: int(3), value: bytes(5), lease: id(6) });

const RangeRequest = message({
  key: bytes(1),
  rangeEnd: bytes(2),
  limit: int(3),
  revision: int(4),
});

const RangeResponse = message({
  header: nested(1, Header),
  kvs: repeated(nested(2, KeyValue)),
  more: bool(3),
});

const PutRequest = message({ key: bytes(1), value: bytes(2), lease: id(3) });

const DeleteRangeRequest = message({ key: bytes(1), rangeEnd: bytes(2) });

/** Compare.CompareTarget. */
export const Target = { version: 0, modRevision: 2 } as const;

/** `result` 0 is EQUAL; the target says which of version and modRevision is compared. */
const Compare = message({
  result: int(1),
  target: int(2),
  key: bytes(3),
  version: int(4),
  modRevision: int(6),
});

const RequestOp = message({
  put: nested(2, PutRequest),
  deleteRange: nested(3, DeleteRangeRequest),
});

const TxnRequest = message({
  compare: repeated(nested(1, Compare)),
  success: repeated(nested(2, RequestOp)),
});

const TxnResponse = message({ header: nested(1, Header), succeeded: bool(2) });

const WatchCreateRequest = message({
  key: bytes(1),
  rangeEnd: bytes(2),
  startRevision: int(3),
  progressNotify: bool(4),
});

const WatchRequest = message({ create: nested(1, WatchCreateRequest) });

/** Event.EventType. */
export const EventType = { put: 0, delete: 1 } as const;

const Event = message({ type: int(1), kv: nested(2, KeyValue) });

const WatchResponse = message({
  header: nested(1, Header),
  created: bool(3),
  canceled: bool(4),
  compactRevision: int(5),
  cancelReason: text(6),
  events: repeated(nested(11, Event)),
});

export type Header = Content<typeof Header>;
export type KeyValue = Content<typeof KeyValue>;
export type Compare = Content<typeof Compare>;
export type RequestOp = Content<typeof RequestOp>;
export type TxnResponse = Content<typeof TxnResponse>;
export type WatchResponse = Content<typeof WatchResponse>;

function method<Request, Response>(
  path: string,
  request: Message<Request>,
  response: Message<Response>,
): Method<Request, Response> {
  return { path: `/etcdserverpb.${path}`, request, response };
}

export const RANGE = method('KV/Range', RangeRequest, RangeResponse);
export const PUT = method('KV/Put', PutRequest, message({ header: nested(1, Header) }));
export const DELETE_RANGE = method(
  'KV/DeleteRange',
  DeleteRangeRequest,
  message({ deleted: int(2) }),
);
export const TXN = method('KV/Txn', TxnRequest, TxnResponse);
export const WATCH = method('Watch/Watch', WatchRequest, WatchResponse);
export const LEASE_GRANT = method(
  'Lease/LeaseGrant',
  message({ ttl: int(1) }),
  message({ id: id(2), ttl: int(3) }),
);
export const LEASE_REVOKE = method('Lease/LeaseRevoke', message({ id: id(1) }), message({}));
/** A stream for as many renewals as one likes; one request and its answer are a call as well. */
export const LEASE_KEEP_ALIVE = method(
  'Lease/LeaseKeepAlive',
  message({ id: id(1) }),
  message({ ttl: int(3) }),
);
/** A TTL of -1 in the answer: there is no such grant. */
export const LEASE_TIME_TO_LIVE = method(
  'Lease/LeaseTimeToLive',
  message({ id: id(1) }),
  message({ ttl: int(3), grantedTtl: int(4) }),
);
export const AUTHENTICATE = method(
  'Auth/Authenticate',
  message({ name: text(1), password: text(2) }),
  message({ token: text(2) }),
);
