import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SchedulerLink } from '@darter/exchange'
import { createLogger, systemClock } from '@darter/runtime'
import { createMemoryStore } from '@darter/store'
import type { PeerMessage } from '@darter/wire'
import { Membership } from '../src/download/membership.ts'
import { neighbourhoodOver } from './support/neighbourhood.ts'
import { scriptedOrigin } from './support/origin.ts'

const log = createLogger({ level: 'silent', name: 'test' })

test('the scheduler hears the later of neighbours’ chunks the more silence it allows', async () => {
  const store = createMemoryStore({ quotaBytes: 1e6, clock: systemClock })
  const { digest } = scriptedOrigin(Buffer.from('abc'), [])
  const stored = await store.open(digest, 3)
  const told: PeerMessage[] = []
  const scheduler: SchedulerLink = {
    connected: true,
    silenceMs: 200_000,
    send: message => told.push(message) > 0,
    onMessage: () => () => {},
    onUp: () => () => {},
    onDown: () => () => {},
  }
  const neighbourhood = neighbourhoodOver(store, {
    link: async () => {
      throw new Error('nobody is there')
    },
    onLink: () => () => {},
  })
  const membership = new Membership({
    scheduler,
    neighbourhood,
    stored,
    source: () => undefined,
    kind: 'blob',
    log,
    zone: '',
    onLinked: () => {},
  })
  try {
    membership.holds(0, new Uint8Array(32), 'neighbour', 0)
    membership.report(24_999)
    assert.deepEqual(told, [])
    membership.report(25_000)
    assert.deepEqual(told, [{ type: 'held', blob: digest, chunks: [0] }])
  } finally {
    membership.close()
    neighbourhood.close()
    await store.close()
  }
})
