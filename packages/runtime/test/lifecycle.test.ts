import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { type Component, createLogger, runService, StopTimeoutError, startAll } from '@darter/runtime'

const log = createLogger({ level: 'silent', name: 'test' })
const forever = new AbortController().signal

class FakeProcess extends EventEmitter {
  readonly exits: number[] = []
  exit(code: number): void {
    this.exits.push(code)
  }
}

function recorder(events: string[]) {
  return (name: string, extra: Partial<Component> = {}): Component => ({
    name,
    start: async () => void events.push(`start ${name}`),
    stop: async () => void events.push(`stop ${name}`),
    ...extra,
  })
}

test('components start in order and stop in reverse', async () => {
  const events: string[] = []
  const component = recorder(events)
  const stop = await startAll([component('store'), component('door')], {
    log,
    graceMs: 1000,
    signal: forever,
  })
  assert.deepEqual(await stop(), [])
  assert.deepEqual(events, ['start store', 'start door', 'stop door', 'stop store'])
})

test('when one fails to start, those before it are stopped and the failure is told', async () => {
  const events: string[] = []
  const component = recorder(events)
  const failure = new Error('port in use')
  const failing = component('door', { start: () => Promise.reject(failure) })
  await assert.rejects(
    startAll([component('store'), failing, component('admin')], { log, graceMs: 1000, signal: forever }),
    error => error === failure,
  )
  assert.deepEqual(events, ['start store', 'stop store'])
})

test('a component that cannot stop does not keep the others from stopping', async () => {
  const events: string[] = []
  const component = recorder(events)
  const failure = new Error('disk gone')
  const stop = await startAll(
    [component('store'), component('door', { stop: () => Promise.reject(failure) })],
    { log, graceMs: 1000, signal: forever },
  )
  assert.deepEqual(await stop(), [failure])
  assert.deepEqual(events.at(-1), 'stop store')
})

test('a service stops once at the first signal, exits 0 and leaves no handler', async () => {
  const host = new FakeProcess()
  const events: string[] = []
  const component = recorder(events)
  const code = await runService({
    components: [component('door')],
    log,
    graceMs: 1000,
    process: host,
    onReady: () => host.emit('SIGTERM', 'SIGTERM'),
  })
  assert.equal(code, 0)
  assert.deepEqual(events, ['start door', 'stop door'])
  assert.deepEqual(host.exits, [])
  assert.deepEqual(host.eventNames(), [])
})

test('a second signal ends the process at once', async () => {
  const host = new FakeProcess()
  const stopping = Promise.withResolvers<void>()
  const component = recorder([])
  const running = runService({
    components: [component('door', { stop: () => stopping.promise })],
    log,
    graceMs: 60_000,
    process: host,
    onReady: () => {
      host.emit('SIGINT', 'SIGINT')
      host.emit('SIGINT', 'SIGINT')
      host.emit('SIGTERM', 'SIGTERM')
    },
  })
  // The real process would be gone by now; this one has to be let go.
  stopping.resolve()
  await running
  assert.deepEqual(host.exits, [130, 143])
})

test('a stop that outlasts the grace time is cut and exits 1', async () => {
  const host = new FakeProcess()
  const reasons: unknown[] = []
  const slow = recorder([])('door', {
    stop: signal =>
      new Promise(resolve => {
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason)
          resolve()
        })
      }),
  })
  const code = await runService({
    components: [slow],
    log,
    graceMs: 5,
    process: host,
    onReady: () => host.emit('SIGTERM', 'SIGTERM'),
  })
  assert.equal(code, 1)
  assert.ok(reasons[0] instanceof StopTimeoutError)
})

test('a signal while starting stops what has started and begins nothing else', async () => {
  const host = new FakeProcess()
  const events: string[] = []
  const component = recorder(events)
  const code = await runService({
    components: [
      component('store'),
      component('swarm', {
        start: async () => {
          events.push('start swarm')
          host.emit('SIGTERM', 'SIGTERM')
        },
      }),
      component('door'),
    ],
    log,
    graceMs: 1000,
    process: host,
    onReady: () => assert.fail('it was never ready'),
  })
  assert.equal(code, 0)
  assert.deepEqual(events, ['start store', 'start swarm', 'stop swarm', 'stop store'])
})

test('a failing start is thrown, with the handlers gone', async () => {
  const host = new FakeProcess()
  const failure = new Error('no')
  const failing = recorder([])('door', { start: () => Promise.reject(failure) })
  await assert.rejects(
    runService({ components: [failing], log, graceMs: 1000, process: host }),
    error => error === failure,
  )
  assert.deepEqual(host.eventNames(), [])
})
