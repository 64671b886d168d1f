import { createHash } from 'node:crypto'
import type { Digest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import type { PlainFile } from '@darter/store'

/** In front of the entries, in the place of one. */
const HEADER = Buffer.from('darter parts 1\n')
const PAGE_BYTES = 4096
const ENTRY_BYTES = 64
/** The owner, then the number as 32 bits, then whether the entry is in use, then (at the half) the sum. */
const OWNER_BYTES = 24
/** The part of an owner that tells the blob alone. */
const BLOB_BYTES = 8
const NUMBER_AT = OWNER_BYTES
const USED_AT = NUMBER_AT + 4
const SUM_AT = ENTRY_BYTES / 2
/** Changes are gathered for so long before they are written, ms: a page has 64 entries, and ranges bring many blocks at once. */
const GATHER_MS = 100

/** Who gave something, and of which blob: what is said under one name is never taken for another's. */
export type PartOwner = Buffer

/** The owner of what an upstream gave of a blob with such a size. */
export function partOwner(
  upstream: { readonly name: string; readonly address: string },
  blob: Digest,
  size: number,
): PartOwner {
  const all = hash([upstream.name, upstream.address, blob, size])
  return Buffer.concat([hash([blob]).subarray(0, BLOB_BYTES), all], OWNER_BYTES)
}

/** What an owner, in hex, begins with that was made for this blob. */
export function ownersOf(blob: Digest): string {
  return hash([blob]).toString('hex', 0, BLOB_BYTES)
}

/** What binds bytes to their owner and to what they are of it: other bytes with the same sum cannot be made, not even on purpose. */
export function partSum(
  owner: PartOwner,
  kind: 'block' | 'chunk',
  number: number,
  bytes: Uint8Array,
): Uint8Array {
  return createHash('sha256').update(owner).update(`${kind} ${number}\n`).update(bytes).digest()
}

/**
 * Entries at fixed places, each telling whose something is, which part of it, and its {@link partSum}. In memory, and soon after in a
 * file, in no order that could be relied on: what an entry tells counts only together with bytes that fit its sum, so that a file that is
 * torn, old or damaged costs what it told and nothing else.
 */
export class PartIndex {
  /** How many places there are. */
  readonly places: number
  readonly #file: PlainFile
  readonly #log: Logger
  readonly #image: Buffer
  /** Pages of the image that the file does not have; the one with the header may be among them. */
  readonly #dirty = new Set([0])
  #timer: NodeJS.Timeout | undefined
  #writing = Promise.resolve()
  #failed = false

  /** With nothing in use, over an empty file. */
  constructor(file: PlainFile, places: number, log: Logger) {
    this.places = places
    this.#file = file
    this.#log = log
    this.#image = Buffer.alloc(Math.ceil(((places + 1) * ENTRY_BYTES) / PAGE_BYTES) * PAGE_BYTES)
    HEADER.copy(this.#image)
  }

  /** What a file tells; one that cannot be read, or is another's, is logged and begun anew. @throws the system's error when that fails. */
  static async open(file: PlainFile, places: number, log: Logger): Promise<PartIndex> {
    const index = new PartIndex(file, places, log)
    const image = index.#image
    try {
      const isEmpty = (await file.read(0, image)) === 0
      if (!isEmpty && !image.subarray(0, HEADER.length).equals(HEADER)) throw new Error('it has no header')
      await file.trim(image.length)
    } catch (error) {
      log.warn(
        { err: error },
        'the index of what ranges brought is not readable: what they brought is forgotten',
      )
      image.fill(0)
      await file.trim(0)
    }
    HEADER.copy(image)
    return index
  }

  isUsed(place: number): boolean {
    return this.#image[this.#at(place) + USED_AT] === 1
  }

  owner(place: number): PartOwner {
    const at = this.#at(place)
    return this.#image.subarray(at, at + OWNER_BYTES)
  }

  /** What was {@link put} there as that. */
  number(place: number): number {
    return this.#image.readUInt32LE(this.#at(place) + NUMBER_AT)
  }

  /** Whether a place is in use for that. */
  is(place: number, owner: PartOwner, number: number): boolean {
    return this.isUsed(place) && this.owner(place).equals(owner) && this.number(place) === number
  }

  /** Whether a place is in use with just this sum. */
  fits(place: number, sum: Uint8Array): boolean {
    const at = this.#at(place)
    return this.isUsed(place) && this.#image.subarray(at + SUM_AT, at + ENTRY_BYTES).equals(sum)
  }

  /** Uses a place. `number` has 32 bits, `sum` 32 bytes. */
  put(place: number, owner: PartOwner, number: number, sum: Uint8Array): void {
    const at = this.#at(place)
    this.#image.set(owner, at)
    this.#image.writeUInt32LE(number, at + NUMBER_AT)
    this.#image[at + USED_AT] = 1
    this.#image.set(sum, at + SUM_AT)
    this.#changed(at)
  }

  clear(place: number): void {
    const at = this.#at(place)
    this.#image.fill(0, at, at + ENTRY_BYTES)
    this.#changed(at)
  }

  /** Writes what is not in the file yet, and closes it. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#writing
    await this.#write()
    await this.#file.close()
  }

  #at(place: number): number {
    if (!(place >= 0 && place < this.places)) throw new RangeError(`there is no place ${place}`)
    return (place + 1) * ENTRY_BYTES
  }

  #changed(at: number): void {
    this.#dirty.add(Math.floor(at / PAGE_BYTES))
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#writing = this.#writing.then(() => this.#write())
    }, GATHER_MS).unref()
  }

  /** Never rejects: a page that is refused goes with what changes next. */
  async #write(): Promise<void> {
    const pages = [...this.#dirty]
    this.#dirty.clear()
    for (const page of pages) {
      const at = page * PAGE_BYTES
      try {
        await this.#file.write(at, this.#image.subarray(at, at + PAGE_BYTES))
      } catch (error) {
        this.#dirty.add(page)
        if (!this.#failed)
          this.#log.warn({ err: error }, 'the index of what ranges brought cannot be written')
        this.#failed = true
      }
    }
  }
}

function hash(parts: readonly (string | number)[]): Buffer {
  return createHash('sha256').update(JSON.stringify(parts)).digest()
}
