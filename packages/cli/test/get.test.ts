import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseDigest } from '@darter/oci'
import { GetDigestError, GetInterruptedError, GetRefusedError } from '../src/get/errors.ts'
import { fetchInto } from '../src/get/fetch.ts'
import type { PartIdentity, Sink } from '../src/get/part-file.ts'
import { createSpeedometer, formatSeconds, NO_PROGRESS, peerShare } from '../src/get/progress.ts'
import type { Opened, Source } from '../src/get/source.ts'
import { isThere } from '../src/get/to-file.ts'

const MIB = 1024 * 1024
const content = Buffer.alloc(3 * MIB, 'some content, again and again. ')
const digest = parseDigest(`sha256:${createHash('sha256').update(content).digest('hex')}`)

/** A sink in memory, with what an earlier run left. */
function memory(left: Uint8Array = new Uint8Array(), identity?: PartIdentity) {
  let bytes = Buffer.from(left)
  const begun: (PartIdentity | undefined)[] = []
  const sink: Sink = {
    length: bytes.length,
    identity,
    read: async function* (from, to) {
      yield bytes.subarray(from, to)
    },
    write: async (piece, position) => {
      assert(position <= bytes.length, 'a gap')
      bytes = Buffer.concat([bytes.subarray(0, position), piece, bytes.subarray(position + piece.length)])
    },
    begin: async next => {
      bytes = Buffer.alloc(0)
      begun.push(next)
    },
  }
  return { sink, begun, bytes: () => bytes }
}

/** A source of the content that breaks off after so many bytes, once for each number. */
function source(cuts: number[] = [], etag: string | undefined = '"v1"') {
  const asked: number[] = []
  const made: Source = {
    open: async (from, validator): Promise<Opened> => {
      asked.push(from)
      const at = validator !== undefined && validator === etag ? from : 0
      const cut = cuts.shift()
      return {
        from: at,
        size: content.length,
        etag,
        modified: undefined,
        digest: undefined,
        body: (async function* () {
          for (let position = at; position < content.length; position += 100_000) {
            if (cut !== undefined && position - at >= cut) throw new Error('cut')
            yield content.subarray(position, position + 100_000)
          }
        })(),
        shares: async () => undefined,
      }
    },
    close: async () => {},
  }
  return { source: made, asked }
}

const fetchContent = (from: Source, sink: Sink, wanted = digest, signal = AbortSignal.timeout(20_000)) =>
  fetchInto({
    source: from,
    sink,
    sourceId: 'here',
    wanted,
    progress: NO_PROGRESS,
    signal,
  })

test('content that breaks off is gone on with where it was', async () => {
  const { source: from, asked } = source([500_000, 1_000_000])
  const { sink, bytes } = memory()
  const fetched = await fetchContent(from, sink)
  assert.deepEqual(asked, [0, 500_000, 1_500_000])
  assert(bytes().equals(content))
  assert.equal(fetched.digest, digest)
  assert.equal(fetched.kept, 0)
})

test('content that is shorter than what has come of it starts anew, a few times', async () => {
  const { source: from, asked } = source([500_000])
  const beyond = (times: number): Source => ({
    ...from,
    open: async (at, validator, signal) => {
      if (at > 0 && times-- > 0) {
        asked.push(at)
        return 'beyond'
      }
      return from.open(at, validator, signal)
    },
  })
  const { sink, bytes } = memory()
  await fetchContent(beyond(1), sink)
  assert.deepEqual(asked, [0, 500_000, 0])
  assert(bytes().equals(content))

  const always: Source = {
    ...from,
    open: async (at, ...rest) => (at > 0 ? 'beyond' : source([500_000]).source.open(at, ...rest)),
  }
  await assert.rejects(fetchContent(always, memory().sink), GetInterruptedError)
})

test('the hashing of what an earlier run left ends with the signal', async () => {
  const identity = {
    source: 'here',
    etag: '"v1"',
    modified: undefined,
    digest: undefined,
    size: content.length,
  }
  const stopping = new AbortController()
  let pieces = 0
  const { sink } = memory(content.subarray(0, 2 * MIB), identity)
  const slow: Sink = {
    ...sink,
    read: async function* (from, to) {
      for (let at = from; at < to; at += 1000) {
        if (++pieces === 3) stopping.abort(new Error('enough'))
        yield content.subarray(at, Math.min(to, at + 1000))
      }
    },
  }
  const fetched = fetchContent(source().source, slow, digest, stopping.signal)
  await assert.rejects(fetched, { message: 'enough' })
  assert.equal(pieces, 3)
})

