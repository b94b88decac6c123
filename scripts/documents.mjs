/**
 * Runs the commands of the user's five documents in labs with the documents' own addresses, and
 * compares what they print with what the documents print:
 *
 *   npm run documents                                    the rows on the terminal
 *   npm run documents -- --write docs/documents.md       the page
 *   npm run documents -- --json                          for test/netns/documents.test.ts
 *
 * A row agrees when its output has each line that the document prints. Where something differs on
 * purpose, the row says why, and what is printed instead must be there all the same. Each scene runs
 * isolated (src/testbed/isolate.ts): its end takes everything with it.
 */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import {
  DaemonProcess,
  LEASE_FILE_FLAGS,
  subnetFileOf,
  writeLeaseFile,
} from '../dist/src/testbed/daemon-process.js';
import { EtcdServer } from '../dist/src/testbed/etcd-server.js';
import { isolationCommand, isolationEnvironment } from '../dist/src/testbed/isolate.js';
import { inNamespace, run, waitFor } from '../dist/src/testbed/programs.js';
import {
  addContainer,
  addHost,
  buildSwitch,
  GATEWAY,
  hostPlan,
  ipBatch,
  LAB_DIRECTORY,
} from '../dist/src/testbed/topology.js';

const ROOT = resolve(import.meta.dirname, '..');
const COMMAND = [process.execPath, join(ROOT, 'dist', 'src', 'cli', 'main.js')];
const SELF = join(ROOT, 'scripts', 'documents.mjs');
const ENDPOINT = `http://${GATEWAY}:2379`;
const PREFIX = '/coreos.com/network';

/** A host of a document, with the addresses that are written there. */
function host(number, address, subnet, containerAddress) {
  const start = subnet.slice(0, subnet.lastIndexOf('.'));
  return {
    ...hostPlan(number),
    address,
    subnet,
    containerAddress,
    tunAddress: `${start}.0`,
    bridgeAddress: `${start}.1`,
  };
}

const REJECT = '-j REJECT --reject-with icmp-host-prohibited';
const PING = (to, flags = '') => `ping -n -c 2 -i 0.2 -W 2 ${flags}${to}`;
/** While a capture runs, which ends by itself. */
const PINGS = (to) => `ping -n -c 12 -i 0.2 -W 2 ${to}`;
const problemsOf = (plan) =>
  `flannelette status --subnet-file=${subnetFileOf(plan)} | sed -n '/^Problems/,/^$/p'`;
const TCPDUMP = (device, filter, count = 2) =>
  `timeout 8 tcpdump -n -t -l --immediate-mode -Z root -c ${count} -i ${device} ${filter} 2>/dev/null`;

/** The hosts of the documents about host-gw and DirectRouting. */
const ENS192 = {
  gateway: '172.16.1.1',
  device: 'ens192',
  hosts: [
    host(1, '172.16.1.101', '10.244.1.0/24', '10.244.1.97'),
    host(2, '172.16.1.102', '10.244.2.0/24', '10.244.2.88'),
  ],
};

/**
 * `what`: said before the command. `prints`: lines of the document, `MAC` for a MAC address; a regular expression where more varies.
 * `differs`: why `instead` is printed here. `during`: a command in host 1's container meanwhile.
 * `never`: no line may be like that. `restart`: the daemons are restarted before. `patience`: seconds in
 * which the command is tried again until the row agrees.
 */
