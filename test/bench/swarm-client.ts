// One client of the swarm bench: `START URL...` fetches all URLs at the same moment, START (ms since 1970), throws the
// bytes away, and prints `{"seconds":..,"firstByteMs":..}`.
import { setTimeout as delay } from 'node:timers/promises'
import { discard } from './raw-client.ts'

const [start, ...urls] = process.argv.slice(2)
await delay(Number(start) - Date.now())
const started = performance.now()
const bodies = await Promise.all(urls.map(url => discard(new URL(url))))
console.log(
  JSON.stringify({
    seconds: (performance.now() - started) / 1000,
    firstByteMs: Math.min(...bodies.map(body => body.firstByteSeconds)) * 1000,
  }),
)
