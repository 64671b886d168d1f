import assert from 'node:assert/strict'
import { test } from 'node:test'
import { violations } from './imports.mjs'

const breaks = (file, text, pattern) => {
  const found = violations(file, text)
  assert.equal(found.length, 1, `${file}: ${text}`)
  assert.match(found[0], pattern)
}

test('a room may import those below it', () => {
  assert.deepEqual(
    violations('peer/src/a.ts', "import { x } from '@darter/store'\nimport y from 'fastify'"),
    [],
  )
  assert.deepEqual(
    violations(
      'packages/oci/test/a.test.ts',
      "import { test } from 'node:test'\nimport { x } from '@darter/oci'",
    ),
    [],
  )
})

test('no room may import one above or beside it', () => {
  breaks('packages/store/src/a.ts', "import type { X } from '@darter/peer'", /arrows point down/)
  breaks('packages/oci/src/a.ts', "export * from '@darter/swarm'", /arrows point down/)
  breaks('peer/src/a.ts', "const s = await import('@darter/scheduler')", /arrows point down/)
  breaks('scheduler/src/a.ts', "import {\n  x,\n} from '@darter/peer'", /arrows point down/)
  breaks('packages/store/test/a.test.ts', "import '@darter/exchange'", /arrows point down/)
})

test('tests of every room may start real programs, and no program may', () => {
  assert.deepEqual(violations('peer/test/a.test.ts', "import { useLab } from '@darter/testing'"), [])
  assert.deepEqual(violations('test/e2e/a.test.ts', "import { useLab } from '@darter/testing'"), [])
  breaks('peer/src/a.ts', "import { useLab } from '@darter/testing'", /arrows point down/)
  breaks('packages/testing/src/a.ts', "import '@darter/peer'", /arrows point down/)
})

test('no room may reach around another one’s index', () => {
  breaks(
    'peer/src/a.ts',
    "import { x } from '../../packages/store/src/disk.ts'",
    /reaches into packages\/store/,
  )
  breaks('packages/cli/src/a.ts', "import { x } from '@darter/cli'", /relative path/)
})

test('pure rooms have no I/O, clock or randomness', () => {
  breaks('packages/wire/src/a.ts', "import { createHash } from 'node:crypto'", /is pure/)
  breaks('packages/wire/src/a.ts', "import fs from 'fs'", /is pure/)
  breaks('packages/swarm/src/a.ts', 'const now = Date.now()', /uses Date\.now/)
  breaks('packages/swarm/src/a.ts', 'x.sort(() => Math.random() - 0.5)', /uses Math\.random/)
  breaks('packages/oci/src/a.ts', 'const t = process.env.X', /uses process\./)
  assert.deepEqual(
    violations('packages/oci/src/a.ts', '/** Not Date.now() here. */\nconst x = 1 // nor fetch'),
    [],
  )
  assert.deepEqual(violations('packages/runtime/src/a.ts', "import 'node:os'\nDate.now()"), [])
})

test('only the exchange knows libp2p', () => {
  breaks('peer/src/a.ts', "import { createLibp2p } from 'libp2p'", /only packages\/exchange/)
  breaks(
    'scheduler/src/a.ts',
    "import { multiaddr } from '@multiformats/multiaddr'",
    /only packages\/exchange/,
  )
  assert.deepEqual(violations('packages/exchange/src/a.ts', "import { createLibp2p } from 'libp2p'"), [])
})

test('a file in no known room is told', () => {
  breaks('packages/other/src/a.ts', '', /no room/)
})