const SCENES = [
  {
    name: 'udp',
    title: 'The UDP backend: 100.96.0.0/16 on hosts 10.168.0.2 and 10.168.0.3',
    hosts: [hostPlan(1), hostPlan(2)],
    config: { Network: '100.96.0.0/16', Backend: { Type: 'udp' } },
    etcd: true,
    flags: ['--ip-masq'],
    rows: [
      {
        where: 'host-1',
        command: 'ip route',
        prints: [
          'default via 10.168.0.1 dev eth0',
          /^10\.168\.0\.0\/24 dev eth0/,
          /^100\.96\.1\.0\/24 dev docker0 .*src 100\.96\.1\.1$/,
        ],
        instead: ['100.96.0.0/16 dev flannel0 scope link'],
        differs:
          'the documents print `src 100.96.1.0` behind the route by flannel0; flanneld and flannelette leave the ' +
          'source to the kernel, which chooses the same one (the next row)',
      },
      {
        where: 'host-1',
        command: 'ip route get 100.96.2.3',
        prints: [/^100\.96\.2\.3 dev flannel0 src 100\.96\.1\.0/],
      },
      {
        where: 'host-1',
        command: 'route -n',
        prints: [/^100\.96\.0\.0 0\.0\.0\.0 255\.255\.0\.0 U 0 0 0 flannel0$/],
      },
      {
        where: 'host-1',
        command: 'ip -d link show flannel0',
        prints: [/mtu 1472/, /^tun type tun/],
      },
      {
        where: 'host-1',
        command: `cat ${subnetFileOf(hostPlan(1))}`,
        prints: [
          'FLANNEL_NETWORK=100.96.0.0/16',
          'FLANNEL_SUBNET=100.96.1.1/24',
          'FLANNEL_MTU=1472',
        ],
      },
      {
        where: 'host-1',
        command: `etcdctl --endpoints=${ENDPOINT} get --prefix --keys-only ${PREFIX}/subnets`,
        prints: [`${PREFIX}/subnets/100.96.1.0-24`, `${PREFIX}/subnets/100.96.2.0-24`],
      },
      {
        where: 'host-1',
        command: `etcdctl --endpoints=${ENDPOINT} get --print-value-only ${PREFIX}/subnets/100.96.2.0-24`,
        prints: [],
        instead: ['{"PublicIP":"10.168.0.3","PublicIPv6":null}'],
        differs:
          'the documents print `{"PublicIP":"10.168.0.3"}`: flannel writes `PublicIPv6` since v0.15, and so does flannelette',
      },
      {
        where: 'container-1',
        command: PING('100.96.2.3'),
        prints: [/^64 bytes from 100\.96\.2\.3: icmp_seq=1 ttl=60/, /2 received/],
      },
      {
        where: 'host-1',
        command: TCPDUMP('eth0', 'udp port 8285'),
        during: PINGS('100.96.2.3'),
        prints: [
          'IP 10.168.0.2.8285 > 10.168.0.3.8285: UDP, length 84',
          'IP 10.168.0.3.8285 > 10.168.0.2.8285: UDP, length 84',
        ],
      },
      {
        where: 'host-1',
        command: TCPDUMP('flannel0', 'icmp'),
        during: PINGS('100.96.2.3'),
        prints: [/^IP 100\.96\.1\.2 > 100\.96\.2\.3: ICMP echo request/],
      },
      {
        where: 'container-2',
        what: 'source addresses are not translated',
        command: TCPDUMP('eth0', 'icmp'),
        during: PINGS('100.96.2.3'),
        prints: [/^IP 100\.96\.1\.2 > 100\.96\.2\.3: ICMP echo request/],
      },
      {
        where: 'host-1',
        command: 'iptables-save -t nat | grep -i postrtg',
        prints: [
          /^-A POSTROUTING .*-j FLANNEL-POSTRTG$/,
          /^-A FLANNEL-POSTRTG -s 100\.96\.1\.0\/24 -d 100\.96\.0\.0\/16 .*-j RETURN$/,
        ],
      },
    ],
  },
  {
    name: 'firewall',
    title: "Rules of the host: Docker's masquerading, and REJECT as CentOS has it",
    hosts: [hostPlan(1), hostPlan(2)],
    config: { Network: '100.96.0.0/16', Backend: { Type: 'udp' } },
    rows: [
      {
        where: 'host-1',
        what: 'the rule that Docker adds',
        command: 'iptables -t nat -A POSTROUTING -s 100.96.1.0/24 ! -o docker0 -j MASQUERADE',
        prints: [],
      },
      {
        where: 'container-2',
        command: TCPDUMP('eth0', 'icmp'),
        during: PINGS('100.96.2.3'),
        prints: [/^IP 100\.96\.1\.0 > 100\.96\.2\.3: ICMP echo request/],
      },
      {
        where: 'host-1',
        what: 'the rule is named, with the command that mends it',
        patience: 30,
        command: problemsOf(hostPlan(1)),
        prints: [/MASQUERADE/],
      },
      {
        where: 'host-1',
        what: 'the rule that the documents put in its place',
        command:
          'iptables -t nat -D POSTROUTING 1; iptables -t nat -A POSTROUTING -s 100.96.1.0/24 ! -d 100.96.0.0/16 ! -o docker0 -j MASQUERADE; iptables-save -t nat | grep MASQ',
        prints: ['-A POSTROUTING -s 100.96.1.0/24 ! -d 100.96.0.0/16 ! -o docker0 -j MASQUERADE'],
      },
      {
        where: 'container-2',
        command: TCPDUMP('eth0', 'icmp'),
        during: PINGS('100.96.2.3'),
        prints: [/^IP 100\.96\.1\.2 > 100\.96\.2\.3: ICMP echo request/],
      },
      {
        where: 'host-2',
        what: 'the rules that stop the overlay on CentOS',
        command: `iptables -A INPUT ${REJECT}; iptables -A FORWARD ${REJECT}; iptables -S | grep REJECT`,
        prints: [`-A INPUT ${REJECT}`, `-A FORWARD ${REJECT}`],
      },
      { where: 'container-1', command: PING('100.96.2.3'), prints: [/ 0 received/] },
      {
        where: 'host-2',
        what: 'both are named, each with the command that mends it',
        patience: 30,
        command: problemsOf(hostPlan(2)),
        prints: [/^iptables .*INPUT/, /^iptables .*FORWARD/],
      },
      {
        where: 'host-2',
        what: 'the documents delete them',
        command: `iptables -D INPUT ${REJECT}; iptables -D FORWARD ${REJECT}; iptables -S | grep -c REJECT`,
        prints: ['0'],
      },
      { where: 'container-1', command: PING('100.96.2.3'), prints: [/2 received/] },
    ],
  },
  {
    name: 'change',
    title: 'Another backend: the configuration is changed, the daemons are restarted',
    hosts: [hostPlan(1), hostPlan(2)],
    config: { Network: '100.96.0.0/16', Backend: { Type: 'udp' } },
    etcd: true,
    rows: [
      {
        where: 'host-1',
        command: `etcdctl --endpoints=${ENDPOINT} get --print-value-only ${PREFIX}/config`,
        prints: ['{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}'],
      },
      {
        where: 'host-1',
        command: `etcdctl --endpoints=${ENDPOINT} del ${PREFIX}/config; etcdctl --endpoints=${ENDPOINT} put ${PREFIX}/config '{"Network":"100.96.0.0/16","Backend":{"Type":"vxlan"}}'`,
        prints: ['1', 'OK'],
      },
      {
        where: 'host-1',
        what: 'after a restart there is the new device, and nothing of the old one',
        restart: true,
        command: 'ip -br link; ip route',
        prints: [/^flannel\.1 /, '100.96.2.0/24 via 100.96.2.0 dev flannel.1 onlink'],
        never: /flannel0/,
      },
      { where: 'container-1', command: PING('100.96.2.3'), prints: [/ttl=62/, /2 received/] },
    ],
  },
  {
    name: 'vxlan',
    title: 'VXLAN: 10.1.0.0/16 with containers 10.1.15.2 and 10.1.16.3 on hosts 10.168.0.2 and .3',
    hosts: [
      host(1, '10.168.0.2', '10.1.15.0/24', '10.1.15.2'),
      host(2, '10.168.0.3', '10.1.16.0/24', '10.1.16.3'),
    ],
    config: { Network: '10.1.0.0/16', Backend: { Type: 'vxlan' } },
    attributes: { BackendType: 'vxlan' },
    rows: [
      {
        where: 'host-1',
        command: 'ip route',
        prints: ['10.1.16.0/24 via 10.1.16.0 dev flannel.1 onlink'],
      },
      {
        where: 'host-1',
        command: 'ip neigh show dev flannel.1',
        prints: ['10.1.16.0 lladdr MAC PERMANENT'],
      },
      {
        where: 'host-1',
        command: 'bridge fdb show dev flannel.1',
        prints: ['MAC dst 10.168.0.3 self permanent'],
      },
      {
        where: 'host-1',
        command: 'ip -d link show flannel.1',
        prints: [/mtu 1450/, /vxlan id 1 local 10\.168\.0\.2 dev eth0 .*dstport 8472 nolearning/],
      },
      { where: 'host-1', command: 'ip -4 -br addr show flannel.1', prints: [/10\.1\.15\.0\/32/] },
      { where: 'container-1', command: PING('10.1.16.3'), prints: [/ttl=62/, /2 received/] },
      {
        where: 'host-1',
        what: 'the frame on the wire, which tcpdump takes for OTV',
        command: TCPDUMP('eth0', 'udp port 8472', 4),
        during: PINGS('10.1.16.3'),
        prints: [
          /^IP 10\.168\.0\.2\.\d+ > 10\.168\.0\.3\.8472: OTV, flags \[I\] \(0x08\), overlay 0, instance 1$/,
          /^IP 10\.1\.15\.2 > 10\.1\.16\.3: ICMP echo request/,
        ],
      },
      {
        where: 'host-1',
        what: 'no ICMP on eth0 itself',
        command: `${TCPDUMP('eth0', 'icmp', 1).replace('timeout 8', 'timeout 2')}; echo end`,
        during: PINGS('10.1.16.3'),
        prints: ['end'],
        never: /ICMP/,
      },
      {
        where: 'container-1',
        what: 'no layer 2 between containers',
        command: 'arping -c 2 -w 3 -I eth0 10.1.16.3; echo end',
        prints: [/Received 0 response/, 'end'],
      },
    ],
  },
  {
    name: 'host-gw',
    title: 'host-gw: pods 10.244.1.97 and 10.244.2.88 on hosts 172.16.1.101 and .102, ens192',
    ...ENS192,
    config: { Network: '10.244.0.0/16', Backend: { Type: 'host-gw' } },
    attributes: { BackendType: 'host-gw' },
    rows: [
      {
        where: 'host-2',
        command: 'ip route',
        prints: ['10.244.1.0/24 via 172.16.1.101 dev ens192'],
      },
      {
        where: 'host-2',
        command: `cat ${subnetFileOf(hostPlan(2))}`,
        prints: ['FLANNEL_NETWORK=10.244.0.0/16', 'FLANNEL_MTU=1500'],
      },
      {
        where: 'container-1',
        command: PING('10.244.2.88', '-M do -s 1472 '),
        prints: [/ttl=62/, /2 received/],
      },
      {
        where: 'host-2',
        command: TCPDUMP('ens192', 'icmp'),
        during: PINGS('10.244.2.88'),
        prints: [/^IP 10\.244\.1\.97 > 10\.244\.2\.88: ICMP echo request/],
      },
    ],
  },
  ...['before', 'after'].map((time) => ({
    name: `direct-routing-${time}`,
    title: `vxlan ${time} \`"DirectRouting": true\`, on the same hosts`,
    ...ENS192,
    config: {
      Network: '10.244.0.0/16',
      // As the documents write it: keys are matched without regard to case.
      Backend: { Type: 'vxlan', ...(time === 'after' ? { Directrouting: true } : {}) },
    },
    attributes: { BackendType: 'vxlan' },
    rows: [
      {
        where: 'host-2',
        command: 'ip route',
        prints: [
          time === 'before'
            ? '10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink'
            : '10.244.1.0/24 via 172.16.1.101 dev ens192',
        ],
      },
      { where: 'container-1', command: PING('10.244.2.88'), prints: [/ttl=62/, /2 received/] },
      {
        where: 'host-2',
        command: TCPDUMP('ens192', time === 'before' ? 'udp port 8472' : 'icmp'),
        during: PINGS('10.244.2.88'),
        prints: [
          time === 'before'
            ? /8472: OTV, flags \[I\] \(0x08\), overlay 0, instance 1$/
            : /^IP 10\.244\.1\.97 > 10\.244\.2\.88: ICMP echo request/,
        ],
      },
    ],
  })),
];

