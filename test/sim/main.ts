import { parseArgs } from 'node:util'
import { BLOB_MS } from './scenario.ts'
import { simulate } from './simulate.ts'
import { sweep } from './sweep.ts'

const HELP = `Runs the decisions of peers and scheduler against each other in virtual time.

  npm run --silent sim -- [options]           one run
  npm run --silent sim -- sweep [--full]      many runs: writes docs/SIMULATION.md and its plots

  --peers N          peers that start at the same moment (1000)
  --chunks N         chunks of the blob, which takes ${BLOB_MS / 1000} s over one peer's link (125)
  --degree N         neighbours of each peer (the default of the scheduler)
  --origin-rate X    the origin's rate in multiples of a peer's (1)
  --latency-ms L     how long a message takes (1)
  --churn R          the part of the peers that leaves in the middle, 0 to 1 (0)
  --liars F          the part of the peers that sends wrong bytes, 0 to 1 (0)
  --zones Z          zones, with a thin link between each two (1)
  --seed S           the same seed gives the same run (1)
  --json             one JSON object alone on standard output
  --full             the sweep's long runs too: one needs 10 minutes or more and 4 GiB
`

/** Reads a number; ends the program with a message when it is none. */
function number(name: string, text: string, min: number, max: number, whole: boolean): number {
  const value = Number(text)
  if (text !== '' && value >= min && value <= max && (!whole || Number.isInteger(value))) return value
  console.error(`--${name} is a ${whole ? 'whole number' : 'number'} from ${min} to ${max}, not ${text}`)
  process.exit(2)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    peers: { type: 'string', default: '1000' },
    chunks: { type: 'string', default: '125' },
    degree: { type: 'string' },
    'origin-rate': { type: 'string', default: '1' },
    'latency-ms': { type: 'string', default: '1' },
    churn: { type: 'string', default: '0' },
    liars: { type: 'string', default: '0' },
    zones: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    full: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  process.stdout.write(HELP)
} else if (positionals[0] === 'sweep') {
  sweep(values.full)
} else {
  const begun = performance.now()
  const outcome = simulate({
    peers: number('peers', values.peers, 1, 100_000, true),
    chunks: number('chunks', values.chunks, 1, 65_536, true),
    ...(values.degree === undefined ? {} : { degree: number('degree', values.degree, 1, 64, true) }),
    originRate: number('origin-rate', values['origin-rate'], 0.001, 1000, false),
    latencyMs: number('latency-ms', values['latency-ms'], 0, 10_000, false),
    churn: number('churn', values.churn, 0, 1, false),
    liars: number('liars', values.liars, 0, 1, false),
    zones: number('zones', values.zones, 1, 1000, true),
    seed: number('seed', values.seed, 0, 2 ** 32 - 1, true),
  })
  const { user, system } = process.cpuUsage()
  const result = {
    ...outcome,
    wallSeconds: (performance.now() - begun) / 1000,
    cpuSeconds: (user + system) / 1e6,
    peakMiB: process.resourceUsage().maxRSS / 1024,
  }
  if (values.json) console.log(JSON.stringify(result))
  else for (const [name, value] of Object.entries(result)) console.log(`${name.padEnd(22)} ${String(value)}`)
}
