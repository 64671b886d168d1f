import type { StoredBlob } from '@darter/store'
import type { ChunkLayout } from '@darter/swarm'
import type { CallerSocket } from './contract.ts'
import { sameHash } from './prefix-hasher.ts'

const PIECE_BYTES = 256 * 1024
const SMALL_PIECE_BYTES = 64 * 1024

/** The way of a blob's bytes from the store to the caller's socket, past this program. */
export class DirectWay {
  readonly #end: number
  /** Tries since it last worked. The one after a piece was taken fails only when the way is barred. */
  #vain = 2

  /** @param end where the caller's part ends, in the blob. */
  constructor(end: number) {
    this.#end = end
  }

  /** Whether bytes went this way lately. */
  get works(): boolean {
    return this.#vain < 2
  }

  /** Sends what goes of the chunk at `position`, from there on; 0 when nothing does. @throws what {@link StoredBlob.sendChunk} throws. */
  async send(stored: StoredBlob, position: number, socket: CallerSocket): Promise<number> {
    const chunk = stored.layout.at(position)
    const offset = position - stored.layout.offset(chunk)
    const count = await stored.sendChunk(chunk, offset, this.#end - position, () => socket.descriptor())
    this.#vain = count > 0 ? 0 : this.#vain + 1
    if (count > 0) socket.moved(count)
    return count
  }
}

/**
 * Reads one piece after another of a blob, the next one ahead of time: from the page cache that takes about as long as sending
 * does. Two pieces of memory take turns.
 */
export class PieceReader {
  readonly #layout: ChunkLayout
  readonly #end: number
  #spare: Uint8Array | undefined
  #ahead:
    | {
        readonly stored: StoredBlob
        readonly position: number
        readonly hash: Uint8Array | undefined
        readonly piece: Promise<Uint8Array | undefined>
      }
    | undefined
  #last: Uint8Array | undefined

  /** @param end where the last piece ends, in the blob. */
  constructor(layout: ChunkLayout, end: number) {
    this.#layout = layout
    this.#end = end
  }

  /**
   * The piece at `position`; good until the next call.
   * @param small between bytes that go straight to the socket: just what tells when it takes more.
   * @throws what {@link StoredBlob.readChunk} throws.
   */
  async read(stored: StoredBlob, position: number, small: boolean): Promise<Uint8Array> {
    const ahead = this.#ahead
    this.#ahead = undefined
    if (ahead !== undefined) {
      const piece = await ahead.piece
      // A chunk that was replaced meanwhile is read again, and a read that failed fails again.
      const now = stored.chunkHash(this.#layout.at(position))
      const isSame = now !== undefined && ahead.hash !== undefined && sameHash(now, ahead.hash)
      if (piece !== undefined && ahead.stored === stored && ahead.position === position && isSame)
        return piece
    }
    return await this.#readInto(
      this.#takeBuffer().subarray(0, small ? SMALL_PIECE_BYTES : PIECE_BYTES),
      stored,
      position,
    )
  }

  /** Begins to read the piece at `position`. */
  readAhead(stored: StoredBlob, position: number): void {
    if (position >= this.#end) return
    const chunk = this.#layout.at(position)
    const hash = stored.chunkHash(chunk)
    if (hash === undefined) return
    const piece = this.#readInto(this.#takeBuffer(), stored, position).catch(() => undefined)
    this.#ahead = { stored, position, hash, piece }
  }

  async #readInto(buffer: Uint8Array, stored: StoredBlob, position: number): Promise<Uint8Array> {
    const chunk = this.#layout.at(position)
    const offset = position - this.#layout.offset(chunk)
    const wanted = Math.min(this.#layout.length(chunk) - offset, this.#end - position, buffer.length)
    return buffer.subarray(0, await stored.readChunk(chunk, offset, buffer.subarray(0, wanted)))
  }

  /** The buffer that does not hold the piece that was handed out last. */
  #takeBuffer(): Uint8Array {
    const buffer = this.#spare ?? Buffer.allocUnsafe(Math.min(PIECE_BYTES, this.#layout.chunkBytes))
    this.#spare = this.#last
    this.#last = buffer
    return buffer
  }
}
