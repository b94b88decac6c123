/** A container of a pod as an OCI runtime is told it: from its manifest and the image's configuration. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The fields of a pod's container that are carried out. */
export interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string }[];
  readonly volumeMounts: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly readOnly?: boolean;
  }[];
  readonly securityContext: {
    readonly allowPrivilegeEscalation: boolean;
    readonly readOnlyRootFilesystem: boolean;
    readonly capabilities: { readonly add?: readonly string[] };
  };
}

export interface Mount {
  readonly source: string;
  readonly destination: string;
  readonly readOnly: boolean;
}

export interface ContainerOptions {
  readonly container: Container;
  readonly args: readonly string[];
  readonly networkNamespace: string;
  readonly mounts: readonly Mount[];
  readonly env: Readonly<Record<string, string>>;
}

interface ImageConfig {
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
}

/** config.json of a bundle; `image` is a folder as scripts/image.mjs leaves it. */
export async function runtimeConfig(image: string, options: ContainerOptions): Promise<object> {
  const { container, args, networkNamespace, mounts, env } = options;
  const text = await readFile(join(image, 'config.json'), 'utf8');
  const { Env, Entrypoint } = JSON.parse(text) as ImageConfig;
  const { securityContext } = container;
  const capabilities = (securityContext.capabilities.add ?? []).map((name) => `CAP_${name}`);
  return {
    ociVersion: '1.0.0',
    root: { path: join(image, 'root'), readonly: securityContext.readOnlyRootFilesystem },
    process: {
      user: { uid: 0, gid: 0 },
      cwd: '/',
      args: [...Entrypoint, ...args],
      env: [...Env, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)],
      noNewPrivileges: !securityContext.allowPrivilegeEscalation,
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
      },
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      { destination: '/sys', type: 'none', source: '/sys', options: ['rbind', 'ro'] },
      ...mounts.map(({ source, destination, readOnly }) => ({
        ...{ source, destination, type: 'none' },
        options: ['rbind', readOnly ? 'ro' : 'rw'],
      })),
    ],
    linux: {
      namespaces: [
        { type: 'network', path: networkNamespace },
        ...['mount', 'pid', 'ipc', 'uts'].map((type) => ({ type })),
      ],
      seccomp: await seccompProfile(capabilities),
    },
  };
}

interface ProfileRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly object[] | null;
  readonly errnoRet?: number;
  readonly includes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] };
  readonly excludes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] };
}

/** What seccompProfile RuntimeDefault stands for: the profile of Podman and CRI-O, much as containerd's. */
const PROFILE = '/usr/share/containers/seccomp.json';

async function seccompProfile(capabilities: readonly string[]): Promise<object> {
  const profile = JSON.parse(await readFile(PROFILE, 'utf8')) as {
    readonly defaultAction: string;
    readonly defaultErrnoRet?: number;
    readonly syscalls: readonly ProfileRule[];
  };
  const holds = ({ includes = {}, excludes = {} }: ProfileRule): boolean =>
    (includes.caps ?? []).every((name) => capabilities.includes(name)) &&
    (includes.arches === undefined || includes.arches.includes('amd64')) &&
    !(excludes.caps ?? []).some((name) => capabilities.includes(name)) &&
    !(excludes.arches ?? []).includes('amd64');
  const syscalls = profile.syscalls.filter(holds).map(({ names, action, args, errnoRet }) => ({
    ...{ names, action },
    ...(args === null || args === undefined || args.length === 0 ? {} : { args }),
    ...(errnoRet === undefined ? {} : { errnoRet }),
  }));
  const { defaultAction, defaultErrnoRet } = profile;
  return {
    defaultAction,
    ...(defaultErrnoRet === undefined ? {} : { defaultErrnoRet }),
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls,
  };
}
