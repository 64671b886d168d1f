/** A program that starts, uses and stops everything, and says how long stopping took; it must then end by itself. */
import { createControlServer, createExchange } from '@darter/exchange'
import { seededRandom, systemClock } from '@darter/runtime'
import { addressOf, BLOB, log, newClusterKey, newIdentity, served, soon } from './support.ts'

const clusterKey = newClusterKey()
const host = '127.0.0.1'
const server = createControlServer({ identity: await newIdentity(), clusterKey, host, port: 0, log })
await server.start()
const [a, b, c] = await Promise.all(
  [1, 2, 3].map(async seed => {
    const exchange = createExchange({
      identity: await newIdentity(),
      clusterKey,
      host,
      port: 0,
      dataPort: 0,
      schedulers: server.addresses(),
      source: async () =>
        served(new Uint8Array(1000), { read: () => Promise.withResolvers<number>().promise }),
      clock: systemClock,
      random: seededRandom(seed),
      log,
    })
    const up = new Promise<void>(resolve => exchange.scheduler?.onUp(resolve))
    await exchange.start()
    await up
    return exchange
  }),
)
if (a === undefined || b === undefined || c === undefined) throw new Error('not started')
const link = await a.link(addressOf(b), { signal: soon() })
await a.link(addressOf(c), { signal: soon() })
// One request is under way, and one dial is.
const failed = link.fetch(BLOB, 0, 1000, { signal: soon() }).catch(() => 'failed')
const dialling = b.link(addressOf(c), { signal: soon() }).catch(() => 'failed')
const from = performance.now()
await Promise.all([a.stop(), b.stop(), c.stop(), server.stop()])
await Promise.all([failed, dialling])
process.stdout.write(`${Math.round(performance.now() - from)}\n`)
