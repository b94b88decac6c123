import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        // Files share a process and what it has loaded: a third of the work of one for each.
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 30_000,
          isolate: false,
        },
      },
      {
        // A real etcd on the loopback; one file at a time, because two of them are slow beside others.
        test: {
          name: 'etcd',
          include: ['test/etcd/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
      {
        // An API server in the process and, where it was built, kube-apiserver on the loopback.
        test: {
          name: 'kube',
          include: ['test/kube/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        // Isolated as those of netns; left out where there is no Go, which builds the plugins.
        test: {
          name: 'cni',
          include: ['test/cni/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Run by `npm test -- --stage netns`, which isolates each file; one at a time within a run,
        // because files would share its set of namespaces.
        test: {
          name: 'netns',
          include: ['test/netns/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
      {
        // Packs and installs as an operator does: the registry, a compiler, the lab.
        test: {
          name: 'package',
          include: ['test/package/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 300_000,
        },
      },
      {
        // Run on demand, isolated: `npm test -- --stage image`.
        test: {
          name: 'image',
          include: ['test/image/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        // Run on demand: `npm test -- --stage prebuilt`.
        test: {
          name: 'prebuilt',
          include: ['test/prebuilt/**/*.test.ts'],
        },
      },
    ],
  },
});
