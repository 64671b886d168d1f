import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ERROR_TABLE } from '@darter/peer'

const ROOT = join(import.meta.dirname, '../../..')
const SOURCES = ['packages/*/src/**/*.ts', 'peer/src/**/*.ts', 'scheduler/src/**/*.ts']
const CLASS =
  /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(?:export )?class \w+ extends DarterError \{\s*readonly code = '([A-Z_]+)'/g

/** What the web framework's own failures mean; they have no class here. */
const FOREIGN: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: 'The request target is not well-formed.',
  FST_ERR_NOT_FOUND: 'Nothing is there.',
}

const PREAMBLE = `<!-- Generated from the error classes and peer/src/doors/error-table.ts by \`npm run docs\`; do not edit. -->

# Errors

Every failure has a stable code. It stands in the \`outcome\` of a request's log line (after \`cut:\` where the response had
begun and its connection was cut) and as \`err.code\` in other log lines. Clients see the HTTP status and an error code of
the OCI distribution spec in a JSON body, with a message that says what happened. A program that cannot start prints the
message alone.

An upstream's own refusal (\`ORIGIN_STATUS\`) is passed on as it came: status, headers such as \`WWW-Authenticate\` and
\`Retry-After\`, body.
`

/** The first sentences of a class's documentation, as text in a cell. */
function meaning(comment: string): string {
  const text = comment.replaceAll(/^\s*\* ?/gm, '').trim()
  const words = text.split(/\n\s*(?:@|\n)/, 1)[0] ?? ''
  return words
    .replaceAll(/\{@link ([^}]+)\}/g, '`$1`')
    .replaceAll(/\s+/g, ' ')
    .replaceAll('|', '\\|')
}

function classes(): ReadonlyMap<string, string> {
  const files = SOURCES.flatMap(pattern =>
    globSync(pattern, { cwd: ROOT, exclude: path => path.includes('node_modules') }),
  )
  const found = new Map<string, string>()
  for (const file of files) {
    for (const [, comment = '', code = ''] of readFileSync(join(ROOT, file), 'utf8').matchAll(CLASS)) {
      found.set(code, meaning(comment))
    }
  }
  return found
}

/** The text of docs/reference/errors.md. @throws {Error} for a row of the error table that no class explains. */
export function errorsText(): string {
  const meanings = classes()
  const answered = Object.entries(ERROR_TABLE).map(([code, { status, oci }]) => {
    const text = meanings.get(code) ?? FOREIGN[code]
    if (text === undefined) throw new Error(`no error class has the code ${code} of the error table`)
    return `| \`${code}\` | ${status} | \`${oci}\` | ${text} |`
  })
  const others = [...meanings]
    .filter(([code]) => !(code in ERROR_TABLE))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, text]) => `| \`${code}\` | ${text} |`)
  return [
    PREAMBLE,
    '## Answered to clients\n',
    '| Code | Status | OCI code | Meaning |\n| --- | --- | --- | --- |',
    ...answered,
    '| `INTERNAL` | 500 | `UNKNOWN` | A failure that has no name; the log has it in full. |',
    '\n## In logs and at the start of a program\n',
    '| Code | Meaning |\n| --- | --- |',
    ...others,
    '',
  ].join('\n')
}
