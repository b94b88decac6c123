/** The result of `npm run bench:flood` for a terminal and as Markdown; both from the same tables. */
import { SPREAD_METHOD, spreadOf } from '../frame/spread.js';
import { estimate, pairedRatio, type Estimate } from '../frame/stats.js';
import {
  fixed,
  machineFacts,
  markdownFacts,
  markdownHead,
  markdownTable,
  textFacts,
  textTable,
  verdict,
  withDigits,
  wrap,
  type Fact,
  type ReportTable,
} from '../frame/table.js';
import { SITUATIONS, type FloodResult, type FloodRound, type Situation } from './flood-result.js';

/** Of its throughput legitimate traffic is to keep that share. */
const TARGET = 0.9;

const METHOD =
  'Two hosts of the lab in network namespaces, eth0 with MTU 1500 (tunnel 1472), a daemon of the mode on each; one TCP connection from container-1 to container-2. A third host, which holds no lease, sends datagrams of 64 bytes to port 8285 of host-2, with packets that claim to be from container-1. quiet: it sends nothing. stopped: a rule of nftables drops what it sends first of all on host-2 (prerouting, raw), so what is lost is the work of sending the flood on this machine, carrying it over the veths and dropping it. refused: they reach the tunnel, whose source check refuses each. refused / stopped is what refusing costs beyond that. Each round has the three in random order.';

export function renderFloodText(result: FloodResult): string {
  return [
    wrap(METHOD),
    '',
    ...textFacts(describe(result)),
    '',
    ...tablesOf(result).map(textTable),
    ...verdicts(result),
    '',
  ].join('\n');
}

export function renderFloodMarkdown(result: FloodResult): string {
  return [
    ...markdownHead('What a flood of refused datagrams leaves of the throughput'),
    METHOD,
    '',
    SPREAD_METHOD,
    '',
    ...markdownFacts(describe(result)),
    '',
    ...tablesOf(result).flatMap((table) => [...markdownTable(table), '']),
    '## Verdict',
    '',
    ...verdicts(result).map((line) => `- ${line}`),
    '',
  ].join('\n');
}

function describe({ machine, rate, seconds, modes }: FloodResult): Fact[] {
  return [
    ...machineFacts(machine),
    ['Flood', `${fixed(rate, 0)} datagrams/s`],
    ['Rounds', `${modes[0]?.rounds.length ?? 0}, ${seconds} s for each situation`],
  ];
}

function tablesOf({ modes }: FloodResult): ReportTable[] {
  const ratios = modes.map(({ mode, rounds }) => ({
    mode,
    estimates: [
      share(rounds, 'stopped', 'quiet'),
      share(rounds, 'refused', 'quiet'),
      share(rounds, 'refused', 'stopped'),
    ],
  }));
  const spread = spreadOf(ratios.flatMap(({ estimates }) => estimates));
  const two = withDigits(2);
  return [
    {
      title: 'Share of the TCP throughput that is left',
      columns: [
        'mode',
        ...['stopped / quiet', 'refused / quiet', 'refused / stopped'].flatMap((name) => [
          name,
          spread.title,
        ]),
      ],
      rows: ratios.map(({ mode, estimates }) => [
        mode,
        ...estimates.flatMap((one) => [two(one.median), spread.text(one, two)]),
      ]),
    },
    {
      title: 'Medians',
      columns: ['mode', ...SITUATIONS.map((name) => `${name}, Gbit/s`), 'sent/s', 'counted/s'],
      rows: modes.map(({ mode, rounds }) => [
        mode,
        ...SITUATIONS.map((name) => two(estimate(rounds.map(({ tcp }) => tcp[name])).median)),
        fixed(estimate(rounds.map(({ sent }) => sent)).median, 0),
        fixed(estimate(rounds.map(({ refused }) => refused)).median, 0),
      ]),
    },
  ];
}

function share(rounds: readonly FloodRound[], one: Situation, other: Situation): Estimate {
  return pairedRatio(
    rounds.map(({ tcp }) => tcp[one]),
    rounds.map(({ tcp }) => tcp[other]),
  );
}

function verdicts({ modes, rate }: FloodResult): string[] {
  return modes.flatMap(({ mode, rounds }) => {
    const kept = share(rounds, 'refused', 'quiet').median;
    const beyond = share(rounds, 'refused', 'stopped').median;
    const flood = `${fixed(rate, 0)} refused datagrams/s`;
    return [
      verdict(kept >= TARGET, `${mode}: ${TARGET} of TCP under ${flood}`, fixed(kept, 2)),
      verdict(
        beyond >= TARGET,
        `${mode}: ${TARGET} of what the machine has left`,
        fixed(beyond, 2),
      ),
    ];
  });
}
