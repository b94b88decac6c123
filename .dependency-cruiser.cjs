/**
 * Which layer of the TypeScript may use which (docs/architecture.md).
 *   cli -> lab -> testbed, cli -> daemon -> network -> (registry) forward -> {dataplane, lease, host, config}, {metrics, firewall} -> {errors, log}
 */
const forbid = (name, from, to, comment) => ({ name, severity: 'error', comment, from, to });

module.exports = {
  forbidden: [
    forbid('no-cycles', {}, { circular: true }, 'layers have one direction'),
    forbid(
      'addon-behind-dataplane',
      {
        pathNot:
          '^src/(network|forward|metrics|daemon|dataplane)/|^src/parts\\.ts$|^test/|^bench/micro/',
      },
      { path: '^src/dataplane/', pathNot: '^src/dataplane/(counters|limits)\\.ts$' },
      'only network, forwarders, metrics and daemon reach the data plane, and what measures it',
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
      'testbed-under-programs',
      { path: '^src/testbed/' },
      {
        path: '^(src/(lab|daemon|network|forward|cli)|bench|test)/',
        pathNot: '^src/daemon/(status-client|options|status)\\.ts$',
      },
      'the testbed is the base of lab, benchmarks and tests; of a daemon it knows what a user does',
    ),
    forbid(
      'testbed-beside-daemon',
      { path: '^src/', pathNot: '^src/(cli|lab|testbed)/' },
      { path: '^src/testbed/' },
      'the tunnel knows no testbed',
    ),
    forbid(
      'bench-behind-its-door',
      { path: '^src/' },
      { path: '^bench/', pathNot: '^bench/door\\.ts$' },
      'the command line reaches the benchmarks through bench/door.ts, which the package lacks',
    ),
    forbid(
      'bench-door-of-cli',
      { pathNot: '^src/cli/bench-command\\.ts$' },
      { path: '^bench/door\\.ts$' },
      'bench/door.ts is for `flannelette bench` alone',
    ),
    forbid(
      'bench-door-opened-late',
      { path: '^src/' },
      { path: '^bench/', dynamic: false },
      'the package has no benchmarks: they are imported when one is asked for',
    ),
    forbid(
      'report-drawn-by-one-call',
      { path: '^bench/', pathNot: '^bench/(report/|door\\.ts$)' },
      {
        path: '^bench/report/',
        pathNot: '^bench/report/draw\\.ts$',
      },
      'a benchmark hands its result to the report to be drawn, and knows nothing else of it',
    ),
    forbid(
      'report-drawn-by-benchmarks',
      {
        path: '^bench/',
        pathNot: '^bench/(report/|door\\.ts$|overlays/overlays\\.ts$|copies/copies\\.ts$)',
      },
      { path: '^bench/report/' },
      'results, summaries and texts know no report',
    ),
    forbid(
      'report-only-draws',
      { path: '^bench/report/' },
      {
        path: '^bench/',
        pathNot:
          '^bench/(report/|frame/(result-file|spread|stats|table)\\.ts$|[a-z]+/[a-z]+-(result|text)\\.ts$|overlays/metrics\\.ts$)',
      },
      'the report reads what results and texts say, and measures, summarises and starts nothing',
    ),
    forbid(
      'frame-under-benchmarks',
      { path: '^bench/frame/' },
      { path: '^bench/', pathNot: '^bench/frame/' },
      'the frame knows no benchmark',
    ),
    forbid(
      'zod-in-bench',
      { path: '^(src|test)/' },
      { path: 'node_modules/zod/' },
      'zod reads results of benchmarks, which are no part of the package',
    ),
    forbid(
      'page-in-the-browser',
      { path: '^src/lab/page/' },
      { path: '.', pathNot: '^src/lab/(page/|live/messages\\.ts$)' },
      'the page runs in a browser: it shares the messages with the lab, nothing else',
    ),
    forbid(
      'daemon-over-layers',
      { path: '^src/(network|forward|metrics|lease|config|host|firewall|dataplane)/' },
      { path: '^src/daemon/' },
      'the daemon joins the layers, they do not know it',
    ),
    forbid(
      'extension-over-daemon',
      { path: '^src/', pathNot: '^src/(cli|extension)/' },
      { path: '^src/extension/' },
      'the commands of flanneld use a daemon, which knows nothing of them',
    ),
    forbid(
      'forwarders-behind-registry',
      { path: '^src/(daemon|network)/', pathNot: '^src/network/registry\\.ts$' },
      { path: '^src/forward/' },
      'a forwarder is chosen by the registry; nothing else in daemon and network knows which there are',
    ),
    forbid(
      'leaf-layers',
      { path: '^src/(lease|host|config)/' },
      { path: '^src/(network|forward|metrics|dataplane)/' },
      'store, host and configuration know no device',
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
      { path: '^src/', pathNot: '^src/(config/|(errors|commonjs)\\.ts$)' },
      'configuration is used by all and uses none',
    ),
    forbid(
      'base',
      {
        path: '^src/(errors|commonjs|log|log-format|log-text|journal|problems|text|directory|nearest|abort)\\.ts$',
      },
      { path: '^src/', pathNot: '^src/(errors|commonjs|log|log-format|log-text|journal)\\.ts$' },
      'errors, log, text and their like stand alone',
    ),
    forbid(
      'koffi-declared-once',
      { path: '^(src|bench|test)/', pathNot: '^bench/js-tunnel/libc\\.ts$' },
      { path: 'node_modules/koffi/' },
      'the teaching mode alone calls C from JavaScript, through one file',
    ),
    forbid(
      'echarts-in-charts',
      { path: '^(src|bench|test)/', pathNot: '^bench/report/chart\\.ts$' },
      { path: 'node_modules/echarts/' },
      'one file draws charts',
    ),
    forbid(
      'etcd3-in-tests',
      { path: '^src/' },
      { path: 'node_modules/(etcd3|@grpc)/' },
      'src/lease/etcd speaks to etcd itself; etcd3 is the other client of tests and benchmarks',
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