test('a file is there when it has the bytes of a digest, and is not read once the signal has aborted', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'darter-there-'))
  t.after(() => rm(dir, { recursive: true }))
  const file = join(dir, 'file')
  const never = new AbortController().signal
  assert(!(await isThere(file, digest, content.length, never)))
  await writeFile(file, content)
  assert(await isThere(file, digest, content.length, never))
  assert(!(await isThere(file, digest, content.length - 1, never)))
  await assert.rejects(isThere(file, digest, content.length, AbortSignal.abort()), { name: 'AbortError' })
  await writeFile(file, content.toReversed())
  assert(!(await isThere(file, digest, content.length, never)))
})

test('without a validator it starts anew, and gives up when nothing comes', async () => {
  const { source: from, asked } = source([500_000], '')
  const { sink, bytes } = memory()
  await fetchContent(from, sink)
  assert.equal(asked.length, 2)
  assert(bytes().equals(content))
  await assert.rejects(fetchContent(source([0, 0, 0, 0, 0]).source, memory().sink), GetInterruptedError)
})

test('what an earlier run left is gone on with if its end is the same, and else fetched again', async () => {
  const identity = {
    source: 'here',
    etag: '"v1"',
    modified: undefined,
    digest: undefined,
    size: content.length,
  }
  const left = content.subarray(0, 2 * MIB)
  const good = memory(left, identity)
  const resumed = source()
  assert.equal((await fetchContent(resumed.source, good.sink)).kept, MIB)
  assert.deepEqual(resumed.asked, [MIB])
  assert.deepEqual(good.begun, [])
  assert(good.bytes().equals(content))

  const torn = Buffer.concat([content.subarray(0, 2 * MIB - 10), Buffer.alloc(10)])
  const early = Buffer.concat([Buffer.alloc(10), content.subarray(10, 2 * MIB)])
  for (const [bytes, of, asked] of [
    [torn, identity, [MIB, 0]],
    [early, identity, [MIB, 0]],
    [left, { ...identity, etag: '"v0"' }, [MIB]],
    [left, { ...identity, source: 'elsewhere' }, [0]],
  ] as const) {
    const bad = memory(bytes, of)
    const again = source()
    assert.equal((await fetchContent(again.source, bad.sink)).kept, 0)
    assert.deepEqual(again.asked, asked)
    assert(bad.bytes().equals(content))
  }
})

test('another digest, and a refusal, end it', async () => {
  const wrong = parseDigest(`sha256:${'0'.repeat(64)}`)
  await assert.rejects(fetchContent(source().source, memory().sink, wrong), GetDigestError)
  let asked = 0
  const refusing = (transient: boolean): Source => ({
    open: async () => {
      asked++
      throw new GetRefusedError('no', transient)
    },
    close: async () => {},
  })
  await assert.rejects(fetchContent(refusing(false), memory().sink), GetRefusedError)
  assert.equal(asked, 1)
  await assert.rejects(fetchContent(refusing(true), memory().sink), GetRefusedError)
  assert(asked > 2)
})

test('speed is that of the last seconds, and times are for people', () => {
  let now = 0
  const meter = createSpeedometer(() => now)
  assert.equal(meter.add(0), 0)
  for (now = 1000; now <= 20_000; now += 1000) meter.add(now < 15_000 ? now : 15_000)
  assert.equal(meter.add(15_000), 0)
  now = 22_000
  assert.equal(Math.round(meter.add(22_000)), 1400)
  assert.deepEqual([5, 65, 3725, Number.NaN, Infinity].map(formatSeconds), [
    '0:05',
    '1:05',
    '1:02:05',
    '-',
    '-',
  ])
  assert.equal(peerShare({ fromDisk: 1, fromPeers: 2, fromOrigin: 1 }), '50%')
  assert.equal(peerShare({ fromDisk: 0, fromPeers: 0, fromOrigin: 0 }), '-')
})
