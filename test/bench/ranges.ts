import { join } from 'node:path'
import { seededRandom } from '@darter/runtime'
import { type Lab, startRegistry } from '@darter/testing'
import { type Peer, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { isBlobGet, startMeter } from '../harness/meter.ts'
import { blobUrl, fetchRange } from '../harness/ranges.ts'
import { type Blob, makeBlob, plantBlob } from './blob.ts'
import { cpuSeconds, machine, MIB, progress, round } from './measure.ts'
import { discard } from './raw-client.ts'

const REPOSITORY = 'bench/ranges'
/** The lengths of nydusd's reads. */
const MIN_RANGE = 128 * 1024
const MAX_RANGE = MIB
const NEIGHBOUR_RANGES = 100

interface Span {
  readonly from: number
  readonly to: number
}

/** Random ranges that add up to `bytes`. */
function sparseRanges(size: number, bytes: number, seed: number): Span[] {
  const random = seededRandom(seed)
  const spans: Span[] = []
  for (let left = bytes; left > 0; ) {
    const wanted = MIN_RANGE + Math.floor(random() * (MAX_RANGE - MIN_RANGE + 1))
    const length = Math.min(wanted, Math.max(left, MIN_RANGE))
    const from = Math.floor(random() * (size - length))
    spans.push({ from, to: from + length })
    left -= length
  }
  return spans
}

function bytesOf(spans: readonly Span[]): number {
  return spans.reduce((sum, { from, to }) => sum + to - from, 0)
}

/** The value that a part of all does not exceed. */
function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN
}

/** Reads ranges one after another; how long each took, ms. */
async function readAll(peer: Peer, blob: Blob, spans: readonly Span[]): Promise<number[]> {
  const url = blobUrl(peer.mirror, REPOSITORY, blob.digest)
  const times: number[] = []
  for (const { from, to } of spans) {
    const begun = performance.now()
    const bytes = await fetchRange(url, `bytes=${from}-${to - 1}`)
    times.push(performance.now() - begun)
    if (bytes.length !== to - from) throw new Error(`${bytes.length} bytes came for ${to - from}`)
  }
  return times
}

/**
 * A part of a blob that nobody holds, in random ranges, by several peers at once, each of which reads ranges of its own one after
 * another: what the origin sends for that, and how long a range takes; then the same ranges again. After that ranges of 1 MiB
 * by a peer whose neighbour holds the blob.
 */
export async function measureRanges(
  lab: Lab,
  options: { readonly size: number; readonly peers: number; readonly percent: number },
) {
  const { size, peers: count, percent } = options
  progress(`making ${size} bytes`)
  const blob = makeBlob(join(lab.dir, 'blob'), size)
  const registry = await startRegistry(lab)
  plantBlob(registry, REPOSITORY, blob)
  const meter = await startMeter(lab, registry.address)
  const scheduler = await startScheduler(lab)
  const upstreams = [upstreamAt(meter.address)]
  const start = (name: string) => startPeer(lab, { name, upstreams, scheduler })
  const peers = await Promise.all(Array.from({ length: count }, (_, i) => start(`peer-${i + 1}`)))
  const spans = peers.map((_, i) => sparseRanges(size, Math.floor((size * percent) / 100), i + 1))
  const asked = spans.reduce((sum, each) => sum + bytesOf(each), 0)
  const before = machine()

  progress(`${count} peers read ${Math.round(asked / count / MIB)} MiB each`)
  const pass = async () => (await Promise.all(peers.map((peer, i) => readAll(peer, blob, spans[i]!)))).flat()
  const cold = await pass()
  const originBytes = meter.bodyBytes(isBlobGet)
  const originRequests = meter.requests.filter(isBlobGet).length
  meter.reset()
  const warm = await pass()
  const warmOriginBytes = meter.bodyBytes(isBlobGet)
  await Promise.all(peers.map(peer => peer.daemon.stop()))

  progress('one more reads all of it, for the next one to read from')
  const holder = await start('holder')
  await discard(new URL(blobUrl(holder.mirror, REPOSITORY, blob.digest)))
  const reader = await start('reader')
  meter.reset()
  const random = seededRandom(99)
  const cpu = () => cpuSeconds(holder.daemon.pid) + cpuSeconds(reader.daemon.pid)
  const cpuBefore = cpu()
  const neighbour = await readAll(
    reader,
    blob,
    Array.from({ length: NEIGHBOUR_RANGES }, () => {
      const from = Math.floor(random() * (size - MIB))
      return { from, to: from + MIB }
    }),
  )
  const neighbourCpu = cpu() - cpuBefore
  return {
    bench: 'ranges',
    bytes: size,
    peers: count,
    percent,
    ranges: cold.length,
    requestedBytes: asked,
    originBytes,
    originRequests,
    originOverRequested: round(originBytes / asked),
    coldP50Ms: round(percentile(cold, 0.5)),
    coldP99Ms: round(percentile(cold, 0.99)),
    warmP50Ms: round(percentile(warm, 0.5)),
    warmP99Ms: round(percentile(warm, 0.99)),
    warmOriginBytes,
    neighbourP50Ms: round(percentile(neighbour, 0.5)),
    neighbourP99Ms: round(percentile(neighbour, 0.99)),
    neighbourCpuMs: round((neighbourCpu * 1000) / NEIGHBOUR_RANGES),
    neighbourOriginBytes: meter.bodyBytes(isBlobGet),
    machine: { ...before, loadAfter: machine().load },
  }
}
