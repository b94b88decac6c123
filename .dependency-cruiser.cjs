/**
 * Which layer of the TypeScript may use which (docs/architecture.md).
 *   cli -> {lab, daemon} -> {backend, metrics, lease, config, host, route, firewall} -> {errors, log}
 */
const forbid = (name, from, to, comment) => ({ name, severity: 'error', comment, from, to });

module.exports = {
  forbidden: [
    forbid('no-cycles', {}, { circular: true }, 'layers have one direction'),
    forbid(
      'addon-behind-dataplane',
      {
        pathNot: '^src/(backend|metrics|daemon|dataplane)/|^src/index\\.ts$|^test/|^bench/micro/',
      },
      { path: '^src/dataplane/' },
      'only backend, metrics and daemon reach the data plane, and what measures it',
    ),
    forbid(
      'native-declared-once',
      { path: '^src/', pathNot: '^src/dataplane/' },
      { path: '^src/dataplane/native' },
      'src/dataplane/native.ts alone loads the addon, for src/dataplane alone',
    ),
    forbid(
      'cli-on-top',
      { path: '^src/', pathNot: '^src/cli/' },
      { path: '^src/cli/' },
      'nothing in src uses the command line',
    ),
    forbid(
      'lab-beside-daemon',
      { path: '^src/', pathNot: '^src/(cli|lab)/' },
      { path: '^src/lab/' },
      'the lab is a user of the daemon',
    ),
    forbid(
      'page-in-the-browser',
      { path: '^src/lab/web/page/' },
      { path: '.', pathNot: '^src/lab/web/(page/|messages\\.ts$)' },
      'the page runs in a browser: it shares the messages with the lab, nothing else',
    ),
    forbid(
      'daemon-over-layers',
      { path: '^src/(backend|metrics|lease|config|host|route|firewall|dataplane)/' },
      { path: '^src/daemon/' },
      'the daemon joins the layers, they do not know it',
    ),
    forbid(
      'leaf-layers',
      { path: '^src/(lease|route|host|config)/' },
      { path: '^src/(backend|metrics|dataplane)/' },
      'store, routes, host and configuration know no device',
    ),
    forbid(
      'firewall-alone',
      { path: '^src/firewall/' },
      { path: '^src/', pathNot: '^src/(firewall|config)/|^src/(errors|log|problems)\\.ts$' },
      'the firewall knows no backend, metrics, data plane, lease or daemon',
    ),
    forbid(
      'config-lowest',
      { path: '^src/config/' },
      { path: '^src/', pathNot: '^src/(config/|errors\\.ts$)' },
      'configuration is used by all and uses none',
    ),
    forbid(
      'base',
      { path: '^src/(errors|log|log-text|journal|problems|text|directory|nearest|abort)\\.ts$' },
      { path: '^src/', pathNot: '^src/(errors|log|log-text|journal)\\.ts$' },
      'errors, log, text and their like stand alone',
    ),
    forbid(
      'koffi-declared-once',
      { path: '^(src|bench|test)/', pathNot: '^bench/modes/js/libc\\.ts$' },
      { path: 'node_modules/koffi/' },
      'the teaching mode alone calls C from JavaScript, through one file',
    ),
    forbid(
      'echarts-in-charts',
      { path: '^(src|bench|test)/', pathNot: '^bench/report/html/chart\\.ts$' },
      { path: 'node_modules/echarts/' },
      'one file draws charts',
    ),
    forbid('no-unresolved', {}, { couldNotResolve: true }, 'an import that is not there'),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node'] },
  },
};
