import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { seededRandom } from '@darter/runtime'
import { type Registry, requirePrograms, startRegistry, until, useLab } from '@darter/testing'
import { type Peer, type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { noiseImage } from '../harness/images.ts'
import { isBlobGet, type Meter, type MeteredRequest, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'
import { abortRange, blobUrl, firstLayer, type Layer, readRange, type Wanted } from '../harness/ranges.ts'

const KIB = 1024
const MIB = 1024 * KIB
const REPOSITORY = 'library/lazy'
const READ = 700 * KIB
const NO_PREFETCH = ['--no-prefetch']

/** Ranges of 128 KiB to 1 MiB anywhere in a blob. */
function scattered(
  size: number,
  count: number,
  seed: number,
): { readonly from: number; readonly to: number }[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, () => {
    const length = 128 * KIB + Math.floor(random() * 896 * KIB)
    const from = Math.floor(random() * (size - length))
    return { from, to: from + length }
  })
}

describe('ranges', requirePrograms(['docker-registry']), () => {
  const lab = useLab('ranges')
  let registry: Registry
  let meter: Meter
  let scheduler: Scheduler
  let upstreams: readonly string[]
  let blobs = 0

  before(async () => {
    registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    upstreams = [upstreamAt(meter.address)]
    scheduler = await startScheduler(lab)
  })

  /** A blob that no peer has heard of. */
  const newLayer = async (size: number): Promise<Layer> => {
    const name = `lazy-${++blobs}`
    const image = noiseImage(lab.makeDir(name), name, [size])
    await pushImage(registry.url, REPOSITORY, name, image)
    meter.reset()
    return firstLayer(image)
  }
  const newPeer = (name: string, args: readonly string[]): Promise<Peer> =>
    startPeer(lab, { name, upstreams, scheduler, args })
  const urlAt = (peer: Peer, layer: Layer): string => blobUrl(peer.mirror, REPOSITORY, layer.digest)
  const originBytes = (): number => meter.bodyBytes(isBlobGet)

  test('many at once on a blob that nobody holds, by four peers: only what was asked for comes from the origin', async context => {
    const layer = await newLayer(96 * MIB + 4321)
    const size = layer.bytes.length
    const peers = await Promise.all(['a', 'b', 'c', 'd'].map(name => newPeer(`cold-${name}`, NO_PREFETCH)))
    let asked = 0
    const read = async (peer: Peer, wanted: Wanted): Promise<void> => {
      await readRange(urlAt(peer, layer), layer.bytes, wanted)
      asked += wanted.from < 0 ? -wanted.from : (wanted.to ?? size) - wanted.from
    }
    await Promise.all(
      peers.map(async (peer, index) => {
        const ranges: Wanted[] = [
          ...scattered(size, 12, index),
          { from: -70_000 },
          { from: size - 300_001 },
          { from: size - 1 },
          { from: 0, to: 1 },
          // Over the borders of several chunks, and overlapping each other.
          { from: 3 * MIB - 5, to: 6 * MIB + 5 },
          { from: 4 * MIB, to: 7 * MIB },
        ]
        await Promise.all(ranges.map(range => read(peer, range)))
      }),
    )
    const cold = originBytes()
    context.diagnostic(`${(cold / asked).toFixed(2)} origin bytes for each byte that was asked for`)
    assert(cold < 1.5 * asked, `${cold} bytes came from the origin for ${asked}`)
    await Promise.all(
      peers.map(peer =>
        Promise.all(scattered(size, 12, peers.indexOf(peer)).map(range => read(peer, range))),
      ),
    )
    assert.equal(originBytes(), cold, 'what was read once is there')
  })

  test('ranges that follow each other make whole chunks, which others get when the list is known', async context => {
    const layer = await newLayer(24 * MIB)
    const [reader, holder] = [await newPeer('reader', NO_PREFETCH), await newPeer('holder', NO_PREFETCH)]
    const random = seededRandom(3)
    let asked = 0
    for (let from = 0; from < 12 * MIB; ) {
      const to = Math.min(12 * MIB, from + 128 * KIB + Math.floor(random() * 896 * KIB))
      await readRange(urlAt(reader, layer), layer.bytes, { from, to })
      asked += to - from
      from = to
    }
    assert(originBytes() < 1.6 * asked, `${originBytes()} bytes came from the origin for ${asked}`)
    // Who reads all of it makes the list known; the chunks that the ranges made need not come from the origin.
    meter.reset()
    const whole = await fetch(urlAt(holder, layer))
    assert(Buffer.from(await whole.arrayBuffer()).equals(layer.bytes))
    context.diagnostic(
      `${Math.round(originBytes() / MIB)} MiB for a reader of all ${layer.bytes.length / MIB} MiB`,
    )
    assert(originBytes() < 15 * MIB, `${originBytes()} bytes came from the origin`)
    meter.reset()
    for (const range of scattered(layer.bytes.length, 20, 9))
      await readRange(urlAt(reader, layer), layer.bytes, range)
    assert.equal(originBytes(), 0, 'a neighbour has it')
  })

  test('a range that a neighbour holds comes from there, soon', async context => {
    const layer = await newLayer(128 * MIB)
    const holder = await newPeer('neighbour', NO_PREFETCH)
    await (await fetch(urlAt(holder, layer))).arrayBuffer()
    const reader = await newPeer('next-door', NO_PREFETCH)
    meter.reset()
    const times: number[] = []
    for (let from = 0; from < layer.bytes.length; from += 2 * MIB) {
      times.push(await readRange(urlAt(reader, layer), layer.bytes, { from, to: from + MIB }))
    }
    times.sort((a, b) => a - b)
    context.diagnostic(
      `p50 ${times[times.length >> 1]?.toFixed(1)} ms, slowest ${times.at(-1)?.toFixed(1)} ms`,
    )
    assert.equal(originBytes(), 0)
  })

  test('ranges that are aborted keep nothing going, and harm no others', async () => {
    const layer = await newLayer(96 * MIB)
    const peer = await newPeer('aborting', NO_PREFETCH)
    const url = urlAt(peer, layer)
    meter.setRate(16 * MIB)
    await Promise.all([
      abortRange(url, { from: 1000 }, 1 * MIB),
      abortRange(url, { from: 20 * MIB, to: 60 * MIB }, 300_000),
      abortRange(url, { from: 22 * MIB, to: 50 * MIB }, 10),
      readRange(url, layer.bytes, { from: 22 * MIB + 7, to: 25 * MIB }),
    ])
    let before = -1
    const isStill = (): boolean => {
      const last = before
      before = originBytes()
      return before === last
    }
    await until('nothing comes any more', isStill, { everyMs: 300 })
    meter.setRate(undefined)
    assert(originBytes() < 48 * MIB, `${originBytes()} bytes were read for ranges that nobody waited for`)
    assert.equal(await peer.metric('darter_downloads'), 1, 'it is ready for the next range')
    await Promise.all(scattered(layer.bytes.length, 24, 5).map(range => readRange(url, layer.bytes, range)))
  })

  test('the rest is fetched in the background once enough was read, and then for all', async () => {
    const layer = await newLayer(48 * MIB)
    const peer = await newPeer('prefetching', ['--prefetch-threshold', '5%'])
    const url = urlAt(peer, layer)
    await readRange(url, layer.bytes, { from: 5 * MIB, to: 6 * MIB })
    assert(originBytes() < 2 * MIB)
    await readRange(url, layer.bytes, { from: 15 * MIB, to: 17 * MIB })
    await until('all of it is there', async () => (await peer.metric('darter_downloads')) === 0, {
      timeoutMs: 30_000,
    })
    assert(originBytes() < 54 * MIB, `${originBytes()} bytes came from the origin`)
    const other = await newPeer('other', NO_PREFETCH)
    meter.reset()
    const ranges = [{ from: -MIB }, { from: 0, to: MIB }, ...scattered(layer.bytes.length, 10, 1)]
    await Promise.all(ranges.map(range => readRange(urlAt(other, layer), layer.bytes, range)))
    assert.equal(originBytes(), 0, 'the digest was right: the chunk list is known to all')
  })

  test('the background keeps to its rate', async () => {
    const layer = await newLayer(64 * MIB)
    const args = ['--prefetch-threshold', '1%', '--prefetch-rate', '4MiB']
    const peer = await newPeer('slow-background', args)
    const begun = performance.now()
    await readRange(urlAt(peer, layer), layer.bytes, { from: 0, to: 2 * MIB })
    const enough = () => originBytes() > 16 * MIB
    await until('some of the rest has come', enough, { timeoutMs: 30_000 })
    const seconds = (performance.now() - begun) / 1000
    // What was asked for, and a burst of a chunk, come at once.
    const most = 2 + 4 + 1 + 4 * seconds
    assert(originBytes() / MIB < most, `${originBytes() / MIB} MiB in ${seconds.toFixed(1)} s`)
    const asked = meter.requests.filter(isBlobGet).map(({ range = '' }) => range)
    const spans = asked.map(range => /^bytes=(\d+)-(\d+)$/.exec(range)?.slice(1).map(Number) ?? [])
    const inOrder = spans.toSorted(([a = 0], [b = 0]) => a - b)
    // Neither what the reader was being sent nor anything else came twice.
    for (const [index, [from = 0]] of inOrder.entries())
      assert(index === 0 || from > (inOrder[index - 1]?.[1] ?? 0), asked.join(' '))
  })

  for (const count of [1, 2]) {
    test(`all of a blob, by ${count} at once, each with eight ranges at a time: no byte is read twice for one peer`, async context => {
      const layer = await newLayer(32 * MIB + 777)
      const size = layer.bytes.length
      const peers = await Promise.all(
        Array.from({ length: count }, (_, i) => newPeer(`all-${count}-${i}`, NO_PREFETCH)),
      )
      // As nydusd reads when it fetches an image ahead: pieces that end within chunks.
      const pieces = Array.from({ length: Math.ceil(size / READ) }, (_, i) => ({
        from: i * READ,
        to: Math.min(size, (i + 1) * READ),
      }))
      meter.setRate(40 * MIB)
      await Promise.all(
        peers.map(async peer => {
          const left = pieces.values()
          const reader = async () => {
            for (const range of left) await readRange(urlAt(peer, layer), layer.bytes, range)
          }
          await Promise.all(Array.from({ length: 8 }, reader))
        }),
      )
      meter.setRate(undefined)
      const isOfLayer = (request: MeteredRequest) => isBlobGet(request) && request.path.includes(layer.digest)
      const times = meter.bodyBytes(isOfLayer) / size
      // Before anybody has read the whole blob, nobody's bytes are good for a range of someone else's.
      context.diagnostic(`the origin was read ${times.toFixed(3)} times`)
      assert(times <= count * 1.01, `the origin was read ${times.toFixed(3)} times`)
    })
  }

  test('an origin that ignores ranges is read once, whatever is asked for', async () => {
    const layer = await newLayer(8 * MIB)
    const peer = await newPeer('ignored', NO_PREFETCH)
    meter.setFault(request => (isBlobGet(request) ? { kind: 'ignore-range' } : undefined))
    await Promise.all(
      scattered(layer.bytes.length, 8, 2).map(range => readRange(urlAt(peer, layer), layer.bytes, range)),
    )
    meter.setFault(undefined)
  })

  test('what ranges brought is there after kill -9 and after an orderly stop', async context => {
    const layer = await newLayer(64 * MIB)
    const peer = await newPeer('remembering', NO_PREFETCH)
    const url = urlAt(peer, layer)
    const readAll = async (): Promise<number> => {
      const before = originBytes()
      for (const range of [...scattered(layer.bytes.length, 16, 21), { from: 9 * MIB, to: 13 * MIB }])
        await readRange(url, layer.bytes, range)
      return originBytes() - before
    }
    meter.setRate(8 * MIB)
    const cold = await readAll()
    await peer.restart('SIGKILL')
    const killed = await readAll()
    meter.setRate(undefined)
    context.diagnostic(
      `${(cold / MIB).toFixed(1)} MiB were read, and ${(killed / MIB).toFixed(1)} MiB again after the kill`,
    )
    // Whole chunks are indexed a little later than blocks.
    assert(killed < cold / 3, `${killed} of ${cold} bytes came from the origin again`)
    for (const signal of [undefined, 'SIGKILL'] as const) {
      await peer.restart(signal)
      assert.equal(await readAll(), 0, `something was lost by ${signal ?? 'an orderly stop'}`)
    }
  })

  test('kill -9 and restart in the middle of reads: no wrong byte, and connections are refused for a moment only', async context => {
    const layer = await newLayer(64 * MIB)
    const peer = await newPeer('killed', NO_PREFETCH)
    const url = urlAt(peer, layer)
    const [host = '', port = ''] = peer.mirror.address.split(':')
    const isRefused = () =>
      new Promise<boolean>(resolve => {
        const socket = connect(Number(port), host)
        const settle = (refused: boolean) => {
          socket.destroy()
          resolve(refused)
        }
        socket.once('connect', () => settle(false)).once('error', () => settle(true))
      })
    let refusedMs = 0
    let isOver = false
    const watch = async () => {
      let since: number | undefined
      while (!isOver) {
        if (!(await isRefused())) since = undefined
        else refusedMs = Math.max(refusedMs, performance.now() - (since ??= performance.now()))
        await delay(5)
      }
    }
    let read = 0
    let failures = 0
    const reader = async (seed: number) => {
      for (const range of scattered(layer.bytes.length, 40, seed)) {
        for (;;) {
          try {
            await readRange(url, layer.bytes, range)
            break
          } catch (error) {
            // Cut or refused; bytes that came are compared all the same.
            if (error instanceof assert.AssertionError) throw error
            failures++
            await delay(20)
          }
        }
        read++
      }
    }
    meter.setRate(24 * MIB)
    const watching = watch()
    const reading = Promise.all([11, 12, 13, 14].map(reader))
    for (const count of [20, 80]) {
      await until(`${count} ranges were read`, () => read >= count, { everyMs: 5, timeoutMs: 60_000 })
      await peer.restart('SIGKILL')
    }
    await reading
    meter.setRate(undefined)
    isOver = true
    await watching
    context.diagnostic(
      `refused for ${Math.round(refusedMs)} ms at most; ${failures} reads had to be asked for again; ` +
        `${Math.round(originBytes() / MIB)} MiB came from the origin for a blob of 64 MiB`,
    )
    assert(failures > 0, 'the kills met nobody')
    assert(originBytes() < 72 * MIB, 'what was kept before a kill came from the origin again')
    assert(refusedMs < 5000)
  })
})
