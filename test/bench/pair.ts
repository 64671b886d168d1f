import { existsSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { digestHex } from '@darter/oci'
import { type Lab, run, startRegistry, until } from '@darter/testing'
import { type Darter, type Peer, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { type Blob, makeBlob, plantBlob } from './blob.ts'
import {
  cpuSeconds,
  machine,
  pairedRatio,
  progress,
  round,
  type Sample,
  summarize,
  takeLoopP99,
} from './measure.ts'
import { askWithoutReading, discard } from './raw-client.ts'

const REPOSITORY = 'bench/pair'
const PROGRAM = join(import.meta.dirname, 'tls-program.ts')
const TRANSFER_MS = 300_000
const BLOCK_BYTES = 512

function blobUrl(peer: Peer, blob: Blob): URL {
  return new URL(`http://${peer.mirror.address}/v2/${peer.mirror.prefix}${REPOSITORY}/blobs/${blob.digest}`)
}

/** How many bytes of a file have arrived, whatever their order. Asking costs the program that writes it nothing. */
function allocated(file: string): number {
  return existsSync(file) ? statSync(file).blocks * BLOCK_BYTES : 0
}

interface PairSample extends Sample {
  readonly loopP99Ms: { readonly sender: number; readonly receiver: number }
  readonly originBytes: number
}

/**
 * Brings a blob from `sender`, who has all of it, to a new peer. A client asks that peer for the blob without reading
 * it, so that the time is the swarm's and not the door's. It is over when the blob is verified and synced to disk.
 */
async function moveByDarter(sender: Darter, receiver: Peer, blob: Blob): Promise<PairSample> {
  const url = blobUrl(receiver, blob)
  const hex = digestHex(blob.digest)
  const file = join(receiver.dataDir, 'store', 'blobs', hex.slice(0, 2), `sha256-${hex}`)
  const cpu = () => cpuSeconds(sender.daemon.pid) + cpuSeconds(receiver.daemon.pid)
  await Promise.all([takeLoopP99(sender), takeLoopP99(receiver)])
  const cpuBefore = cpu()
  const started = performance.now()
  const leave = askWithoutReading(url)
  try {
    // Past nine tenths a download goes on to its end without a caller.
    const most = async () => allocated(file) > 0.95 * blob.size
    await until('most of the blob has arrived', most, { timeoutMs: TRANSFER_MS, everyMs: 10 })
  } finally {
    leave()
  }
  const over = async () => (await receiver.metric('darter_downloads')) === 0
  const p99 = await Promise.all([takeLoopP99(sender), takeLoopP99(receiver)])
  await until('the download is over', over, { timeoutMs: TRANSFER_MS, everyMs: 15 })
  // The next caller is answered when the last download has left nothing unwritten.
  const next = await fetch(url, { headers: { range: 'bytes=0-0' } })
  await next.arrayBuffer()
  const seconds = (performance.now() - started) / 1000
  if (next.status !== 206) throw new Error(`the blob is not there: ${next.status}`)
  const used = cpu() - cpuBefore
  const originBytes = await receiver.metric('darter_received_bytes_total', { source: 'origin' })
  return {
    bytes: blob.size,
    seconds,
    cpuSeconds: used,
    loopP99Ms: { sender: round(p99[0]), receiver: round(p99[1]) },
    originBytes,
  }
}

async function makeCertificate(dir: string): Promise<{ readonly cert: string; readonly key: string }> {
  const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')]
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert],
  ])
  return { cert, key }
}

function nameOf(index: number): string {
  return index < 0 ? 'warm-up' : `round ${index + 1}`
}

