import { write, writeSync } from 'node:fs'
import type { LoopTurns } from './cached-reads.ts'
import { threadNow } from './thread-clock.ts'

/** What is written on the event loop at a time, bytes. */
const PIECE_BYTES = 512 * 1024
/** A write of a piece that takes longer than this was held up: the disk is behind, ms. */
const SLOW_MS = 10
/** How many writes are done by threads after one that was held up; twice as many after the next one, up to the most. */
const REST = { least: 16, most: 1024 }
/** After so many quick ones the last hold-up is forgotten. */
const QUICK_RUN = 64

/**
 * Writes of one file, which mostly are copies into the page cache: on the event loop such a copy finds the bytes in the cache of the
 * CPU that has just decrypted and hashed them, while a thread fetches them from there, at several times the cost. When the kernel holds
 * one up, since more waits for the disk than it likes, the next ones are done by threads: the longer, the more often that happens.
 */
export class CachedWrites {
  readonly #fd: number
  readonly #turns: LoopTurns
  readonly #now: () => number
  /** Writes still to be done by threads. */
  #resting = 0
  #rest = REST.least
  #quick = 0

  /** @param now milliseconds; those without a CPU need not count. */
  constructor(fd: number, turns: LoopTurns, now = threadNow) {
    this.#fd = fd
    this.#turns = turns
    this.#now = now
  }

  /**
   * Writes bytes of `source` from its index `at` on, as many as one call takes; returns how many. The file must stay open until then.
   * Rejects with the system's error.
   */
  async write(source: Uint8Array, at: number, position: number): Promise<number> {
    if (this.#resting > 0) {
      this.#resting--
      return await writeByThread(this.#fd, source, at, position)
    }
    await this.#turns.wait()
    const started = this.#now()
    const count = writeSync(this.#fd, source, at, Math.min(PIECE_BYTES, source.length - at), position)
    if (this.#now() - started > SLOW_MS) {
      this.#resting = this.#rest
      this.#rest = Math.min(2 * this.#rest, REST.most)
      this.#quick = 0
    } else if (++this.#quick === QUICK_RUN) this.#rest = REST.least
    return count
  }
}

function writeByThread(fd: number, source: Uint8Array, at: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, source, at, source.length - at, position, (error, count) => {
      if (error === null) resolve(count)
      else reject(error)
    })
  })
}
