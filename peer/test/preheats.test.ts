import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SchedulerLink } from '@darter/exchange'
import { parseDigest } from '@darter/oci'
import { createLogger } from '@darter/runtime'
import type { PeerMessage, SchedulerMessage } from '@darter/wire'
import { createPreheats } from '../src/preheat/preheats.ts'

const DIGEST = parseDigest(`sha256:${'a'.repeat(64)}`)
const ORDER = {
  type: 'preheat',
  job: '0'.repeat(32),
  target: 'https://models.example.com/m.bin',
} as const satisfies SchedulerMessage

/** Preheats over a scripted link; each content that they keep ends when the test lets it, however early it was given up. */
async function startPreheats() {
  const told: PeerMessage[] = []
  const keeps: { readonly signal: AbortSignal; readonly end: () => void }[] = []
  let say: (message: SchedulerMessage) => void = () => {}
  let down: () => void = () => {}
  let kept: () => void = () => {}
  const scheduler: Pick<SchedulerLink, 'send' | 'onMessage' | 'onDown'> = {
    send: message => {
      told.push(message)
      return true
    },
    onMessage: listener => {
      say = listener
      return () => {}
    },
    onDown: listener => {
      down = listener
      return () => {}
    },
  }
  const rooms = {
    urls: {
      open: async () => ({
        shared: { name: DIGEST, source: {} },
        described: { size: 5 },
        place: 'https://models.example.com',
      }),
    },
    reads: {
      keep: async ({ signal }: { readonly signal: AbortSignal }) => {
        const { promise, resolve } = Promise.withResolvers<void>()
        keeps.push({ signal, end: resolve })
        kept()
        await promise
        signal.throwIfAborted()
      },
    },
  }
  // Of what a peer is made of, only what the content of a URL needs.
  const options = {
    scheduler,
    rooms,
    log: createLogger({ level: 'silent', name: 'test' }),
  } as unknown as Parameters<typeof createPreheats>[0]
  const preheats = createPreheats(options)
  await preheats.start()
  return {
    preheats,
    told,
    keeps,
    say: (message: SchedulerMessage) => say(message),
    down: () => down(),
    /** Resolves when so many contents have been asked for in all. */
    until: async (count: number) => {
      while (keeps.length < count) await new Promise<void>(resolve => (kept = resolve))
    },
  }
}

const states = (told: readonly PeerMessage[]): string[] =>
  told.flatMap(message => (message.type === 'preheat-state' ? [message.state] : []))

describe('the preheats of a peer', () => {
  it('begin a job anew that is ordered again before its run for the last connection has ended', async () => {
    const { preheats, told, keeps, say, down, until } = await startPreheats()
    say(ORDER)
    await until(1)
    down()
    assert.ok(keeps[0]!.signal.aborted)
    say(ORDER)
    keeps[0]!.end()
    await until(2)
    assert.deepEqual(states(told), [])
    const stopped = preheats.stop(AbortSignal.timeout(10_000))
    keeps[1]!.end()
    await stopped
  })

  it('leave out a job that is cancelled meanwhile, and do one thing once however often it is ordered', async () => {
    const { preheats, keeps, say, down, until } = await startPreheats()
    say(ORDER)
    say(ORDER)
    await until(1)
    down()
    say(ORDER)
    say({ type: 'preheat-cancel', job: ORDER.job })
    keeps[0]!.end()
    await preheats.stop(AbortSignal.timeout(10_000))
    assert.equal(keeps.length, 1)
  })

  it('tell of a cancelled job that it is', async () => {
    const { preheats, told, keeps, say, until } = await startPreheats()
    say(ORDER)
    await until(1)
    say({ type: 'preheat-cancel', job: ORDER.job })
    keeps[0]!.end()
    await preheats.stop(AbortSignal.timeout(10_000))
    assert.deepEqual(states(told), ['cancelled'])
  })
})
