import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Origin } from '@darter/origin'
import { seededRandom, systemClock } from '@darter/runtime'
import { type ChunkStore, createMemoryStore } from '@darter/store'
import { MIN_CHUNK_BYTES } from '@darter/swarm'
import { until } from '@darter/testing'
import fc from 'fast-check'
import type { BlobRead, SpanChoice } from '../src/download/contract.ts'
import { type Reads } from '../src/download/reads.ts'
import { type Deed, type ScriptedOrigin, scriptedOrigin } from './support/origin.ts'
import { readsOver } from './support/reads.ts'

function randomBytes(length: number, seed: number): Uint8Array {
  const random = seededRandom(seed)
  return Uint8Array.from({ length }, () => Math.floor(random() * 256))
}

const BLOB = randomBytes(MIN_CHUNK_BYTES * 5 + 1234, 1)

interface Bench extends AsyncDisposable {
  readonly reads: Reads
  readonly store: ChunkStore
  open(options?: { span?: SpanChoice; size?: number }): Promise<BlobRead>
  read(options?: { span?: SpanChoice; size?: number }): Promise<Uint8Array>
}

async function bench(source: ScriptedOrigin, quotaBytes = 1e9): Promise<Bench> {
  const store = createMemoryStore({ quotaBytes, clock: systemClock })
  const reads = await readsOver(store)
  await reads.start()
  const upstream = {
    name: 'scripted',
    hosts: [],
    origin: source.origin,
    isPublic: true,
    hasCredentials: false,
  }
  const open: Bench['open'] = async ({ span, size } = {}) => {
    const read = await reads.open({
      upstream,
      repository: 'a/b',
      digest: source.digest,
      signal: AbortSignal.timeout(20_000),
      size,
      span,
    })
    assert.ok(!('unsatisfiable' in read))
    return read
  }
  return {
    reads,
    store,
    open,
    read: async options => {
      const read = await open(options)
      const parts: Uint8Array[] = []
      for await (const piece of read.body) parts.push(Uint8Array.from(piece))
      return Buffer.concat(parts)
    },
    [Symbol.asyncDispose]: async () => {
      await reads.stop(AbortSignal.timeout(1000))
      await store.close()
    },
  }
}

const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.constant<Deed>({ kind: 'serve' }),
  fc.constant<Deed>({ kind: 'unreachable' }),
  fc.constantFrom<Deed>({ kind: 'status', status: 503 }, { kind: 'status', status: 500 }),
  fc.nat(BLOB.length).map((after): Deed => ({ kind: 'break', after })),
  fc.nat(BLOB.length - 1).map((at): Deed => ({ kind: 'wrong', at })),
  fc.constant<Deed>({ kind: 'ignore-range' }),
)

