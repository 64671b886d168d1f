import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { type BlobProof, ChunkCorruptError, ChunkMissingError, type StoredBlob } from '@darter/store'
import { PrefixHasher } from './prefix-hasher.ts'
import { listDecides, proofOf } from './proof.ts'

/** Finds out whether one download's blob is right, as its chunks come: by the verified list where that is enough, else by its digest. */
export class DigestCheck {
  readonly #stored: StoredBlob
  readonly #content: Digest
  readonly #log: Logger
  readonly #list: () => readonly Uint8Array[] | undefined
  readonly #on: {
    readonly right: (proof: BlobProof) => void
    readonly wrong: () => void
    readonly unreadable: () => void
    readonly work: (work: Promise<void>) => void
  }
  readonly #hasher: PrefixHasher
  #ended = false

  /**
   * @param options.content the digest that the bytes should have. @param options.list the verified list now.
   * @param options.on `right` and `wrong`: the verdict, once every chunk is held; `unreadable`: there will be none, since the
   * store can't read what it took; `work`: what runs until it has settled.
   */
  constructor(options: {
    readonly stored: StoredBlob
    readonly content: Digest
    readonly log: Logger
    readonly list: () => readonly Uint8Array[] | undefined
    readonly on: {
      readonly right: (proof: BlobProof) => void
      readonly wrong: () => void
      readonly unreadable: () => void
      readonly work: (work: Promise<void>) => void
    }
  }) {
    this.#stored = options.stored
    this.#content = options.content
    this.#log = options.log
    this.#list = options.list
    this.#on = options.on
    this.#hasher = new PrefixHasher(options.stored, options.content)
  }

  /** A chunk is held now. */
  kept(chunk: number, bytes: Uint8Array): void {
    if (
      !this.#listDecides &&
      (!this.#hasher.offer(chunk, bytes) || this.#stored.held.has(this.#hasher.chunks))
    ) {
      this.#hashOn()
    }
    this.look()
  }

  /** A chunk is held no more. */
  lost(chunk: number): void {
    // The one that the hash stands at may have gone into it in part.
    if (chunk <= this.#hasher.chunks) this.restart()
  }

  /** Another list is verified, or none. */
  listChanged(): void {
    if (this.#listDecides) this.#hasher.stop()
    else this.#hashOn()
    this.look()
  }

  /** Gives the verdict, if there is one by now. */
  look(): void {
    if (this.#ended || this.#stored.held.count < this.#stored.layout.count) return
    const proof = proofOf(this.#stored, this.#content, this.#hasher, this.#list())
    if (proof === undefined) this.#hashOn()
    else if (proof === 'wrong') this.#on.wrong()
    else this.#on.right(proof)
  }

  /** What was hashed counts no more. */
  restart(): void {
    this.#hasher.restart()
  }

  /** Nobody waits for a verdict any more: there will be none. */
  end(): void {
    this.#ended = true
    this.#hasher.stop()
  }

  get #listDecides(): boolean {
    return listDecides(this.#stored, this.#content, this.#list())
  }

  #hashOn(): void {
    if (this.#ended || this.#hasher.done || !this.#stored.held.has(this.#hasher.chunks)) return
    this.#on.work(
      this.#hasher.advance().then(
        () => this.look(),
        error => {
          this.#log.warn({ err: error }, 'a stored chunk could not be read back')
          // One that rotted was dropped, and is fetched again; else nothing would ever settle the digest.
          const isRot = error instanceof ChunkCorruptError || error instanceof ChunkMissingError
          if (isRot) this.#hashOn()
          else this.#on.unreadable()
        },
      ),
    )
  }
}
