import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { referenceText } from './reference.ts'
import { errorsText } from './reference-errors.ts'
import { metricsText } from './reference-metrics.ts'

// Writes the generated documentation; with --check it only says whether it is current.
const directory = join(import.meta.dirname, '../../../docs/reference')
const pages = [
  { name: 'options.md', of: 'the table of options', text: referenceText() },
  { name: 'metrics.md', of: 'the metrics of the programs', text: await metricsText() },
  { name: 'errors.md', of: 'the error classes', text: errorsText() },
]
await mkdir(directory, { recursive: true })
for (const { name, of, text } of pages) {
  const file = join(directory, name)
  if (!process.argv.includes('--check')) {
    await writeFile(file, text)
  } else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
    console.error(`docs/reference/${name} is not what ${of} says: run \`npm run docs\``)
    process.exitCode = 1
  }
}
