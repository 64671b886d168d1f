import { read, readSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { SendFile } from './send-file.ts'
import { threadNow } from './thread-clock.ts'

/** Reads in a row that needed no disk before one is done on the event loop. */
const HITS = 16
/** Reads on the event loop in one turn of it, over all files: at most as many pieces as take about half a millisecond. */
const PER_TURN = 4
/** A read that takes less time than this may be done on the event loop, wherever its bytes came from, ms. */
const FAST_MS = 1
/** One that takes longer than this may not, whatever the system counts: not all file systems are counted, ms. */
const SLOW_MS = 20
/** What is sent at a time, bytes: as long as it takes to read a piece and to write it. */
const SEND_BYTES = 512 * 1024

/** How many reads a store may still do on the event loop before its next turn. */
export class LoopTurns {
  #left = PER_TURN

  /** Whether there is one more; it counts as used. */
  take(): boolean {
    if (this.#left === 0) return false
    if (this.#left === PER_TURN) {
      setImmediate(() => {
        this.#left = PER_TURN
      })
    }
    this.#left--
    return true
  }

  /** Waits until there is one more; it counts as used. */
  async wait(): Promise<void> {
    while (!this.take()) await nextTurn()
  }
}

/** What {@link CachedReads} asks the system. */
export interface ReadProbe {
  /** Milliseconds; those without a CPU need not count. */
  now(): number
  /** How often this process has waited for a disk (`ru_inblock`). */
  diskInputs(): number
}

const systemProbe: ReadProbe = {
  now: threadNow,
  diskInputs: () => process.resourceUsage().fsRead,
}

/**
 * Reads of one file, which mostly is in the page cache: then a read on the event loop costs half of one by a thread, which moves
 * the bytes from one CPU's cache to the other's. A file whose last reads all came from memory is read so; one read from the disk
 * ends that. So the loop waits for the disk at most once for every {@link HITS} reads that it did not wait for.
 */
export class CachedReads {
  readonly #fd: number
  readonly #turns: LoopTurns
  readonly #probe: ReadProbe
  #hits = 0
  #diskInputs: number

  /** @param isNew all that is in the file will have been written here, a moment ago: it is in memory until a read shows otherwise. */
  constructor(fd: number, turns: LoopTurns, isNew: boolean, probe = systemProbe) {
    this.#fd = fd
    this.#turns = turns
    this.#probe = probe
    this.#hits = isNew ? HITS : 0
    this.#diskInputs = probe.diskInputs()
  }

  /**
   * Reads into `target` from its index `at` on, as much as one call gives; 0 at the file's end. The file must stay open until then.
   * Rejects with the system's error.
   */
  async read(target: Uint8Array, at: number, position: number): Promise<number> {
    const started = this.#probe.now()
    const isHere = this.isWarm && this.#turns.take()
    const count = isHere
      ? readSync(this.#fd, target, at, target.length - at, position)
      : await readByThread(this.#fd, target, at, position)
    this.#hits = this.#cameFromMemory(this.#probe.now() - started) ? this.#hits + 1 : 0
    return count
  }

  /** Whether the last reads all came from memory, so that the next bytes most likely do. */
  get isWarm(): boolean {
    return this.#hits >= HITS
  }

  /**
   * Sends up to `length` bytes straight into a socket, when what came before was in memory; returns how many it took.
   * @param to asked right before, since what it names may be another file later; undefined: nothing takes bytes any more.
   */
  async send(
    sendFile: SendFile,
    to: () => number | undefined,
    position: number,
    length: number,
  ): Promise<number> {
    if (!this.isWarm) return 0
    await this.#turns.wait()
    const socket = to()
    if (socket === undefined) return 0
    const started = this.#probe.now()
    const count = sendFile(socket, this.#fd, position, Math.min(length, SEND_BYTES))
    if (!this.#cameFromMemory(this.#probe.now() - started)) this.#hits = 0
    return count
  }

  #cameFromMemory(tookMs: number): boolean {
    if (tookMs < FAST_MS) return true
    // Slow for want of a CPU, or for the disk.
    const before = this.#diskInputs
    this.#diskInputs = this.#probe.diskInputs()
    return this.#diskInputs === before && tookMs < SLOW_MS
  }
}

/** Like `FileHandle.read`, at half its cost. */
function readByThread(fd: number, target: Uint8Array, at: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, target, at, target.length - at, position, (error, count) => {
      if (error === null) resolve(count)
      else reject(error)
    })
  })
}
