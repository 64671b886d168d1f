import type { FetchedChunk } from '@darter/exchange'
import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import type { ChunkOrigin, DownloadSession } from '@darter/swarm'
import { writeChunk } from './chunk-writer.ts'
import type { DigestCheck } from './digest-check.ts'
import type { DownloadContext } from './download-context.ts'
import { OriginCorruptError } from './errors.ts'
import type { Membership } from './membership.ts'
import type { OriginChunk } from './origin-reader.ts'
import { splitList } from './proof.ts'
import { Provenance } from './provenance.ts'
import type { Ranges } from './ranges.ts'
import type { ReaderDesk } from './reader-desk.ts'

/** What an {@link Intake} shares with the rest of its download. */
export interface IntakeOptions {
  readonly stored: StoredBlob
  /** The digest that the bytes should have. */
  readonly content: Digest
  readonly context: DownloadContext
  readonly log: Logger
  readonly session: DownloadSession
  readonly membership: Membership
  readonly ranges: Ranges
  readonly readers: ReaderDesk
  readonly check: DigestCheck
  /** A chunk list that was vouched for has led to a wrong digest: none is believed any more. */
  readonly listRefuted: boolean
  readonly on: {
    /** The session has something to decide, or has decided. */
    readonly changed: () => void
    /** The store takes no more. */
    readonly full: () => void
    /** There is nothing to be had but wrong bytes. */
    readonly failed: (error: Error) => void
    /** Something runs until it has settled. */
    readonly work: (work: Promise<void>) => void
  }
}

/**
 * Takes in the chunks of one download: keeps those that the session judges right, tells of them, drops what proves wrong later,
 * and finds out who sent it.
 */
export class Intake {
  readonly #options: IntakeOptions
  readonly #provenance = new Provenance()
  #listRefuted: boolean

  constructor(options: IntakeOptions) {
    this.#options = options
    this.#listRefuted = options.listRefuted
  }

  /** Read from the origin by this very download. */
  isFromOrigin(chunk: number): boolean {
    return this.#provenance.isFromOrigin(chunk)
  }

  /** The store dropped a chunk. */
  dropped(chunk: number): void {
    this.#provenance.lost(chunk)
  }

  /** The scheduler told the verified list; of no bytes: none is verified any more. What differs from it is dropped. */
  listTold(hashes: Uint8Array): void {
    const { stored, session, readers, on } = this.#options
    const list = hashes.length === 0 || this.#listRefuted ? undefined : splitList(hashes)
    const wrong = session.verifiedList(list, index => stored.chunkHash(index))
    readers.provedWrong(wrong, stored.digest)
    for (const chunk of wrong) on.work(stored.dropChunk(chunk))
  }

  async fromNeighbour(neighbour: string, chunk: number, fetched: FetchedChunk): Promise<void> {
    const { stored, context, session } = this.#options
    const { bytes, hash } = fetched
    context.metrics.receivedFromPeer(bytes.length)
    const verdict = session.chunkFromNeighbour(neighbour, chunk, hash, this.#now())
    if (verdict === 'keep') await this.#keep(chunk, bytes, hash, { kind: 'neighbour', id: neighbour })
    else if (!stored.held.has(chunk)) context.neighbourhood.pushLost(stored.digest, chunk)
  }

  /** @throws {OriginCorruptError} when the blob is this one chunk, and it has the wrong digest. */
  async fromOrigin(chunk: OriginChunk): Promise<void> {
    const { stored, content, session, readers, log, on } = this.#options
    const { index, bytes, hash } = chunk
    const liar = this.#provenance.convict(index, hash)
    if (liar !== undefined) session.distrust(liar, this.#now())
    const expected = session.verifiedHashes?.[index]
    if (expected !== undefined && !Buffer.from(hash).equals(expected)) {
      if (stored.layout.count === 1) throw new OriginCorruptError(content)
      log.warn({ chunk: index }, 'the origin contradicts the verified chunk list, which is believed no more')
      this.#distrustList()
    }
    if (session.chunkFromOrigin(index, hash, this.#now()) === 'keep') {
      await this.#keep(index, bytes, hash, { kind: 'origin' })
      return
    }
    const before = stored.chunkHash(index)
    if (before !== undefined && Buffer.from(hash).equals(before)) {
      session.chunkStored(index, { kind: 'origin' }, this.#now())
      readers.wake()
    } else {
      readers.provedWrong([index], stored.digest)
      await stored.dropChunk(index)
      await this.#keep(index, bytes, hash, { kind: 'origin' })
    }
    on.changed()
  }

  /** Every chunk is here and the digest is wrong: whatever was not read from the origin here is fetched from it again. */
  audit(): void {
    const { stored, content, context, session, readers, check, log, on } = this.#options
    if (session.verifiedHashes !== undefined) {
      log.warn(
        'a blob that matches its verified chunk list has the wrong digest; the list is believed no more',
      )
      this.#distrustList()
    }
    const suspects = [...stored.held.indices()].filter(chunk => !this.isFromOrigin(chunk))
    log.warn(
      { suspects: suspects.length },
      'the blob has the wrong digest; its suspect chunks are fetched again',
    )
    context.metrics.digestMismatch()
    check.restart()
    const all = suspects.length === 0
    const dropped = all ? [...stored.held.indices()] : suspects
    readers.provedWrong(dropped, stored.digest)
    for (const chunk of dropped) {
      const hash = stored.chunkHash(chunk)
      if (!all && hash !== undefined) this.#provenance.suspect(chunk, hash)
      on.work(stored.dropChunk(chunk))
    }
    if (all) on.failed(new OriginCorruptError(content))
    else session.onlyFromOrigin(suspects, this.#now())
    readers.wake()
    on.changed()
  }

  async #keep(chunk: number, bytes: Uint8Array, hash: Uint8Array, by: ChunkOrigin): Promise<void> {
    const { stored, session, membership, ranges, readers, check, log, on } = this.#options
    let outcome: 'stored' | 'full' | 'other'
    try {
      const isFromOrigin = by.kind === 'origin'
      outcome = await writeChunk(
        stored,
        { index: chunk, bytes, hash, isFromOrigin },
        {
          listed: () => session.verifiedHashes?.[chunk],
          wrong: () => readers.provedWrong([chunk], stored.digest),
        },
      )
    } catch (error) {
      log.error({ err: error, chunk }, 'a chunk could not be kept')
      outcome = 'full'
    }
    if (outcome !== 'stored') {
      session.chunkLost(chunk, by, this.#now())
      if (outcome === 'full') on.full()
      readers.wake()
      return
    }
    this.#provenance.came(chunk, by)
    ranges.kept(chunk, this.#now())
    session.chunkStored(chunk, by, this.#now())
    membership.holds(chunk, hash, by.kind, this.#now())
    check.kept(chunk, bytes)
    readers.wake()
    on.changed()
  }

  /** The list that was vouched for is wrong; this download believes no other one. */
  #distrustList(): void {
    this.#listRefuted = true
    this.#options.session.verifiedList(undefined, () => undefined)
  }

  #now(): number {
    return this.#options.context.clock.now()
  }
}
