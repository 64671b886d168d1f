import type { BlobSource } from './contract.ts'

/**
 * The callers' ways to the origin for one blob. While a caller reads, its credentials may be used to fetch for all;
 * the last one stays until the download ends.
 */
export class SourceList {
  readonly #sources: { readonly source: BlobSource; refused: boolean; users: number }[] = []

  /** Adds a caller's way; the result takes it back when the caller is gone. */
  add(source: BlobSource): () => void {
    const same = this.#sources.find(
      entry =>
        entry.source.upstream === source.upstream &&
        entry.source.repository === source.repository &&
        entry.source.authorization === source.authorization,
    )
    const entry = same ?? { source, refused: false, users: 0 }
    if (same === undefined) this.#sources.push(entry)
    entry.users++
    let gone = false
    return () => {
      if (gone) return
      gone = true
      entry.users--
      if (entry.users === 0 && this.#sources.length > 1) this.#sources.splice(this.#sources.indexOf(entry), 1)
    }
  }

  /** The way to use now: one that was not refused, if there is any. */
  current(): BlobSource | undefined {
    return (this.#sources.find(entry => !entry.refused) ?? this.#sources[0])?.source
  }

  /** Notes that the origin refused a way; returns whether there is another to try. */
  refused(source: BlobSource, refusal: Error): boolean {
    for (const entry of this.#sources) if (entry.source === source) entry.refused = true
    source.onRefused?.(refusal)
    return this.#sources.some(entry => !entry.refused)
  }
}
