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

/** Whether this machine lets root make namespaces with shaped links, which some containers do not. Not asked of the bench's own code, which is on test. */
async function canShapeLinks(): Promise<boolean> {
  const namespace = `darter-${process.pid}-probe`
  const lines = [
    `ip netns add ${namespace}`,
    `ip -n ${namespace} link add br0 type bridge`,
    `ip -n ${namespace} link add eth0 type veth peer name eth1`,
    `tc -n ${namespace} qdisc add dev eth0 root tbf rate 1mbit burst 256kb latency 50ms`,
  ]
  try {
    for (const line of lines) await run('sh', ['-c', line])
    return true
  } catch {
    return false
  } finally {
    await run('ip', ['netns', 'del', namespace], { codes: 'any' })
  }
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

describe(
  'the bench of a swarm, in short',
  requirePrograms(['docker-registry', 'curl', 'ip', 'tc'], { root: true }),
  () => {
    const options = ['--peers', '3', '--rate', '50mbit', '--size', '8MiB', '--warm-up', '4MiB']

    test('many machines behind shaped links', async context => {
      if (!(await canShapeLinks())) {
        context.diagnostic(
          'namespaces with shaped links are not allowed here: the bench says which command failed',
        )
        await assert.rejects(bench('swarm', ...options), /\b(?:ip|tc)\b/)
        return
      }
      const result = await bench('swarm', ...options)
      ratioWithin(context, result, 'lastRatio', 0.9, 10)
      ratioWithin(context, result, 'originRatio', 1, 2)
      ratioWithin(context, result, 'speedup', 0.2, 10)
    })
  },
)
