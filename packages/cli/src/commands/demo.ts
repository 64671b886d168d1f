/** What `darter demo` was asked for. */
export interface DemoOptions {
  /** Size of the image, in bytes. */
  readonly imageBytes: number
  readonly layers: number
  /** Peer processes that pull at the same moment. */
  readonly peers: number
  /** One JSON object alone on standard output instead of progress and a table. */
  readonly json: boolean
  /** Leave the demo's directory behind. */
  readonly keep: boolean
}

/** Pulls an image of random data through several peers at once, and shows what the origin had to serve. */
export async function runDemo(_options: DemoOptions): Promise<number> {
  throw new Error('darter demo is not there yet')
}
