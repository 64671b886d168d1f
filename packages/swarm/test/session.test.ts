import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Bitfield, chunkLayout, DownloadSession, MIN_CHUNK_BYTES, runChunks } from '../src/index.ts'
import { runVirtual } from './virtual.ts'

const BLOB = MIN_CHUNK_BYTES * 64
const CHUNKS = chunkLayout(BLOB).count

describe('a swarm of download sessions', () => {
  it('reads a cold blob from the origin once, whatever the number of peers', () => {
    for (const peers of [1, 2, 4, 8, 24]) {
      const run = runVirtual({ peers, blobBytes: BLOB, seed: peers })
      assert.equal(run.originChunks, CHUNKS, `${peers} peers`)
      const longest = runChunks(chunkLayout(BLOB))
      // The first run is cut into 1, 1, 2, ... chunks.
      const requests = Math.ceil(CHUNKS / longest) + Math.log2(longest)
      assert.equal(run.originRequests, requests, `${peers} peers`)
      assert.ok(run.doneAt.every(at => at !== undefined))
    }
  })

  it('ends for every peer when others lie, leave, and the scheduler dies, for any seed', () => {
    fc.assert(
      fc.property(
        fc.record({
          seed: fc.integer({ min: 1, max: 1e6 }),
          peers: fc.integer({ min: 2, max: 8 }),
          liar: fc.boolean(),
          leaver: fc.boolean(),
          schedulerDiesAt: fc.option(fc.integer({ min: 0, max: 400 }), { nil: undefined }),
        }),
        ({ seed, peers, liar, leaver, schedulerDiesAt }) => {
          const run = runVirtual({
            peers,
            blobBytes: BLOB,
            seed,
            ...(liar ? { liars: [0] } : {}),
            ...(leaver ? { leave: new Map([[1, 150]]) } : {}),
            ...(schedulerDiesAt === undefined ? {} : { schedulerDiesAt }),
          })
          run.doneAt.forEach((at, peer) => {
            if (leaver && peer === 1) return
            assert.notEqual(at, undefined, `peer ${peer} did not end`)
          })
          assert.ok(!run.gaveUp.includes(true))
          for (const blamed of run.blamed) assert.ok(blamed === 'p0' || blamed === 'p1')
        },
      ),
      { numRuns: 60, seed: 20_261 },
    )
  })

  it('names the neighbour that sends wrong bytes', () => {
    const run = runVirtual({ peers: 4, blobBytes: BLOB, seed: 3, liars: [2] })
    assert.deepEqual([...run.blamed], ['p2'])
  })

  it('gives up within bounded time when the origin fails and nobody has the blob', () => {
    const run = runVirtual({ peers: 3, blobBytes: BLOB, seed: 5, originFails: () => true })
    assert.deepEqual(run.gaveUp, [true, true, true])
  })

  it('rides out an origin that fails for a while', () => {
    const run = runVirtual({ peers: 3, blobBytes: BLOB, seed: 6, originFails: now => now > 100 && now < 500 })
    assert.ok(run.doneAt.every(at => at !== undefined))
  })
})

describe('a download session', () => {
  it('holds nothing against a neighbour that it left while an answer was under way', () => {
    const layout = chunkLayout(BLOB)
    const session = new DownloadSession({
      layout,
      held: new Bitfield(layout.count),
      trusted: new Bitfield(layout.count),
      random: () => 0.5,
      now: 0,
      schedulerUp: true,
    })
    const hash = new Uint8Array(32).fill(7)
    session.neighbourUp('n')
    session.neighbourHas('n', 3, hash)
    session.neighboursChanged(0)
    assert.deepEqual(
      session.takeEffects().filter(({ type }) => type === 'request'),
      [{ type: 'request', neighbour: 'n', chunk: 3 }],
    )
    session.neighbourDown('n', undefined, 1)
    assert.equal(session.chunkFromNeighbour('n', 3, hash, 2), 'wrong')
    const effects = session.takeEffects()
    assert.ok(effects.some(({ type }) => type === 'cancel'))
    assert.ok(!effects.some(({ type }) => type === 'blame'))
  })

  it('blames nobody and gives up nothing while its own limits hold bytes back', () => {
    const layout = chunkLayout(BLOB)
    const start = () => {
      const session = new DownloadSession({
        layout,
        held: new Bitfield(layout.count),
        trusted: new Bitfield(layout.count),
        random: () => 0.5,
        now: 0,
        schedulerUp: true,
      })
      session.schedulerAnswered(0)
      for (const id of ['slow', 'idle']) {
        session.neighbourUp(id)
        for (let chunk = 0; chunk < layout.count; chunk++) {
          session.neighbourHas(id, chunk, new Uint8Array(32).fill(chunk))
        }
      }
      session.readerAdded(1, 0, layout.count, false, 0)
      session.takeEffects()
      return session
    }
    const typesAfter = (session: DownloadSession, seconds: number, heldBack: boolean) => {
      for (let ms = 100; ms <= seconds * 1000; ms += 100) session.tick(ms, heldBack)
      return new Set(session.takeEffects().map(({ type }) => type))
    }
    assert.deepEqual([...typesAfter(start(), 120, true)], [])
    assert.ok(typesAfter(start(), 10, false).has('fetch-origin'))
    assert.ok(typesAfter(start(), 120, false).has('give-up'))
  })
})
