import type { BlobUploads } from './blob-uploads.ts'

/** What a neighbour has requested and not got yet. */
export interface UploadRequest {
  readonly to: string
  readonly uploads: BlobUploads
  readonly chunk: number
  /** When it came, ms. */
  readonly at: number
  /** `parked`: the chunk is not held yet. */
  state: 'parked' | 'ready' | 'sending'
  /** When it began to be sent, ms. */
  startedAt: number
}

/** The requests of an uploader's neighbours, those that are being served included, in the order in which they came. */
export class UploadQueue {
  readonly #requests = new Set<UploadRequest>()
  /** Those that are sent to neighbours that held nothing before. */
  readonly #firsts = new Set<UploadRequest>()

  get size(): number {
    return this.#requests.size
  }

  [Symbol.iterator](): Iterator<UploadRequest> {
    return this.#requests.values()
  }

  add(request: UploadRequest): void {
    this.#requests.add(request)
  }

  delete(request: UploadRequest): void {
    this.#requests.delete(request)
    this.#firsts.delete(request)
  }

  find(blob: string, id: string, chunk: number): UploadRequest | undefined {
    for (const request of this.#requests) {
      if (request.to === id && request.chunk === chunk && request.uploads.blob === blob) return request
    }
    return undefined
  }

  /** Requests of one neighbour. */
  countOf(id: string): number {
    let count = 0
    for (const request of this.#requests) if (request.to === id) count++
    return count
  }

  /** The request to be served next: of a neighbour that holds nothing, else the one that came first. */
  next(): UploadRequest | undefined {
    let first: UploadRequest | undefined
    for (const request of this.#requests) {
      if (request.state !== 'ready') continue
      if (isFirst(request)) return request
      first ??= request
    }
    return first
  }

  /** A chunk is being sent to a neighbour that held nothing, or would be sent {@link next}. */
  isFirstUnderWay(next: UploadRequest): boolean {
    return this.#firsts.size > 0 || isFirst(next)
  }

  started(request: UploadRequest, now: number): void {
    if (isFirst(request)) this.#firsts.add(request)
    request.state = 'sending'
    request.startedAt = now
  }
}

/** Whether it brings the first chunk of several to a neighbour. */
function isFirst({ uploads, to }: UploadRequest): boolean {
  return uploads.need(to)?.empty === true
}