/** The same by two programs that can do nothing else. */
async function moveByTls(lab: Lab, name: string, blob: Blob): Promise<Sample> {
  const dir = lab.makeDir(name)
  const { cert, key } = await makeCertificate(dir)
  const start = (role: string, args: readonly string[]) =>
    lab.start({
      name: `${name}-${role}`,
      command: process.execPath,
      args: [PROGRAM, role, ...args],
      ready: daemon => daemon.stdout().endsWith('\n'),
    })
  const sender = await start('send', [cert, key, blob.path])
  const target = join(dir, 'received')
  const receiver = await start('receive', [cert, sender.stdout().trim(), target, String(blob.size)])
  const cpu = () => cpuSeconds(sender.pid) + cpuSeconds(receiver.pid)
  const cpuBefore = cpu()
  process.kill(receiver.pid, 'SIGUSR2')
  const said = await until(
    'the file has arrived',
    () => {
      if (receiver.ended !== undefined) throw new Error(`the receiver ended:\n${receiver.stderr()}`)
      return receiver
        .stdout()
        .split('\n')
        .find(line => line.endsWith('}'))
    },
    { timeoutMs: TRANSFER_MS },
  )
  const used = cpu() - cpuBefore
  await Promise.all([sender.stop(), receiver.stop()])
  rmSync(dir, { recursive: true })
  const { seconds, digest } = JSON.parse(said) as { readonly seconds: number; readonly digest: string }
  if (digest !== blob.digest) throw new Error(`the TLS program received ${digest}`)
  return { bytes: blob.size, seconds, cpuSeconds: used }
}

/**
 * A blob from peer process to peer process, against the leanest node:tls program, in turns. The first peer holds it in
 * the page cache; the second one is new in each round.
 */
export async function measurePair(lab: Lab, options: { readonly size: number; readonly rounds: number }) {
  const { size, rounds } = options
  progress(`making ${size} bytes`)
  const blob = makeBlob(join(lab.dir, 'blob'), size)
  const registry = await startRegistry(lab)
  plantBlob(registry, REPOSITORY, blob)
  const scheduler = await startScheduler(lab)
  const upstreams = [upstreamAt(registry.address)]
  const sender = await startPeer(lab, { name: 'sender', upstreams, scheduler })
  await discard(blobUrl(sender, blob))
  const ours: PairSample[] = []
  const tls: Sample[] = []
  const byDarter = async (i: number) => {
    const receiver = await startPeer(lab, { name: `receiver-${i}`, upstreams, scheduler })
    const sample = await moveByDarter(sender, receiver, blob)
    if (i >= 0) ours.push(sample)
    progress(`${nameOf(i)}: darter ${sample.seconds.toFixed(2)} s, ${sample.cpuSeconds.toFixed(2)} CPU s`)
    await receiver.daemon.stop()
    rmSync(receiver.dataDir, { recursive: true })
  }
  const byTls = async (i: number) => {
    const sample = await moveByTls(lab, `tls-${i}`, blob)
    if (i >= 0) tls.push(sample)
    progress(`${nameOf(i)}: node:tls ${sample.seconds.toFixed(2)} s, ${sample.cpuSeconds.toFixed(2)} CPU s`)
  }
  const before = machine()
  // The first file of all touches memory that the machine has not used yet, which can cost a second: nobody's round.
  for (let i = -1; i < rounds; i++) {
    // Whoever is second finds the machine as the first one left it, so they take turns at that too.
    for (const move of i % 2 === 0 ? [byDarter, byTls] : [byTls, byDarter]) {
      await move(i)
      await delay(200)
    }
  }
  return {
    bench: 'pair',
    bytes: size,
    rounds,
    throughputRatio: pairedRatio(ours, tls, rates => rates.mibPerSecond),
    cpuRatio: pairedRatio(ours, tls, rates => rates.cpuSecondsPerGiB),
    darter: {
      ...summarize(ours),
      originBytes: Math.max(...ours.map(sample => sample.originBytes)),
      loopP99Ms: {
        sender: Math.max(...ours.map(sample => sample.loopP99Ms.sender)),
        receiver: Math.max(...ours.map(sample => sample.loopP99Ms.receiver)),
      },
    },
    nodeTls: summarize(tls),
    samples: { darter: ours, nodeTls: tls },
    machine: { ...before, loadAfter: machine().load },
  }
}
