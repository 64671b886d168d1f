// A reporter for node's test runner that writes what scripts/check.mjs must know: counts, and what was skipped.
export default async function* report(events) {
  const result = { tests: 0, skipped: [] }
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    if (data.details?.type === 'suite') continue
    result.tests++
    const reason = data.skip ?? data.todo
    if (reason !== undefined && reason !== false) {
      const why = typeof reason === 'string' && reason !== '' ? `: ${reason}` : ''
      result.skipped.push(`${data.name} (${data.file}:${data.line})${why}`)
    }
  }
  yield `${JSON.stringify(result)}\n`
}
