/** Streams of ranges that are followed at the same moment: nydusd reads ahead with 8 threads. */
const MAX_STREAMS = 16
/** The most that is read ahead, in bytes. */
const MAX_AHEAD_BYTES = 4 * 1024 * 1024

interface Stream {
  /** Where it has come to, in bytes. */
  end: number
  /** What was read without a gap, in bytes. */
  bytes: number
}

/**
 * Tells, range by range, how much after it is likely to be read next: nothing after a single range, half of what was read before
 * it where ranges follow each other. So what is read ahead in vain is never more than half of what was asked for.
 */
export class ReadAhead {
  /** The least recently continued first. */
  #streams: Stream[] = []

  /** A range [from, to), in bytes, is read. Returns how many bytes after it are worth reading. */
  next(from: number, to: number): number {
    const length = to - from
    // Readers align what they ask for in their own ways: ranges may overlap a little, or leave a little out.
    const found = this.#streams.find(({ end, bytes }) => Math.abs(from - end) * 4 <= Math.min(length, bytes))
    const stream = found ?? { end: from, bytes: 0 }
    const before = stream.bytes
    stream.bytes += Math.max(0, to - Math.max(from, stream.end))
    stream.end = Math.max(stream.end, to)
    this.#streams = this.#streams.filter(other => other !== stream)
    this.#streams.push(stream)
    if (this.#streams.length > MAX_STREAMS) this.#streams.shift()
    return before === 0 ? 0 : Math.min(MAX_AHEAD_BYTES, Math.floor(stream.bytes / 2))
  }
}
