/** What is there without a use: files, exports, packages. Part of the lint step. */
export default {
  entry: [
    'src/cli/main.ts',
    'src/index.ts',
    'src/lookup.ts',
    'src/parts.ts',
    'src/lab/page/*.ts',
    'bench/main.ts',
    // Programs that others start by their path.
    'bench/js-tunnel/js-tunnel.ts',
    'bench/lease/writer.ts',
    'scripts/*.mjs',
    'test/**/*.test.ts',
    'test/support/**/*.mjs',
  ],
  project: ['src/**/*.ts', 'bench/**/*.ts', 'scripts/*.mjs', 'test/**/*.{ts,mjs}'],
  ignoreExportsUsedInFile: true,
  // Named by binding.gyp, loaded by src/commonjs.ts; the others are started from node_modules/.bin.
  ignoreDependencies: ['node-addon-api', 'node-gyp-build', 'dependency-cruiser', 'prettier'],
  // Debian's, installed by scripts/setup.mjs.
  exclude: ['binaries'],
};