const { values } = parseArgs({
  options: {
    write: { type: 'string' },
    json: { type: 'boolean' },
    scene: { type: 'string' },
  },
});

if (values.scene !== undefined) {
  const scene = SCENES.find(({ name }) => name === values.scene);
  if (scene === undefined) {
    const names = SCENES.map(({ name }) => name).join(', ');
    console.error(`documents: --scene: "${values.scene}" is not valid: expected ${names}`);
    process.exit(2);
  }
  console.log(JSON.stringify(await play(scene)));
  // Daemons and etcd end with this process's namespaces.
  process.exit(0);
}

const played = [];
for (const scene of SCENES) {
  const rows = await isolated(scene);
  played.push({ name: scene.name, title: scene.title, config: scene.config, rows });
  if (values.json !== true) for (const row of rows) console.log(lineOf(scene, row));
}
if (values.json === true) console.log(JSON.stringify(played));
if (values.write !== undefined) await writeFile(values.write, pageOf(played));
process.exitCode = played.every(({ rows }) => rows.every(({ fault }) => fault === undefined))
  ? 0
  : 1;

/** Plays a scene in namespaces of its own; its rows. */
function isolated({ name }) {
  const [file, ...argv] = isolationCommand([process.execPath, SELF, `--scene=${name}`]);
  const child = spawn(file, argv, {
    env: isolationEnvironment(),
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 180_000,
    killSignal: 'SIGKILL',
  });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  return new Promise((done, failed) => {
    child.on('error', failed);
    child.on('close', (code) => {
      if (code === 0) done(JSON.parse(output));
      else failed(new Error(`the scene ${name} ended with code ${code}`));
    });
  });
}

