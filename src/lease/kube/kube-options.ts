/**
 * How to reach the Kubernetes API and which node this is: flanneld's `--kube-*` flags and the variables
 * of its pod, checked before anything is connected.
 */
import { inputError } from '../../errors.js';
import { annotationNames } from './annotations.js';

export interface KubeOptions {
  /** `https://HOST:PORT`; takes the place of the kubeconfig's or the cluster's own. */
  readonly apiUrl?: string;
  readonly kubeconfigFile?: string;
  /** `flannel.alpha.coreos.com`, or another domain, with a slash and a name after it if wanted. */
  readonly annotationPrefix: string;
  /** The network configuration as JSON, a file of the ConfigMap kube-flannel-cfg. */
  readonly netConfigPath: string;
  /** Name of this host's Node object; without it the pod's spec.nodeName counts. */
  readonly nodeName?: string;
  readonly podName?: string;
  readonly podNamespace?: string;
  /** Whether the condition NetworkUnavailable of the node is set to False once traffic can flow. */
  readonly setNodeNetworkUnavailable: boolean;
  /** KUBERNETES_SERVICE_HOST and _PORT of a pod. */
  readonly serviceHost?: string;
  readonly servicePort?: string;
  /** Where a pod finds `token` and `ca.crt`. */
  readonly serviceAccountPath: string;
}

/** flanneld's. */
export const KUBE_DEFAULTS = {
  annotationPrefix: 'flannel.alpha.coreos.com',
  netConfigPath: '/etc/kube-flannel/net-conf.json',
  setNodeNetworkUnavailable: true,
  serviceAccountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
} as const;

/** RFC 1123 subdomain, as the API server takes it for a node. */
const OBJECT_NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** Throws an input error that names the flag or the variable. */
export function checkKubeOptions(options: KubeOptions): void {
  const { apiUrl, kubeconfigFile, serviceHost, servicePort, netConfigPath } = options;
  if (apiUrl !== undefined) checkUrl('--kube-api-url', apiUrl);
  if (apiUrl === undefined && kubeconfigFile === undefined) {
    if (serviceHost === undefined || servicePort === undefined) {
      const expected =
        'the variables of a pod in the cluster, --kubeconfig-file or --kube-api-url: one of them says where the API server is';
      throw inputError('KUBERNETES_SERVICE_HOST', serviceHost, expected);
    }
    serviceUrl(serviceHost, servicePort);
  }
  annotationNames(options.annotationPrefix);
  if (netConfigPath === '' || netConfigPath.endsWith('/')) {
    throw inputError('--net-config-path', netConfigPath, 'the path of a file');
  }
  checkNode(options);
}

function checkNode({ nodeName, podName, podNamespace }: KubeOptions): void {
  const names = { NODE_NAME: nodeName, POD_NAME: podName, POD_NAMESPACE: podNamespace };
  for (const [variable, name] of Object.entries(names)) {
    if (name !== undefined && !OBJECT_NAME.test(name)) {
      throw inputError(variable, name, 'the name of a Kubernetes object, e.g. node-1');
    }
  }
  if (nodeName !== undefined || (podName !== undefined && podNamespace !== undefined)) return;
  const expected = "this node's name there, or those of the pod in POD_NAME and POD_NAMESPACE";
  throw inputError('NODE_NAME', nodeName, expected);
}

/** The URL of the API server a pod is told of; an IPv6 address gets its brackets. */
export function serviceUrl(host: string, port: string): URL {
  const text = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return checkUrl('KUBERNETES_SERVICE_HOST and _PORT', text);
}

/** Throws an input error that names the field; user and password are not shown. */
export function checkUrl(field: string, text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url?.username === '' && url.password === '' && url.search === '';
  if (url !== undefined && plain && /^https?:$/.test(url.protocol) && url.hostname !== '') {
    return url;
  }
  const shown = text.replace(/\/\/.*@/, '//***@');
  throw inputError(field, shown, 'https://HOST:PORT of the API server');
}
