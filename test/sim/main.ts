import { parseArgs } from 'node:util'
import { simulate } from './simulate.ts'

const { values } = parseArgs({
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
  },
})
const begun = performance.now()
const outcome = simulate({
  peers: Number(values.peers),
  chunks: Number(values.chunks),
  ...(values.degree === undefined ? {} : { degree: Number(values.degree) }),
  originRate: Number(values['origin-rate']),
  latencyMs: Number(values['latency-ms']),
  churn: Number(values.churn),
  liars: Number(values.liars),
  zones: Number(values.zones),
  seed: Number(values.seed),
})
console.log(JSON.stringify({ ...outcome, wallSeconds: (performance.now() - begun) / 1000 }))
