import { parseArgs } from 'node:util'
import { parseBytes } from '@darter/runtime'
import { createScratch, type Lab } from '../harness/lab.ts'
import { type Program, requirePrograms } from '../harness/programs.ts'
import { measureDoor } from './door.ts'
import { measureOverhead } from './overhead.ts'
import { measurePair } from './pair.ts'

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
    if (!/^[1-9]\d{0,2}$/.test(values.rounds)) throw new UsageError('--rounds takes 1 to 999')
    const size = parseBytes(values.size)
    if (requirePrograms(programs).skip !== false) {
      process.exitCode = 1
      return
    }
    const lab = createScratch(name)
    try {
      const result = await measure(lab, { size, rounds: Number(values.rounds) })
      console.log(JSON.stringify(result, null, values.json ? undefined : 2))
    } finally {
      await lab.close()
    }
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
}

const [name = '', ...args] = process.argv.slice(2)
const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
if (bench === undefined) {
  console.error(`usage: npm run --silent bench -- ${Object.keys(BENCHES).join('|')} [--json]`)
  process.exitCode = 2
} else {
  await bench(args)
}