async function play(scene) {
  const { hosts, config, attributes = {}, gateway = GATEWAY, device, etcd, flags = [] } = scene;
  await buildSwitch(gateway);
  for (const plan of hosts) {
    await addHost(plan, { gateway });
    if (device !== undefined) await rename(plan, device, gateway);
    await mkdir(join(LAB_DIRECTORY, plan.host), { recursive: true });
  }
  const storeFlags = etcd === true ? await inEtcd(hosts, config) : LEASE_FILE_FLAGS;
  if (etcd !== true) await writeLeaseFile(hosts, config, attributes);
  const start = async () => {
    const daemons = hosts.map(
      (plan) =>
        new DaemonProcess(plan, {
          command: COMMAND,
          mode: 'auto',
          storeFlags,
          // Of several, the first that is there.
          flags: [...flags, ...(device === undefined ? [] : [`--iface=${device}`])],
        }),
    );
    for (const daemon of daemons) await daemon.ready();
    return daemons;
  };
  let daemons = await start();
  for (const daemon of daemons) {
    const env = await daemon.readSubnetFile();
    await addContainer(daemon.plan, env.FLANNEL_SUBNET, Number(env.FLANNEL_MTU));
  }
  await becomesReached(hosts);
  const rows = [];
  for (const row of scene.rows) {
    if (row.restart === true) {
      for (const daemon of daemons) await daemon.stop();
      daemons = await start();
      await becomesReached(hosts);
    }
    rows.push(await playRow(row, hosts[0].container));
  }
  return rows;
}

