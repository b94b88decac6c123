/** The page: what the lab says is shown, what is pressed is asked for. */
import type { Command, LabState, LoadKind, PageMode, Sample } from '../live/messages.js';
import { Animation } from './animation.js';
import { Chart } from './chart.js';
import { Drawing } from './drawing.js';
import { digits, orDash, si } from './format.js';

const REDUCED_MOTION = matchMedia('(prefers-reduced-motion: reduce)');
/** A sample comes twice a second; so long without one means that nothing comes any more. */
const SILENCE_MS = 5_000;
/** What the containers' own programs copy is not counted; these are the copies they make. */
const CONTAINER_COPIES: Readonly<Record<LoadKind, string>> = {
  ping: 'ping adds 1: the other container’s kernel answers',
  tcp: 'the programs add 2: 6 in all',
  udp: 'the programs add up to 2: less what is not read',
};

const drawing = new Drawing(svgById('drawing'));
const animation = new Animation(drawing.packets);
const charts = {
  throughput: new Chart(svgById('chart-throughput'), (value) => si(value, 'bit/s')),
  calls: new Chart(svgById('chart-calls'), digits),
};
const motion = byId('motion');
const buttons = [...document.querySelectorAll<HTMLButtonElement>('button[data-command]')];

let state: LabState | undefined;
let connected = false;
let silence: number | undefined;

follow();
motion.setAttribute('aria-pressed', String(!REDUCED_MOTION.matches));
motion.addEventListener('click', () => {
  motion.setAttribute('aria-pressed', String(motion.getAttribute('aria-pressed') !== 'true'));
  showMotion();
});
REDUCED_MOTION.addEventListener('change', ({ matches }) => {
  motion.setAttribute('aria-pressed', String(!matches));
  showMotion();
});
for (const button of buttons) {
  button.addEventListener('click', () => {
    if (button.getAttribute('aria-disabled') !== 'true') void ask(commandOf(button));
  });
}
showButtons();
showMotion();

/** The browser connects again by itself, as often as it takes. */
function follow(): void {
  const events = new EventSource('/events');
  events.addEventListener('open', () => {
    setConnected(true);
  });
  events.addEventListener('error', () => {
    setConnected(false);
  });
  events.addEventListener('state', ({ data }: MessageEvent<string>) => {
    showState(JSON.parse(data) as LabState);
  });
  events.addEventListener('sample', ({ data }: MessageEvent<string>) => {
    showSample(JSON.parse(data) as Sample);
  });
}

async function ask(command: Command): Promise<void> {
  try {
    const response = await fetch('/command', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(command),
    });
    if (!response.ok) say(await response.text());
  } catch {
    setConnected(false);
  }
}

function commandOf({ dataset }: HTMLButtonElement): Command {
  const command = dataset['command'] as Command['command'];
  return command === 'mode' ? { command, mode: dataset['mode'] as PageMode } : { command };
}

function setConnected(now: boolean): void {
  connected = now;
  clearTimeout(silence);
  if (now && state?.phase === 'live') {
    silence = setTimeout(() => {
      setConnected(false);
    }, SILENCE_MS);
  }
  const lost = byId('lost');
  lost.hidden = now;
  const ended = state?.phase === 'stopped' || state?.phase === 'failed';
  lost.textContent = now
    ? ''
    : `${ended ? 'The lab has ended' : 'The connection to the lab is lost'}; the numbers are the last known. The page goes on when the lab is back.`;
  document.body.classList.toggle('lost', !now);
  showButtons();
  showMotion();
}

function showState(news: LabState): void {
  state = news;
  setConnected(true);
  say(news.message);
  byId('message').dataset['phase'] = news.phase;
  showButtons();
  showResults(news);
  drawing.name(news.device);
  if (news.phase === 'building') drawing.show([], presentHosts());
}

function say(text: string): void {
  const message = byId('message');
  // A status that says the same again would be read aloud again.
  if (message.textContent === text) return;
  // News may follow one another faster than they can be read.
  setText('earlier', message.textContent ?? '');
  message.textContent = text;
}

function presentHosts(): ReadonlySet<number> {
  return new Set(state?.thirdHost === true ? [1, 2, 3] : [1, 2]);
}

function showButtons(): void {
  for (const button of buttons) {
    const command = commandOf(button);
    button.setAttribute('aria-disabled', String(!possible(command)));
    if (!button.hasAttribute('aria-pressed')) continue;
    const pressed =
      command.command === 'mode'
        ? state?.mode === command.mode
        : state?.load?.kind === command.command;
    button.setAttribute('aria-pressed', String(pressed));
  }
}

