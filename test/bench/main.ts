import { measureOverhead } from './overhead.ts'

/**
 * Measurements by name: `npm run --silent bench -- overhead [--json] [--rounds 5] [--size-mib 256]`. Exit code 2 when used
 * wrongly; the numbers themselves fail nothing.
 */
const BENCHES: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  overhead: measureOverhead,
}

const [name = '', ...args] = process.argv.slice(2)
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
if (bench === undefined) {
  console.error(`usage: npm run --silent bench -- ${Object.keys(BENCHES).join('|')} [--json]`)
  process.exitCode = 2
} else {
  await bench(args)
}
