import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { parseBytes, UnitError } from '@darter/runtime'
import { createScratch, type Lab, type Program, requirePrograms } from '@darter/testing'
import { measureDoor } from './door.ts'
import { measureOverhead } from './overhead.ts'
import { measurePair } from './pair.ts'
import { measureRanges } from './ranges.ts'
import { measureScheduler } from './scheduler.ts'
import { measureSwarm } from './swarm.ts'

/** A wrong command line. */
class UsageError extends Error {}

/** A bench of `rounds` transfers of one blob; `--json` prints its result on one line. */
function rounds(
  name: string,
  programs: readonly Program[],
  measure: (lab: Lab, options: { readonly size: number; readonly rounds: number }) => Promise<object>,
) {
  return async (args: readonly string[]) => {
    const { values } = parseArgs({
      args: [...args],
      options: {
        json: { type: 'boolean', default: false },
        rounds: { type: 'string', default: '5' },
        size: { type: 'string', default: '1GiB' },
      },
    })
    const count = wholeNumber('rounds', values.rounds, 999)
    const size = parseBytes(values.size)
    if (requirePrograms(programs).skip !== false) {
      process.exitCode = 1
      return
    }
    const lab = createScratch(name)
    try {
      const result = await measure(lab, { size, rounds: count })
      console.log(JSON.stringify(result, null, values.json ? undefined : 2))
    } finally {
      await lab.close()
    }
  }
}

function wholeNumber(name: string, text: string, max: number): number {
  const value = Number(text)
  if (/^[1-9]\d*$/.test(text) && value <= max) return value
  throw new UsageError(`--${name} takes 1 to ${max}`)
}

/** `100mbit` and the like, as tc(8) takes them, in bit/s. */
function bitRate(name: string, text: string): number {
  const [, digits, unit = ''] = /^(\d{1,6})(k|m|g)bit$/.exec(text) ?? []
  const value = Number(digits) * ({ k: 1e3, m: 1e6, g: 1e9 }[unit] ?? Number.NaN)
  if (value > 0) return value
  throw new UsageError(`--${name} takes a rate such as 100mbit`)
}

function congestionControl(name: string): string {
  const setting = '/proc/sys/net/ipv4/tcp_allowed_congestion_control'
  const allowed = readFileSync(setting, 'utf8').trim().split(' ')
  if (allowed.includes(name)) return name
  throw new UsageError(`--congestion-control takes one that ${setting} names: ${allowed.join(', ')}`)
}

async function swarm(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean', default: false },
      peers: { type: 'string', default: '8' },
      rate: { type: 'string', default: '100mbit' },
      'origin-rate': { type: 'string' },
      size: { type: 'string', default: '128MiB' },
      layers: { type: 'string', default: '1' },
      'warm-up': { type: 'string', default: '64MiB' },
      'stagger-ms': { type: 'string', default: '0' },
      'congestion-control': { type: 'string', default: 'reno' },
      plot: { type: 'string' },
    },
  })
  const options = {
    peers: wholeNumber('peers', values.peers, 64),
    bitsPerSecond: bitRate('rate', values.rate),
    originBitsPerSecond: bitRate('origin-rate', values['origin-rate'] ?? values.rate),
    size: parseBytes(values.size),
    layers: wholeNumber('layers', values.layers, 64),
    warmUp: values['warm-up'] === '0' ? 0 : parseBytes(values['warm-up']),
    staggerMs: values['stagger-ms'] === '0' ? 0 : wholeNumber('stagger-ms', values['stagger-ms'], 60_000),
    congestionControl: congestionControl(values['congestion-control']),
    plotFile: values.plot,
  }
  if (requirePrograms(['docker-registry', 'curl', 'ip', 'tc'], { root: true }).skip !== false) {
    process.exitCode = 1
    return
  }
  const lab = createScratch('swarm-bench')
  try {
    const result = await measureSwarm(lab, options)
    console.log(JSON.stringify(result, null, values.json ? undefined : 2))
  } finally {
    await lab.close()
  }
}

async function ranges(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean', default: false },
      peers: { type: 'string', default: '4' },
      percent: { type: 'string', default: '5' },
      size: { type: 'string', default: '1GiB' },
    },
  })
  const options = {
    peers: wholeNumber('peers', values.peers, 32),
    percent: wholeNumber('percent', values.percent, 100),
    size: parseBytes(values.size),
  }
  if (options.size < 16 * 1024 * 1024) throw new UsageError('--size takes 16MiB or more')
  if (requirePrograms(['docker-registry']).skip !== false) {
    process.exitCode = 1
    return
  }
  const lab = createScratch('ranges-bench')
  try {
    const result = await measureRanges(lab, options)
    console.log(JSON.stringify(result, null, values.json ? undefined : 2))
  } finally {
    await lab.close()
  }
}

async function scheduler(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean', default: false },
      peers: { type: 'string', default: '10000' },
      processes: { type: 'string', default: '2' },
      zones: { type: 'string', default: '1' },
      size: { type: 'string', default: '1GiB' },
      'join-seconds': { type: 'string', default: '20' },
      'pull-seconds': { type: 'string', default: '60' },
      restart: { type: 'boolean', default: false },
    },
  })
  const lab = createScratch('scheduler-bench')
  try {
    const result = await measureScheduler(lab, {
      peers: wholeNumber('peers', values.peers, 10_000),
      processes: wholeNumber('processes', values.processes, 64),
      zones: wholeNumber('zones', values.zones, 1000),
      size: parseBytes(values.size),
      joinSeconds: wholeNumber('join-seconds', values['join-seconds'], 3600),
      pullSeconds: wholeNumber('pull-seconds', values['pull-seconds'], 3600),
      restart: values.restart,
    })
    console.log(JSON.stringify(result, null, values.json ? undefined : 2))
  } finally {
    await lab.close()
  }
}

/**
 * Measurements by name, such as `npm run --silent bench -- pair --json`. Results go to standard output, progress to
 * standard error. Exit code 2 when used wrongly; the numbers themselves fail nothing.
 */
const BENCHES: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  overhead: measureOverhead,
  pair: rounds('pair', ['docker-registry', 'openssl'], measurePair),
  door: rounds('door', ['docker-registry', 'nginx'], measureDoor),
  ranges,
  scheduler,
  swarm,
}

const [name = '', ...args] = process.argv.slice(2)
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
if (bench === undefined) {
  console.error(`usage: npm run --silent bench -- ${Object.keys(BENCHES).join('|')} [--json]`)
  process.exitCode = 2
} else {
  try {
    await bench(args)
  } catch (error) {
    const isParsing =
      error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')
    if (!isParsing && !(error instanceof UsageError) && !(error instanceof UnitError)) throw error
    console.error(`bench: ${error.message}`)
    process.exitCode = 2
  }
}