describe('reading a blob', () => {
  it('reads what a stop left whole but unproven, also when its download is over before the first byte is taken', async () => {
    const small = randomBytes(307, 3)
    await using at = await bench(scriptedOrigin(small, []))
    const { digest } = scriptedOrigin(small, [])
    const left = await at.store.open(digest, small.length)
    await left.writeChunk(0, small, createHash('sha256').update(small).digest())
    left.release()
    const read = await at.open({ size: small.length })
    await until('the blob is proven', () => at.store.info(digest)?.complete === true && at.reads.active === 0)
    await setImmediate()
    const parts: Uint8Array[] = []
    for await (const piece of read.body) parts.push(Uint8Array.from(piece))
    assert.deepEqual(Buffer.concat(parts), Buffer.from(small))
  })

  it('reads it from the origin once for all callers, and from the store afterwards', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source)
    const both = await Promise.all([at.read(), at.read({ size: BLOB.length })])
    for (const got of both) assert.ok(Buffer.from(BLOB).equals(got))
    assert.ok(Buffer.from(BLOB).equals(await at.read()))
    assert.equal(source.sent(), BLOB.length)
    assert.ok(at.reads.isHeld(source.digest))
  })

  it('never ends well with wrong bytes, whatever the origin does', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { maxLength: 6 }), async deeds => {
        const source = scriptedOrigin(BLOB, deeds)
        await using at = await bench(source)
        let got: Uint8Array
        try {
          got = await at.read()
        } catch {
          return
        }
        assert.ok(Buffer.from(BLOB).equals(got))
      }),
      { numRuns: 25, seed: 11 },
    )
  })

  it('heals what breaks off inside a response', async () => {
    const source = scriptedOrigin(BLOB, [
      { kind: 'break', after: 100_000 },
      { kind: 'status', status: 503 },
      { kind: 'unreachable' },
    ])
    await using at = await bench(source)
    assert.ok(Buffer.from(BLOB).equals(await at.read()))
  })

  it('reads an origin that ignores ranges', async () => {
    const source = scriptedOrigin(
      BLOB,
      Array.from({ length: 40 }, (): Deed => ({ kind: 'ignore-range' })),
    )
    await using at = await bench(source)
    assert.ok(Buffer.from(BLOB).equals(await at.read()))
  })

  it('passes the origin’s own refusal on', async () => {
    const source = scriptedOrigin(
      BLOB,
      Array.from({ length: 40 }, (): Deed => ({ kind: 'status', status: 404 })),
    )
    await using at = await bench(source)
    await assert.rejects(at.read(), { code: 'ORIGIN_STATUS', status: 404 })
  })

  it('serves a range of a blob that nobody has yet', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source)
    const from = MIN_CHUNK_BYTES + 17
    const to = MIN_CHUNK_BYTES * 3 + 5
    assert.ok(Buffer.from(BLOB.subarray(from, to)).equals(await at.read({ span: () => ({ from, to }) })))
  })

  it('streams through without keeping when there is no room', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source, MIN_CHUNK_BYTES * 2)
    assert.ok(Buffer.from(BLOB).equals(await at.read()))
    assert.ok(!at.reads.isHeld(source.digest))
  })

  it('checks the digest also of what it streams through when the store fills up', async () => {
    for (let at = 0; at < 3; at++) {
      const source = scriptedOrigin(BLOB, [{ kind: 'wrong', at: at * 1000 }])
      await using bench3 = await bench(source, MIN_CHUNK_BYTES * 2)
      await assert.rejects(bench3.read())
    }
  })

  it('refuses content that does not have its digest', async () => {
    for (const [blob, code] of [
      [BLOB, 'WRONG_BYTES_SENT'],
      [BLOB.subarray(0, 5000), 'ORIGIN_CORRUPT'],
    ] as const) {
      const wrong = Uint8Array.from(blob)
      wrong[0]! ^= 1
      const source = { ...scriptedOrigin(wrong, []), digest: scriptedOrigin(blob, []).digest }
      await using at = await bench(source)
      await assert.rejects(at.read(), { code })
      assert.ok(!at.reads.isHeld(source.digest))
    }
  })

  it('fetches a chunk again that the store lost', async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source)
    await at.read()
    const stored = await at.store.find(source.digest)
    await stored?.dropChunk(2)
    stored?.release()
    assert.ok(Buffer.from(BLOB).equals(await at.read()))
  })

  it('serves a small blob that an unclean stop left whole but unconfirmed', async () => {
    const small = BLOB.subarray(0, 5000)
    const source = scriptedOrigin(small, [])
    await using at = await bench(source)
    const stored = await at.store.open(source.digest, small.length)
    await stored.writeChunk(0, small, createHash('sha256').update(small).digest())
    stored.release()
    assert.ok(Buffer.from(small).equals(await at.read()))
    assert.equal(source.sent(), 0)
  })

  it('keeps nobody waiting for a caller that has stopped taking bytes when the store fills up', {
    timeout: 10_000,
  }, async () => {
    const source = scriptedOrigin(BLOB, [])
    await using at = await bench(source, MIN_CHUNK_BYTES * 2)
    const slow = await at.open()
    const body = slow.body[Symbol.asyncIterator]()
    await body.next()
    while (at.reads.active > 0) await setImmediate()
    assert.ok(Buffer.from(BLOB).equals(await at.read()))
    await body.return?.()
  })

  it('streams through no other bytes than were asked for when the origin answers with a later range', async () => {
    const honest = scriptedOrigin(BLOB, [])
    const origin: Origin = {
      ...honest.origin,
      openBlob: async (digest, { from = 0, ...rest }) =>
        await honest.origin.openBlob(digest, { ...rest, from: from + 10 }),
    }
    await using at = await bench({ ...honest, origin }, 1)
    await assert.rejects(at.read({ span: () => ({ from: 100, to: 200 }) }))
  })
})
