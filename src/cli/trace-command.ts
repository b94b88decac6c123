/** `flannelette trace`: one packet followed through the lab; the work is in src/lab/trace. */
import type { Command } from './command.js';
import { booleanFlag, choiceFlag, integerFlag, resolveFlags, textFlag } from './flags.js';
import { checkLabFlags, LAB_FLAGS } from './lab-flags.js';

const flags = {
  from: textFlag(
    'from',
    'container that sends: 100.96.1.2 or 100.96.2.3; the one that is not --to',
    {
      placeholder: 'address',
    },
  ),
  to: textFlag('to', 'container that receives; the one that is not --from', {
    placeholder: 'address',
  }),
  proto: choiceFlag(
    'proto',
    'what is sent: an echo request, a segment of a connection, or a datagram',
    ['icmp', 'tcp', 'udp'],
    'icmp',
  ),
  size: integerFlag(
    'size',
    'payload behind the ICMP, TCP or UDP header; as much as the MTU takes',
    { min: 0, max: 65_535, fallback: 56 },
    { placeholder: 'bytes' },
  ),
  ...LAB_FLAGS,
  pcap: textFlag(
    'pcap',
    'write the packet as every hop saw it, for Wireshark (pcapng); - is standard output, and the text goes to standard error',
    { placeholder: 'file' },
  ),
  json: booleanFlag('json', 'print one JSON object as the last line'),
  isolated: booleanFlag('isolated', 'this process is already isolated', false, { hidden: true }),
};

export const traceCommand: Command = {
  name: 'trace',
  summary: 'follow one real packet through the example network, hop by hop',
  description:
    'Sets up the two hosts of `flannelette lab`, sends one packet from container to container and shows it\nat every device and process on its way: time, addresses, TTL, headers, the bytes on the wire, each\ncrossing of the user/kernel border, and the route or lease that decided the next step. Takes a few\nseconds; nothing of this machine is touched and nothing stays.',
  flags,
  footer: `
The way:
  container-1  eth0, docker0, flannel0, daemon, eth0, switch, eth0, daemon, flannel0, docker0, eth0  container-2
  With --mode=kernel eBPF programs are in the place of the daemons; with --backend=vxlan flannel.1 in that
  of flannel0 and daemon; with --backend=host-gw and --direct-routing there is nothing between docker0 and eth0.

Examples:
  flannelette trace
  flannelette trace --proto=udp --size=1444       # the greatest datagram that fits
  flannelette trace --backend=vxlan               # inner Ethernet, VXLAN header and VNI, FDB entry
  flannelette trace --backend=vxlan --direct-routing
  flannelette trace --from=100.96.2.3 --to=100.96.1.2 --proto=tcp
  flannelette trace --pcap=packet.pcapng          # Wireshark: Decode As, UDP port 8285, IPv4
  flannelette trace --pcap=- | wireshark -k -i -
  flannelette trace --json | tail -1 | jq '.hops[].packet.ipv4.ttl'

Exit codes:
  0  the packet arrived as it must
  1  it did not, or the machine cannot run the lab
  2  the input is wrong
`,
  run: async (given, _io, argv) => {
    const values = resolveFlags(flags, given, {});
    checkLabFlags(values, given);
    const { backend, directRouting, ...more } = values;
    // Loaded when wanted: a daemon has no use for it.
    const [trace, { labBackend }] = await Promise.all([
      import('../lab/trace/trace.js'),
      import('../lab/backends/registry.js'),
    ]);
    return trace.traceCommand({ ...more, backend: labBackend(backend, directRouting) }, argv);
  },
};
