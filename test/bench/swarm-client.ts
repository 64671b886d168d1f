// One client of the swarm bench: `BEGIN START URL...` fetches all URLs at the same moment, START (ms since 1970), throws the
// bytes away, and prints a `ClientResult` with times since BEGIN, except for the first byte, which counts from START.
import { setTimeout as delay } from 'node:timers/promises'
import { discard } from './raw-client.ts'

/** What a client of the swarm bench prints, as JSON. */
export interface ClientResult {
  /** When it had everything, in seconds. */
  readonly seconds: number
  readonly firstByteMs: number
  /** Seconds and the bytes that had come by then, a few times a second. */
  readonly progress: readonly (readonly [seconds: number, bytes: number])[]
}

const SAMPLE_MS = 200

if (import.meta.main) {
  const [begin, start, ...urls] = process.argv.slice(2)
  await delay(Number(start) - Date.now())
  const since = () => (Date.now() - Number(begin)) / 1000
  let bytes = 0
  const progress: [number, number][] = [[since(), 0]]
  const sampling = setInterval(() => progress.push([since(), bytes]), SAMPLE_MS)
  const bodies = await Promise.all(urls.map(url => discard(new URL(url), count => void (bytes += count))))
  clearInterval(sampling)
  const seconds = since()
  progress.push([seconds, bytes])
  const firstByteMs = Math.min(...bodies.map(body => body.firstByteSeconds)) * 1000
  console.log(JSON.stringify({ seconds, firstByteMs, progress } satisfies ClientResult))
}
