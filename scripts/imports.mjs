// The rules for what may import what: arrows point down, and the rooms that decide stay free of I/O.
import { globSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, normalize, relative, sep } from 'node:path'

/** Each room with the rooms below it. Nothing else of the workspace may be imported there. */
const BELOW = {
  'packages/oci': [],
  'packages/testing': ['oci'],
  'packages/formats': ['oci'],
  'packages/swarm': ['oci'],
  'packages/wire': ['oci', 'swarm'],
  'packages/runtime': ['oci'],
  'packages/store': ['oci', 'swarm', 'runtime'],
  'packages/origin': ['oci', 'runtime'],
  'packages/exchange': ['oci', 'swarm', 'wire', 'runtime'],
  scheduler: ['oci', 'swarm', 'wire', 'runtime', 'exchange'],
  peer: ['oci', 'formats', 'swarm', 'wire', 'runtime', 'store', 'origin', 'exchange'],
  'packages/cli': ['oci', 'swarm', 'wire', 'runtime', 'store', 'origin', 'exchange', 'scheduler', 'peer'],
  test: ['oci', 'swarm', 'wire', 'runtime', 'store', 'origin', 'exchange', 'scheduler', 'peer', 'cli'],
}

/** The room that starts real programs: tests of every room may import it, and no program may. */
const TESTING = 'testing'

/** Rooms that decide from what they are told: no I/O, no clock, no randomness of their own. */
const PURE = ['packages/oci', 'packages/swarm', 'packages/wire']
const IMPURE =
  /\b(?:Date\.now|new Date\(\)|Math\.random|performance\.now|setTimeout|setInterval|setImmediate|queueMicrotask)\b|(?<![.\w])fetch\(|\bprocess\./

/** The only room that knows libp2p, and the test harness that plays a hostile peer. */
const LIBP2P = /^(?:libp2p|@libp2p\/.*|@chainsafe\/libp2p-.*|@multiformats\/.*)$/
const LIBP2P_ROOMS = ['packages/exchange', 'test']

const SPECIFIER = /(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\1/g
const withoutComments = text => text.replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, '')

const roomOf = file => Object.keys(BELOW).find(room => file.startsWith(`${room}/`))

/**
 * What a file breaks, one sentence each.
 * @param {string} file path from the root, with `/`
 * @param {string} text its source
 */
export function violations(file, text) {
  const room = roomOf(file)
  if (room === undefined) return [`${file} lies in no room that scripts/imports.mjs knows`]
  const source = file.startsWith(`${room}/src/`)
  const code = withoutComments(text)
  const found = []
  for (const [, , specifier] of code.matchAll(SPECIFIER)) {
    const workspace = /^@darter\/([a-z]+)(\/.*)?$/.exec(specifier)
    if (workspace !== null) {
      const own = `@darter/${room.split('/').pop()}` === `@darter/${workspace[1]}`
      if (own && source) found.push(`${file} imports its own room by name: use a relative path`)
      const test = !source && workspace[1] === TESTING
      if (!own && !test && !BELOW[room].includes(workspace[1]))
        found.push(`${file} imports ${specifier}: arrows point down only`)
    } else if (specifier.startsWith('.')) {
      const target = normalize(join(dirname(file), specifier))
        .split(sep)
        .join('/')
      if (!target.startsWith(`${room}/`))
        found.push(`${file} reaches into ${target}: import the room by its name`)
    } else if (LIBP2P.test(specifier) && !LIBP2P_ROOMS.includes(room)) {
      found.push(`${file} imports ${specifier}: only packages/exchange knows libp2p`)
    }
    if (source && PURE.includes(room) && isBuiltin(specifier))
      found.push(`${file} imports ${specifier}: ${room} is pure`)
  }
  const impure = source && PURE.includes(room) ? IMPURE.exec(code) : null
  if (impure !== null) found.push(`${file} uses ${impure[0]}: ${room} is pure`)
  return found
}

/** What all source files below `root` break, and how many there are. */
export function checkImports(root) {
  const files = Object.keys(BELOW).flatMap(room =>
    globSync(`${room}/**/*.ts`, { cwd: root, exclude: name => name.includes('node_modules') }),
  )
  const found = files.flatMap(file =>
    violations(relative(root, join(root, file)).split(sep).join('/'), readFileSync(join(root, file), 'utf8')),
  )
  return { files: files.length, found }
}

if (import.meta.main) {
  const { files, found } = checkImports(join(import.meta.dirname, '..'))
  for (const sentence of found) console.error(sentence)
  if (files === 0) console.error('no source files were found')
  process.exitCode = files > 0 && found.length === 0 ? 0 : 1
}
