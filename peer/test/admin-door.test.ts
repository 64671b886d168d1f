import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createLogger, createMetrics } from '@darter/runtime'
import { type AdminDoor, createAdminDoor, type Readiness } from '../src/doors/index.ts'

let door: AdminDoor
let url: string
let readiness: Readiness = { ready: false, parts: { store: 'opening' } }
const metrics = createMetrics({ prefix: 'darter_' })

before(async () => {
  metrics.counter({ name: 'things_total', help: 'Things.' }).inc(3)
  door = createAdminDoor({
    metrics,
    log: createLogger({ level: 'silent', name: 'test' }),
    readiness: () => readiness,
    status: () => {
      if (readiness.parts['status'] === 'broken') throw new Error('secret detail')
      return { peerId: 'x' }
    },
  })
  const { port } = await door.listen({ host: '127.0.0.1', port: 0 })
  url = `http://127.0.0.1:${port}`
})
after(() => door.close())

test('health, metrics and status', async () => {
  assert.deepEqual(await (await fetch(`${url}/healthz`)).json(), { status: 'ok' })
  const exposed = await fetch(`${url}/metrics`)
  assert.match(exposed.headers.get('content-type') ?? '', /^text\/plain/)
  assert.match(await exposed.text(), /^darter_things_total 3$/m)
  assert.deepEqual(await (await fetch(`${url}/status`)).json(), { peerId: 'x' })
})

test('readiness names what is missing', async () => {
  const not = await fetch(`${url}/readyz`)
  assert.equal(not.status, 503)
  assert.deepEqual(await not.json(), readiness)
  readiness = { ready: true, parts: { store: 'open' } }
  assert.equal((await fetch(`${url}/readyz`)).status, 200)
})

test('what is not there, and what fails, says so and no more', async () => {
  assert.equal((await fetch(`${url}/v2/`)).status, 404)
  assert.equal((await fetch(`${url}/healthz`, { method: 'POST', body: 'x' })).status, 404)
  readiness = { ready: true, parts: { status: 'broken' } }
  const failed = await fetch(`${url}/status`)
  assert.equal(failed.status, 500)
  assert.doesNotMatch(await failed.text(), /secret detail/)
})