function possible(command: Command): boolean {
  if (!connected || state?.phase !== 'live') return false;
  const { load, change, mode, modes, thirdHost } = state;
  switch (command.command) {
    case 'ping':
    case 'tcp':
    case 'udp':
      return load === null;
    case 'stop':
      return load !== null;
    case 'mode':
      return change === null && modes.includes(command.mode) && mode !== command.mode;
    case 'add-host':
      return change === null && !thirdHost;
    case 'remove-host':
      return change === null && thirdHost;
  }
}

function showSample({ hosts, figures, cpus }: Sample): void {
  setConnected(true);
  const { bitsPerSecond, packetsPerSecond, dropsPerSecond, busyCpus } = figures;
  const { callsPerPacket, daemonCopies } = figures;
  drawing.show(hosts, presentHosts());
  const unit = hosts.every(({ carried }) => carried !== null) ? 'packet' : 'pass';
  setText('scale', describeDot(animation.show(hosts), unit));
  setText('throughput', si(bitsPerSecond, 'bit/s'));
  const drops =
    dropsPerSecond === 0 ? 'none' : orDash(dropsPerSecond, (rate) => `${si(rate, '')}/s`);
  const packets =
    packetsPerSecond === null
      ? 'packets and losses are not counted'
      : `${si(packetsPerSecond, '')} packets/s, lost: ${drops}`;
  setText('packets', packets);
  const few = callsPerPacket === null && packetsPerSecond !== null && packetsPerSecond > 0;
  setText('calls', orDash(callsPerPacket, digits));
  setText('calls-more', few ? 'shown from 1,000 packets/s: of few packets most find nothing' : '');
  setText(
    'copies',
    orDash(daemonCopies, (made) => made.toFixed(1)),
  );
  const load = state?.load?.kind;
  // In mode kernel and with other backends the containers' programs alone copy.
  const byDaemon = load !== undefined && daemonCopies !== null && daemonCopies > 1;
  setText('copies-more', byDaemon ? CONTAINER_COPIES[load] : '');
  setText('cpu', `${digits(busyCpus)} of ${cpus}`);
  const each =
    callsPerPacket === null || packetsPerSecond === null
      ? ''
      : digits((busyCpus / packetsPerSecond) * 1e6);
  setText('cpu-more', each === '' ? '' : `${each} µs of it for each packet delivered`);
  charts.throughput.add(bitsPerSecond, state?.mode ?? '');
  charts.calls.add(callsPerPacket, state?.mode ?? '');
}

function describeDot(count: number, unit: 'packet' | 'pass'): string {
  if (count === 0) return '';
  if (count < 1.05) return `A dot is a ${unit}.`;
  if (count < 1.5) return `A dot is about a ${unit}.`;
  const many = unit === 'pass' ? 'passes' : 'packets';
  return `A dot stands for about ${si(count < 10 ? count : Math.round(count), '')} ${many}.`;
}

/** A row a mode, with the last load of each kind: TCP and UDP do not compare. */
function showResults({ results, modes, mode: only }: LabState): void {
  const names = modes.length > 0 ? modes : [only];
  const rows = names.map((mode) => {
    const row = document.createElement('tr');
    row.append(cell('th', mode));
    for (const kind of ['tcp', 'udp'] as const) {
      const found = results.find((result) => result.mode === mode && result.kind === kind);
      const texts =
        found === undefined
          ? ['–', '–', '–']
          : [
              si(found.bitsPerSecond, 'bit/s'),
              orDash(found.packetsPerSecond, (rate) => si(rate, '')),
              orDash(found.callsPerPacket, digits),
            ];
      for (const text of texts) {
        const made = cell('td', text);
        made.dataset['kind'] = kind;
        row.append(made);
      }
    }
    return row;
  });
  document.querySelector('#results tbody')?.replaceChildren(...rows);
}

function cell(name: 'th' | 'td', text: string): HTMLElement {
  const made = document.createElement(name);
  made.textContent = text;
  if (name === 'th') made.setAttribute('scope', 'row');
  return made;
}

function showMotion(): void {
  animation.running = connected && motion.getAttribute('aria-pressed') === 'true';
}

function setText(id: string, text: string): void {
  byId(id).textContent = text;
}

function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

function svgById(id: string): SVGSVGElement {
  const found = document.querySelector<SVGSVGElement>(`svg#${id}`);
  if (found === null) throw new Error(`the page has no svg #${id}`);
  return found;
}
