// A reporter for node's test runner that writes what scripts/check.mjs must know: what was skipped, which files are empty.
import { resolve } from 'node:path'

export default async function* report(events) {
  const result = { tests: 0, skipped: [], empty: [] }
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details?.type === 'suite') continue
    // A file without tests passes as if it were one.
    if (type === 'test:pass' && data.file !== undefined && resolve(data.name) === data.file) {
      result.empty.push(data.name)
      continue
    }
    result.tests++
    const reason = data.skip ?? data.todo
    if (reason !== undefined && reason !== false) {
      const why = typeof reason === 'string' && reason !== '' ? `: ${reason}` : ''
      result.skipped.push(`${data.name} (${data.file}:${data.line})${why}`)
    }
  }
  yield `${JSON.stringify(result)}\n`
}