function becomesReached([from, to]) {
  return waitFor('the other container', 20_000, async () => {
    const { stdout } = await inShell(from.container, PING(to.containerAddress), [0, 1]);
    return stdout.includes('2 received') ? true : undefined;
  });
}

/** The device takes the documents' name. */
async function rename(plan, device, gateway) {
  await ipBatch(plan.host, [
    'link set eth0 down',
    `link set eth0 name ${device}`,
    `link set ${device} up`,
    `route add default via ${gateway} dev ${device}`,
  ]);
}

/**
 * A real etcd with the configuration; the flags to use it. A subnet.env of a run before has each host
 * take the documents' subnet.
 */
async function inEtcd(hosts, config) {
  await EtcdServer.start({
    directory: join(LAB_DIRECTORY, 'etcd'),
    address: GATEWAY,
    port: 2379,
  });
  const text = JSON.stringify(config);
  await run(['etcdctl', `--endpoints=${ENDPOINT}`, 'put', `${PREFIX}/config`, text]);
  for (const plan of hosts) {
    const lines = [`FLANNEL_NETWORK=${config.Network}`, `FLANNEL_SUBNET=${plan.bridgeAddress}/24`];
    await writeFile(subnetFileOf(plan), `${lines.join('\n')}\n`);
  }
  return [`--etcd-endpoints=${ENDPOINT}`];
}

