/** The page around the sections: one file that needs no network, no script and no font. */
import { escapeHtml, renderSection, type Html, type Section } from './markup.js';
import { styleSheet } from './theme.js';

export interface Page {
  readonly title: string;
  /** What the page is about, in a sentence or two. */
  readonly introduction: string;
  readonly sections: readonly Section[];
}

/** The policy has the browser itself refuse whatever would be fetched. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

export function renderPage({ title, introduction, sections }: Page): Html {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${styleSheet()}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the results</a>
<header>
<div class="top">
<h1>${escapeHtml(title)}</h1>
${themeChoice()}
</div>
<p>${escapeHtml(introduction)}</p>
<nav aria-label="Figures"><ul>${sections.map(renderLinks).join('')}</ul></nav>
</header>
<main id="content" tabindex="-1">
${sections.map(renderSection).join('\n')}
</main>
</body>
</html>
`;
}

/** Radio buttons that the style sheet reads (theme.ts). */
function themeChoice(): Html {
  const choice = (id: string, text: string, checked = ''): Html =>
    `<label><input type="radio" name="theme" id="theme-${id}"${checked}> ${text}</label>`;
  return `<fieldset><legend>Colours</legend>${choice('system', "the system's", ' checked')}${choice('light', 'light')}${choice('dark', 'dark')}</fieldset>`;
}

function renderLinks({ figures }: Section): Html {
  return figures
    .map(({ id, title }) => `<li><a href="#${id}">${escapeHtml(title)}</a></li>`)
    .join('');
}
