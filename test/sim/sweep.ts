import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { linePlot, type Series } from '../bench/plot.ts'
import type { Outcome, Scenario } from './scenario.ts'
import { simulate } from './simulate.ts'

const DOCS = join(import.meta.dirname, '..', '..', 'docs')
const PAGE = join(DOCS, 'SIMULATION.md')
const LATENCIES = [1, 20]
const CALM = { originRate: 1, churn: 0, liars: 0, zones: 1, seed: 1, latencyMs: 1 } as const

interface Run {
  readonly scenario: Scenario
  readonly outcome: Outcome
  readonly cpuSeconds: number
}

function run(part: Partial<Scenario> & Pick<Scenario, 'peers' | 'chunks'>): Run {
  const scenario: Scenario = { ...CALM, ...part }
  process.stderr.write(`${JSON.stringify(part)} ...\n`)
  const begun = process.cpuUsage()
  const outcome = simulate(scenario)
  const { user, system } = process.cpuUsage(begun)
  const cpuSeconds = (user + system) / 1e6
  const { lastRatio, originRatio } = outcome
  process.stderr.write(`  ${JSON.stringify({ lastRatio, originRatio, cpuSeconds })}\n`)
  return { scenario, outcome, cpuSeconds }
}

const ratio = (value: number): string => (Number.isFinite(value) ? value.toFixed(3) : 'never')

function table(runs: readonly Run[], what: (scenario: Scenario) => string): string {
  const rows = runs.map(({ scenario, outcome, cpuSeconds }) => {
    const { peers, chunks, latencyMs } = scenario
    const cells = [
      `${peers} x ${chunks}${what(scenario)}`,
      `${latencyMs} ms`,
      ...[outcome.p50Ratio, outcome.p99Ratio, outcome.lastRatio, outcome.originRatio].map(ratio),
      String(outcome.unfinished),
      outcome.messagesPerPeer.toFixed(0),
      cpuSeconds.toFixed(0),
    ]
    return `| ${cells.join(' | ')} |`
  })
  return [
    '| Peers x chunks | Latency | p50 | p99 | Last | Origin | Unfinished | Messages per peer | CPU seconds |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n')
}

/** One line for each latency: the last peer's ratio over something of the scenario. */
function lines(runs: readonly Run[], x: (scenario: Scenario) => number): Series[] {
  return LATENCIES.map(latency => ({
    name: `${latency} ms`,
    points: runs
      .filter(({ scenario }) => scenario.latencyMs === latency)
      .map(({ scenario, outcome }) => [x(scenario), outcome.lastRatio] as const),
  }))
}

function replaceSection(page: string, name: string, content: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [from, to] = [page.indexOf(begin), page.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${PAGE} has no section ${name}`)
  return `${page.slice(0, from + begin.length)}\n${content}\n${page.slice(to)}`
}

/** Simulates many swarms and writes what came of it into docs/SIMULATION.md and docs/images. */
export function sweep(full: boolean): void {
  const both = (parts: readonly (Partial<Scenario> & Pick<Scenario, 'peers' | 'chunks'>)[]): Run[] =>
    parts.flatMap(part => LATENCIES.map(latencyMs => run({ ...part, latencyMs })))
  const sizes = both([8, 32, 125, 500, 1000, 2000].map(peers => ({ peers, chunks: 125 })))
  const chunks = both([16, 32, 64, 125, 250, 500, 1000].map(count => ({ peers: 200, chunks: count })))
  const troubles: readonly (Partial<Scenario> & { name: string })[] = [
    { name: '', churn: 0 },
    { name: ', 10 % leave', churn: 0.1 },
    { name: ', 5 % lie', liars: 0.05 },
    { name: ', two zones', zones: 2 },
    { name: ', all of it', churn: 0.1, liars: 0.05, zones: 2 },
  ]
  const faults = troubles.map(({ name, ...part }) => ({
    name,
    run: run({ peers: 500, chunks: 125, ...part }),
  }))
  let page = readFileSync(PAGE, 'utf8')
  page = replaceSection(
    page,
    'sizes',
    table(sizes, () => ''),
  )
  page = replaceSection(
    page,
    'chunks',
    table(chunks, () => ''),
  )
  page = replaceSection(
    page,
    'faults',
    table(
      faults.map(fault => fault.run),
      scenario => faults.find(fault => fault.run.scenario === scenario)?.name ?? '',
    ),
  )
  if (full) {
    const large = [
      ...both([
        { peers: 5000, chunks: 125 },
        { peers: 1000, chunks: 2500 },
      ]),
      run({ peers: 20_000, chunks: 256 }),
    ]
    page = replaceSection(
      page,
      'large',
      table(large, () => ''),
    )
  }
  writeFileSync(PAGE, page)
  const images = join(DOCS, 'images')
  mkdirSync(images, { recursive: true })
  const common = { yLabel: 'finish time of the last peer / bound', yFrom: 1, xLog: true }
  writeFileSync(
    join(images, 'sim-peers.svg'),
    linePlot({
      ...common,
      title: 'One blob of 125 chunks to many peers',
      xLabel: 'peers',
      series: lines(sizes, ({ peers }) => peers),
    }),
  )
  writeFileSync(
    join(images, 'sim-chunks.svg'),
    linePlot({
      ...common,
      title: 'One blob to 200 peers, cut into chunks',
      xLabel: 'chunks',
      series: lines(chunks, scenario => scenario.chunks),
    }),
  )
}