async function inShell(namespace, command, accept = [0]) {
  const call = `flannelette() { ${COMMAND.join(' ')} "$@"; }; ${command}`;
  return run(inNamespace(namespace, ['sh', '-c', call]), { accept });
}

async function playRow({ patience = 0, ...row }, container) {
  const end = Date.now() + patience * 1_000;
  for (;;) {
    const lines = await printedBy(row, container);
    const fault = faultOf(row, lines);
    if (fault === undefined || Date.now() > end) {
      const { where, what, command, differs } = row;
      return { where, what, command, differs, lines, fault };
    }
    await pause(1_000);
  }
}

/** Any exit code will do: what is printed counts. */
async function printedBy({ where, command, during }, container) {
  const any = Array.from({ length: 256 }, (_, code) => code);
  const listening = inShell(where, command, any);
  if (during !== undefined) {
    // tcpdump says that it listens on standard error, which the command hides.
    await pause(700);
    await run(inNamespace(container, ['sh', '-c', during]));
  }
  const { stdout } = await listening;
  return stdout
    .replaceAll(/time=[\d.]+ ms/g, 'time=... ms')
    .replaceAll(/, time \d+ms$/gm, ', time ...ms')
    .replaceAll(/^rtt .*$/gm, '')
    .split('\n')
    .map((line) => line.trim().replaceAll(/\s+/g, ' '))
    .filter((line) => line !== '');
}

/** The first line that is missing or must not be there; undefined when the row is as it must be. */
function faultOf({ prints, instead = [], never }, lines) {
  const plain = lines.map((line) => line.replaceAll(/\b(?:[\da-f]{2}:){5}[\da-f]{2}\b/g, 'MAC'));
  for (const wanted of [...prints, ...instead]) {
    const has = plain.some((line) =>
      wanted instanceof RegExp ? wanted.test(line) : line === wanted,
    );
    if (!has) return `no line ${wanted}`;
  }
  const wrong = never && plain.find((line) => never.test(line));
  return wrong === undefined ? undefined : `the line ${wrong}`;
}

function verdictOf({ fault, differs }) {
  if (fault !== undefined) return `**Disagrees**: ${fault}.`;
  return differs === undefined ? 'Agrees.' : `Differs: ${differs}.`;
}

function lineOf({ name }, row) {
  const mark = row.fault === undefined ? (row.differs === undefined ? '✓' : '≠') : '✗';
  const said = row.fault === undefined ? '' : `: ${row.fault}\n    ${row.lines.join('\n    ')}`;
  return `${mark} ${name}: ${row.where}# ${shown(row)}${said}`;
}

/** Without what keeps the command bounded in time here. */
function shown({ command }) {
  return command
    .replace(/^timeout \d+ (tcpdump)/, '$1')
    .replace(' -l --immediate-mode -Z root', '')
    .replace(' 2>/dev/null', '')
    .replace(/; echo end$/, '');
}

function pageOf(scenes) {
  const rows = scenes.flatMap((scene) => scene.rows);
  const differing = rows.filter(({ differs }) => differs !== undefined).length;
  const wrong = rows.filter(({ fault }) => fault !== undefined).length;
  const counts = `${rows.length - differing - wrong} agree, ${differing} differ for a reason, ${wrong} disagree`;
  return `# What the documents print, and what is printed here

Made by \`npm run documents -- --write docs/documents.md\`: the commands of the user's documents, run in labs with the
documents' own addresses, Linux ${release()}. Of ${rows.length} rows ${counts}.

${scenes.map(sectionOf).join('\n')}
## Not here yet

The Kubernetes store, CNI and Services: \`kube-flannel-cfg\`, \`10-flannel.conflist\`, cni0, the rules of kube-proxy.
`;
}

function sectionOf({ title, config, rows }) {
  const shownRows = rows.map((row) => {
    const lines = row.lines.filter((line) => line !== 'end').map((line) => `${line}\n`);
    const before =
      row.what === undefined ? '' : `${row.what[0].toUpperCase()}${row.what.slice(1)}:\n\n`;
    return `${before}\`\`\`console
${row.where}# ${shown(row)}
${lines.join('')}\`\`\`

${verdictOf(row)}
`;
  });
  return `## ${title}

Configuration: \`${JSON.stringify(config)}\`

${shownRows.join('\n')}`;
}
