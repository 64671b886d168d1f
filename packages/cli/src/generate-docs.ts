import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { referenceText } from './reference.ts'

// Writes the generated documentation; with --check it only says whether it is current.
const file = join(import.meta.dirname, '../../../docs/reference/options.md')
const text = referenceText()
if (!process.argv.includes('--check')) {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
} else if ((await readFile(file, 'utf8').catch(() => '')) !== text) {
  console.error('docs/reference/options.md is not what the table of options says: run `npm run docs`')
  process.exitCode = 1
}
