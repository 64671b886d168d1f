import type { z } from 'zod'
import { ConfigError, type Problem, shownValue } from './errors.ts'
import { nearest } from './nearest.ts'
import { type Environment, type OptionKey, optionRows, type Settings } from './schema.ts'
import type { Given, Source } from './sources.ts'
import { UPSTREAM_KEYS } from './upstreams.ts'

/** The options' values, each with where it came from. */
export interface Resolved {
  readonly settings: Settings
  /** `default` for a value that nobody gave. */
  readonly sources: ReadonlyMap<OptionKey, string>
}

/**
 * Every option's value from the first source that gives it, else its default.
 * @throws {ConfigError} with one problem for each value that is not allowed.
 */
export function resolveSettings(sources: readonly Source[], env: Environment): Resolved {
  const values = new Map<OptionKey, unknown>()
  const origins = new Map<OptionKey, string>()
  const problems: Problem[] = []
  for (const [key, row] of optionRows()) {
    const given: Given = sources.map(source => source.get(key)).find(found => found !== undefined) ?? {
      raw: row.default(env),
      source: 'default',
      baseDir: process.cwd(),
    }
    origins.set(key, given.source)
    if (given.raw === undefined) {
      values.set(key, undefined)
      continue
    }
    const read = row.type.schema({ baseDir: given.baseDir }).safeParse(given.raw)
    if (read.success) values.set(key, read.data)
    else problems.push(...read.error.issues.flatMap(issue => describe(key, given, issue)))
  }
  if (problems.length > 0) throw new ConfigError(problems)
  // Each value came out of the schema of its own row, which is where Settings takes its types from.
  return { settings: Object.fromEntries(values) as Settings, sources: origins }
}

/** The problems that an issue stands for, naming key, source, value and what is allowed. */
function describe(key: OptionKey, given: Given, issue: z.core.$ZodIssue): readonly Problem[] {
  const { raw, source } = given
  const path = Array.isArray(raw) || typeof issue.path[0] !== 'number' ? issue.path : issue.path.slice(1)
  const name = path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : `${text}.${String(step)}`),
    key,
  )
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(unknown => {
      const meant = nearest(unknown, UPSTREAM_KEYS)
      const hint = meant === undefined ? `it takes ${UPSTREAM_KEYS.join(', ')}` : `did you mean ${meant}?`
      return `${name}.${unknown} (${source}) is not an option: ${hint}`
    })
  }
  if (issue.code === 'custom' && typeof issue.params?.['statement'] === 'string') {
    return [`${name} (${source}) ${issue.params['statement']}`]
  }
  const { value, missing } = at(raw, path)
  if (missing) return [`${name} (${source}) is missing: expected ${issue.message}`]
  const shown = name.endsWith('password') ? 'its value' : shownValue(value)
  return [`${name} (${source}): ${shown} is not ${issue.message}`]
}

/** What lies at a path in a raw value; the text itself where a short form has no parts. */
function at(raw: unknown, path: readonly PropertyKey[]): { value: unknown; missing: boolean } {
  let value = raw
  for (const step of path) {
    if (value === null || typeof value !== 'object') return { value, missing: false }
    const below: unknown = Reflect.get(value, step)
    if (below === undefined) return { value: undefined, missing: true }
    value = below
  }
  return { value, missing: false }
}
