import type { ChunkSource } from '@darter/exchange'
import type { Digest } from '@darter/oci'
import type { Clock } from '@darter/runtime'
import { type Random, type ReadonlyBitfield, type UploadEffect, UploadPlan } from '@darter/swarm'
import type { Notice } from '@darter/wire'
import type { OpenBlobs } from './open-blobs.ts'

const TICK_MS = 100

interface Turn {
  readonly resolve: (answer: 'now' | 'missing' | 'busy') => void
}

/** Gives chunks to neighbours: performs what {@link UploadPlan} decides. */
export class Uploader {
  readonly #plan: UploadPlan
  readonly #blobs: OpenBlobs
  readonly #clock: Clock
  readonly #send: (peerId: string, notice: Notice) => void
  /** Requests that wait for their turn. */
  readonly #turns = new Map<string, Turn>()
  #timer: NodeJS.Timeout | undefined

  constructor(options: {
    readonly blobs: OpenBlobs
    readonly clock: Clock
    readonly random: Random
    /** Chunks sent at the same moment, at most. */
    readonly maxUploads: number
    readonly send: (peerId: string, notice: Notice) => void
  }) {
    this.#plan = new UploadPlan(options.random, { maxUploads: options.maxUploads })
    this.#blobs = options.blobs
    this.#clock = options.clock
    this.#send = options.send
  }

  /** A neighbour is interested in a blob and holds `theirs` of it; `ours` is what is held here. */
  interested(blob: Digest, peerId: string, theirs: ReadonlyBitfield, ours: ReadonlyBitfield): void {
    if (theirs.length !== ours.length) return
    this.#plan.open(blob, ours)
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS).unref()
    this.#plan.neighbourUp(blob, peerId, theirs, this.#now())
    this.#perform()
  }

  /** A blob is gone from the store. */
  removed(blob: Digest): void {
    this.#plan.close(blob)
    this.#perform()
  }

  /** A neighbour is not interested in a blob any more. `last`: nobody is. */
  left(blob: Digest, peerId: string, last: boolean): void {
    this.#plan.neighbourLeft(blob, peerId, this.#now())
    if (last) this.#plan.close(blob)
    this.#perform()
  }

  /** A neighbour said something of a blob that it is interested in. */
  heard(peerId: string, notice: Exclude<Notice, { type: 'slot' }>): void {
    const now = this.#now()
    const { blob } = notice
    switch (notice.type) {
      case 'have':
        this.#plan.neighbourHas(blob, peerId, notice.chunk, notice.load)
        return
      case 'expect':
        this.#plan.neighbourExpects(blob, peerId, notice.chunk, notice.load)
        return
      case 'lost':
        this.#plan.neighbourLacks(blob, peerId, notice.chunk, now)
        break
      case 'pass':
        this.#plan.passed(blob, peerId, now)
        break
      case 'want':
        this.#plan.neighbourWants(blob, peerId, now)
        break
    }
    this.#perform()
  }

  chunkHeld(blob: Digest, chunk: number): void {
    this.#plan.chunkHeld(blob, chunk, this.#now())
    this.#perform()
  }

  /** A chunk will be whole in about `inMs`. */
  chunkComing(blob: Digest, chunk: number, inMs: number): void {
    this.#plan.chunkComing(blob, chunk, inMs, this.#now())
    this.#perform()
  }

  chunkLost(blob: Digest, chunk: number): void {
    this.#plan.chunkLost(blob, chunk, this.#now())
    this.#perform()
  }

  /** Answers a neighbour's request when its turn has come. */
  readonly serve: ChunkSource = async (blob, chunk, peerId, signal) => {
    const turn = await this.#turn(blob, chunk, peerId, signal)
    if (turn !== 'now') return turn
    const done = (whole: boolean): void => {
      this.#plan.sent(blob, peerId, chunk, whole, this.#now())
      this.#perform()
    }
    try {
      // Never a download's own handle: it may end while the chunk is being sent.
      const { stored, release } = await this.#blobs.use(blob)
      if (stored === undefined || !stored.held.has(chunk)) {
        release()
        done(false)
        return 'missing'
      }
      return {
        length: stored.layout.length(chunk),
        read: (offset, target) => stored.readChunk(chunk, offset, target),
        release: whole => {
          release()
          done(whole)
        },
      }
    } catch (error) {
      done(false)
      throw error
    }
  }

  close(): void {
    clearInterval(this.#timer)
    for (const { resolve } of this.#turns.values()) resolve('busy')
  }

  async #turn(
    blob: Digest,
    chunk: number,
    peerId: string,
    signal: AbortSignal,
  ): Promise<'now' | 'missing' | 'busy'> {
    const key = turnKey(peerId, blob, chunk)
    if (signal.aborted || this.#turns.has(key)) return 'busy'
    const { promise, resolve } = Promise.withResolvers<'now' | 'missing' | 'busy'>()
    const onAbort = (): void => {
      // Its place is given back first: the plan may find it to be next at this very moment.
      this.#turns.delete(key)
      this.#plan.cancelled(blob, peerId, chunk, this.#now())
      resolve('busy')
      this.#perform()
    }
    const turn: Turn = { resolve }
    this.#turns.set(key, turn)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#plan.requested(blob, peerId, chunk, this.#now())
    this.#perform()
    try {
      return await promise
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key)
      signal.removeEventListener('abort', onAbort)
    }
  }

  #perform(): void {
    for (const effect of this.#plan.takeEffects()) this.#act(effect)
  }

  #act(effect: UploadEffect): void {
    const blob = effect.blob as Digest
    const { to, chunk } = effect
    if (effect.type === 'slot') {
      this.#send(to, { type: 'slot', blob, chunk })
      return
    }
    const turn = this.#turns.get(turnKey(to, blob, chunk))
    if (effect.type === 'refuse') turn?.resolve(effect.reason)
    else if (turn !== undefined) turn.resolve('now')
    else this.#plan.sent(blob, to, chunk, false, this.#now())
  }

  #tick(): void {
    this.#plan.tick(this.#now())
    this.#perform()
  }

  #now(): number {
    return this.#clock.now()
  }
}

function turnKey(peerId: string, blob: Digest, chunk: number): string {
  return `${peerId} ${chunk} ${blob}`
}
