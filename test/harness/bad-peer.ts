import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import {
  createExchange,
  type Link,
  loadClusterKey,
  loadOrCreateIdentity,
  type ServedChunk,
} from '@darter/exchange'
import { parseDigest } from '@darter/oci'
import { createLogger, systemClock } from '@darter/runtime'
import { Bitfield, chunkLayout } from '@darter/swarm'

/** What a bad peer does with a request for a chunk. */
export type Misdeed =
  /** Tells the true hashes and sends other bytes. */
  | 'wrong-bytes'
  /** Tells the hashes of the wrong bytes that it sends: only the whole blob's digest shows it. */
  | 'wrong-hashes'
  /** Accepts the request, sends some bytes and then nothing. */
  | 'stalls'
  /** Dies in the middle of the third chunk. */
  | 'vanishes'

/** Slots that it has open at a time. */
const SLOTS = 16

/** The only argument of this program, as JSON. */
export interface BadPeerOptions {
  readonly misdeed: Misdeed
  readonly schedulerAddress: string
  readonly clusterKeyFile: string
  readonly identityFile: string
  /** The blob that it claims to hold whole. */
  readonly digest: string
  readonly blobFile: string
}

/*
 * A member of the cluster that misbehaves, made of the exchange that real peers use. Prints its peer id when the
 * scheduler has admitted it, and `served` for each chunk that it was asked for.
 */
if (import.meta.main) {
  const options = JSON.parse(process.argv[2] ?? '{}') as BadPeerOptions
  await misbehave(options)
}

async function misbehave(options: BadPeerOptions): Promise<void> {
  const { misdeed } = options
  const blob = parseDigest(options.digest)
  const truth = readFileSync(options.blobFile)
  const layout = chunkLayout(truth.length)
  const chunk = (index: number) =>
    truth.subarray(layout.offset(index), layout.offset(index) + layout.length(index))
  const wrong = (index: number) => {
    const bytes = Buffer.from(chunk(index))
    bytes[bytes.length >> 1]! ^= 0x10
    return bytes
  }
  const claimed = misdeed === 'wrong-hashes' ? wrong : chunk
  const sent = misdeed.startsWith('wrong') ? wrong : chunk
  const hashes = Buffer.concat(
    Array.from({ length: layout.count }, (_, i) => createHash('sha256').update(claimed(i)).digest()),
  )
  const held = Bitfield.full(layout.count).toBytes()
  let requests = 0
  let offered = 0
  const links = new Set<Link>()
  const offer = (link: Link) => {
    if (offered < layout.count) link.send({ type: 'slot', blob, chunk: offered++ })
  }

  const serve = (index: number): ServedChunk => {
    const bytes = sent(index)
    const number = ++requests
    process.stdout.write('served\n')
    for (const link of links) offer(link)
    return {
      length: bytes.length,
      read(offset, target) {
        if (offset > 0 && misdeed === 'stalls') return new Promise(() => {})
        if (number === 3 && misdeed === 'vanishes') process.kill(process.pid, 'SIGKILL')
        const piece = bytes.subarray(offset, offset + Math.min(target.length, 64 * 1024))
        target.set(piece)
        return Promise.resolve(piece.length)
      },
      release() {},
    }
  }

  const exchange = createExchange({
    identity: await loadOrCreateIdentity(options.identityFile),
    clusterKey: await loadClusterKey(options.clusterKeyFile),
    host: '127.0.0.1',
    port: 0,
    dataPort: 0,
    schedulers: [options.schedulerAddress],
    source: (asked, index) => Promise.resolve(asked === blob ? serve(index) : 'missing'),
    clock: systemClock,
    random: Math.random,
    log: createLogger({ level: 'debug', name: 'bad-peer' }),
  })
  const greet = (link: Link) => {
    link.onMessage(message => {
      if (message.type !== 'interest' || message.blob !== blob) return
      link.send({ type: 'holds', blob, size: truth.length, held, hashes })
      for (let slot = 0; slot < SLOTS; slot++) offer(link)
      links.add(link)
    })
  }
  exchange.onLink(greet)
  exchange.scheduler?.onUp(() => {
    exchange.scheduler?.send({ type: 'join', blob, size: truth.length, held, wants: false })
    process.stdout.write(`${exchange.peerId}\n`)
  })
  await exchange.start()
  process.once('SIGTERM', () => void exchange.stop())
}
