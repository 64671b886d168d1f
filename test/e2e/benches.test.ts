import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { requirePrograms, run } from '@darter/testing'

const MAIN = join(import.meta.dirname, '..', 'bench', 'main.ts')

/** A short run of a bench, in a process of its own; its result. */
async function bench(...args: readonly string[]): Promise<Record<string, unknown>> {
  const { stdout } = await run(process.execPath, [MAIN, ...args, '--json'], { timeoutMs: 120_000 })
  return JSON.parse(stdout.toString('utf8')) as Record<string, unknown>
}

/** Checks and tells a ratio of a bench's result. */
function ratioWithin(
  context: TestContext,
  result: Readonly<Record<string, unknown>>,
  name: string,
  least: number,
  most: number,
): void {
  const value = result[name]
  assert(typeof value === 'number', `${name} is no number`)
  context.diagnostic(`${name} ${value}`)
  assert(value >= least && value <= most, `${name} is ${value}, not ${least} to ${most}`)
}

// Other work on the machine may make any single figure bad: bounds are generous and on ratios alone, so that they show what went
// wrong by a multiple.
describe('benches, in short', requirePrograms(['docker-registry', 'openssl', 'nginx']), () => {
  test('from peer process to peer process', async context => {
    const result = await bench('pair', '--size', '64MiB', '--rounds', '1')
    ratioWithin(context, result, 'throughputRatio', 0.05, 10)
    ratioWithin(context, result, 'cpuRatio', 0.1, 10)
    assert.equal((result['darter'] as { originBytes?: unknown }).originBytes, 0)
  })

  test('from the store to a local client', async context => {
    const result = await bench('door', '--size', '64MiB', '--rounds', '1')
    ratioWithin(context, result, 'vsNginx', 0.05, 10)
    ratioWithin(context, result, 'vsRegistry', 0.1, 20)
  })

  test('sparse ranges of a blob that nobody holds', async context => {
    const result = await bench('ranges', '--size', '256MiB')
    ratioWithin(context, result, 'originOverRequested', 0, 2)
  })
})
