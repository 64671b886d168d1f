import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { isMap, isScalar, LineCounter, parseDocument, type YAMLMap } from 'yaml'
import { ConfigError, type Problem } from './errors.ts'
import { nearest } from './nearest.ts'
import { type Environment, flagOf, type OptionKey, optionRows, variableOf } from './schema.ts'

/** A value that was given for an option, not yet checked. */
export interface Given {
  readonly raw: unknown
  /** Where it came from, such as `--door-port`, `DARTER_DOOR_PORT` or `darter.yaml:3`. */
  readonly source: string
  /** Where relative paths in it start. */
  readonly baseDir: string
}

/** What one source gives. */
export type Source = ReadonlyMap<OptionKey, Given>

const KEYS: ReadonlyMap<string, OptionKey> = new Map(optionRows().map(([key]) => [key, key]))
const MAX_FILE_BYTES = 1024 * 1024

/** What to do about a word that is not allowed, as the end of a sentence. */
function suggestion(given: string, allowed: readonly string[], otherwise: string): string {
  const meant = nearest(given, allowed)
  return meant === undefined ? otherwise : `did you mean ${meant}?`
}

/** The problem with a key of a file that no option has. */
function unknownKey(key: string, source: string): Problem {
  const section = key.includes('.') ? key.slice(0, key.lastIndexOf('.') + 1) : ''
  const siblings = [...KEYS.keys()].filter(known => known.startsWith(section))
  const allowed = new Set(siblings.map(known => known.slice(section.length).split('.')[0] ?? ''))
  return `${key} (${source}) is not an option: ${suggestion(
    key,
    [...KEYS.keys()],
    `${section === '' ? 'the file' : section.slice(0, -1)} takes ${[...allowed].join(', ')}`,
  )}`
}

/** Whether it is what Kubernetes sets in every container for a Service that is called darter or darter-*. */
function isServiceLink(name: string, value: string): boolean {
  return (
    /_SERVICE_(HOST|PORT(_.+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name) ||
    (name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value))
  )
}

/**
 * The options among environment variables; an empty one counts as not set.
 * @throws {ConfigError} for a variable that starts with `DARTER_` and is none (those of Kubernetes' Services aside).
 */
export function readEnvironment(env: Environment): Source {
  const variables = new Map(optionRows().map(([key, row]) => [variableOf(key), { key, many: row.type.many }]))
  const given = new Map<OptionKey, Given>()
  const problems: Problem[] = []
  for (const [name, value] of Object.entries(env)) {
    if (
      !name.startsWith('DARTER_') ||
      name === 'DARTER_CONFIG' ||
      value === undefined ||
      value === '' ||
      isServiceLink(name, value)
    ) {
      continue
    }
    const known = variables.get(name)
    if (known !== undefined) {
      const raw = known.many === true ? splitList(value) : value
      given.set(known.key, { raw, source: name, baseDir: process.cwd() })
    } else {
      problems.push(
        `${name} (environment) is not an option: ${suggestion(name, [...variables.keys()], 'see darter --help')}`,
      )
    }
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return given
}

const splitList = (text: string) =>
  text
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '')

/** The options among flags. `flags` holds what was given, by key: text, a list of texts, or a boolean. */
export function readFlags(flags: ReadonlyMap<OptionKey, unknown>): Source {
  const rows = new Map(optionRows())
  return new Map(
    [...flags].flatMap(([key, raw]) => {
      const row = rows.get(key)
      if (row === undefined) return []
      const source = raw === false ? flagOf(key, row).replace('--', '--no-') : flagOf(key, row)
      return [[key, { raw, source, baseDir: process.cwd() }]]
    }),
  )
}

/** Read when they are there and no file is named: the first one is used. */
export const DEFAULT_FILES = ['darter.yaml', '/etc/darter/darter.yaml'] as const

/** The file to read: the one named (none for an empty name), else the first default file that exists, else none. */
export async function findConfigFile(named: string | undefined): Promise<string | undefined> {
  if (named === '') return undefined
  if (named !== undefined) return resolve(named)
  for (const file of DEFAULT_FILES) {
    const found = await stat(file).then(
      stats => stats.isFile(),
      () => false,
    )
    if (found) return resolve(file)
  }
  return undefined
}

/**
 * The options in a YAML file.
 * @throws {ConfigError} when it cannot be read, is no YAML map, or has a key that no option has.
 */
export async function readConfigFile(file: string): Promise<Source> {
  let text: string
  try {
    if ((await stat(file)).size > MAX_FILE_BYTES) throw new Error('it is larger than 1 MiB')
    text = await readFile(file, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ConfigError([`cannot read the configuration file ${file}: ${reason}`], { cause })
  }
  return parseConfigFile(text, file)
}

/** The options in the text of a YAML file; `file` is its absolute path. @throws {ConfigError} */
export function parseConfigFile(text: string, file: string): Source {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const at = (offset: number | undefined) =>
    `${file}:${offset === undefined ? 1 : lines.linePos(offset).line}`
  if (document.errors.length > 0) {
    throw new ConfigError(document.errors.map(error => `${at(error.pos[0])}: ${error.message}`))
  }
  const given = new Map<OptionKey, Given>()
  const problems: Problem[] = []

  const walk = (map: YAMLMap, prefix: string) => {
    for (const pair of map.items) {
      const name = isScalar(pair.key) ? String(pair.key.value) : '?'
      const offset = isScalar(pair.key) ? pair.key.range?.[0] : undefined
      const key = `${prefix}${name}`
      const option = KEYS.get(key)
      const source = at(offset)
      if (option !== undefined) {
        const raw = document.getIn(key.split('.'), true)
        given.set(option, { raw: toPlain(raw), source, baseDir: dirname(file) })
      } else if ([...KEYS.keys()].some(known => known.startsWith(`${key}.`))) {
        if (isMap(pair.value)) walk(pair.value, `${key}.`)
        else if (!(isScalar(pair.value) && pair.value.value === null)) {
          problems.push(
            `${key} (${source}) is not a value: it takes options below it, such as ${firstBelow(key)}`,
          )
        }
      } else {
        problems.push(unknownKey(key, source))
      }
    }
  }
  const toPlain = (node: unknown): unknown =>
    node !== null && typeof node === 'object' && 'toJS' in node && typeof node.toJS === 'function'
      ? node.toJS(document, { maxAliasCount: 100 })
      : node
  const firstBelow = (key: string) => [...KEYS.keys()].find(known => known.startsWith(`${key}.`)) ?? key

  if (isMap(document.contents)) walk(document.contents, '')
  else if (document.contents !== null) throw new ConfigError([`${file}: it must be a YAML map of options`])
  if (problems.length > 0) throw new ConfigError(problems)
  return given
}
