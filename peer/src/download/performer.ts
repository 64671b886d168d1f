import { ChunkRefusedError } from '@darter/exchange'
import { DarterError } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import type { StoredBlob } from '@darter/store'
import type { DownloadSession, SessionEffect } from '@darter/swarm'
import type { DownloadContext } from './download-context.ts'
import { NoSourceError, OriginCorruptError, OriginSizeError } from './errors.ts'
import type { Intake } from './intake.ts'
import type { Membership } from './membership.ts'
import type { NeighbourRequests } from './neighbour-requests.ts'
import type { FetchFailure, OriginFetches } from './origin-fetches.ts'

/** What a {@link Performer} shares with the rest of its download. */
export interface PerformerOptions {
  readonly stored: StoredBlob
  readonly context: DownloadContext
  readonly log: Logger
  readonly session: DownloadSession
  readonly membership: Membership
  readonly requests: NeighbourRequests
  readonly origin: OriginFetches
  readonly intake: Intake
  readonly on: {
    /** The blob can be had from nowhere. */
    readonly failed: (error: Error) => void
    /** Something runs until it has settled. */
    readonly work: (work: Promise<void>) => void
  }
}

/** Does what one download's session decides, and tells the session what came of it. */
export class Performer {
  readonly #options: PerformerOptions
  /** How the origin failed last. */
  #lastError: Error | undefined

  constructor(options: PerformerOptions) {
    this.#options = options
  }

  /** Does what was decided since the last call. */
  perform(): void {
    for (const effect of this.#options.session.takeEffects()) this.#act(effect)
  }

  #act(effect: SessionEffect): void {
    const { stored, context, membership, requests, origin, log, on } = this.#options
    const { digest } = stored
    switch (effect.type) {
      case 'request':
        on.work(this.#request(effect.neighbour, effect.chunk))
        break
      case 'cancel':
        requests.cancel(effect.neighbour, effect.chunk)
        break
      case 'pass':
      case 'want':
        context.neighbourhood.answerSlot(effect.neighbour, effect.type, digest)
        break
      case 'unexpect':
        context.neighbourhood.pushLost(digest, effect.chunk)
        break
      case 'fetch-origin':
        on.work(this.#readOrigin(effect))
        break
      case 'stop-origin':
        origin.stop(effect.fetch)
        break
      case 'lease-demand':
        membership.tell({ blob: digest, ...effect })
        break
      case 'lease-end':
        membership.report(this.#now())
        membership.tell({ blob: digest, ...effect })
        break
      case 'blame':
        context.metrics.blamed(effect.deed, effect.neighbour)
        log.warn(
          { peer: effect.neighbour, deed: effect.deed },
          'a neighbour failed; the chunk comes from elsewhere',
        )
        membership.tell({ type: 'blame', peer: effect.neighbour, blob: digest, deed: effect.deed })
        break
      case 'give-up':
        on.failed(this.#lastError ?? new NoSourceError(digest, undefined))
        break
    }
  }

  async #request(neighbour: string, chunk: number): Promise<void> {
    const { session, requests, intake, log } = this.#options
    const outcome = await requests.run(neighbour, chunk, {
      began: () => session.chunkBegan(neighbour, chunk),
      came: fetched => intake.fromNeighbour(neighbour, chunk, fetched),
    })
    if (outcome instanceof Error) {
      const reason = outcome instanceof ChunkRefusedError ? outcome.reason : 'failed'
      log.debug({ peer: neighbour, chunk, err: outcome }, 'a request came to nothing')
      session.requestFailed(neighbour, chunk, reason, this.#now())
    }
    this.perform()
  }

  async #readOrigin(effect: SessionEffect & { type: 'fetch-origin' }): Promise<void> {
    const { stored, context, session, membership, origin, intake } = this.#options
    const { fetch, lease } = effect
    const { neighbourhood } = context
    const lost = (chunk: number): void => {
      if (!stored.held.has(chunk)) neighbourhood.chunkMissed(stored.digest, chunk)
    }
    const outcome = await origin.run(fetch, effect, {
      keep: async chunk => {
        await intake.fromOrigin(chunk)
        lost(chunk.index)
      },
      coming: (chunk, inMs) => neighbourhood.chunkComing(stored.digest, chunk, inMs),
      lost,
      bytes: count => context.metrics.receivedFromOrigin(count),
      sign: () => {
        session.bytesFlowed(this.#now())
        if (lease !== undefined) membership.tell({ type: 'lease-alive', blob: stored.digest, lease })
      },
    })
    if (outcome === 'done') session.fetchEnded(fetch, undefined, this.#now())
    else if (outcome !== 'stopped') this.#fetchFailed(fetch, outcome)
    this.perform()
  }

  #fetchFailed(fetch: number, failure: FetchFailure): void {
    const { context, session, log, on } = this.#options
    const { error, refused, wholeOnly, retryAfterMs } = failure
    if (!wholeOnly) {
      this.#lastError = error
      context.metrics.originFailed()
      const code = error instanceof DarterError ? error.code : undefined
      log.info({ err: error.message, code }, 'reading the origin failed')
    }
    if (error instanceof OriginSizeError || error instanceof OriginCorruptError) {
      on.failed(error)
      return
    }
    const hint = retryAfterMs === undefined ? {} : { retryAfterMs }
    session.fetchEnded(fetch, { refused, wholeOnly, ...hint }, this.#now())
  }

  #now(): number {
    return this.#options.context.clock.now()
  }
}
