import assert from 'node:assert/strict'
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { createLogger, type Clock } from '@darter/runtime'
import { openCatalog } from '../src/tags/catalog.ts'
import { digestOf } from './support/image.ts'

let dir: string
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'darter-catalog-'))
})
after(() => rm(dir, { recursive: true, force: true }))

const log = createLogger({ level: 'silent', name: 'test' })
let wall = 1_000_000_000
const clock: Clock = { now: () => wall, wall: () => wall }
const place = { upstream: 'docker.io', repository: 'library/x' }
const other = { upstream: 'docker.io', repository: 'library/y' }
const a = { digest: digestOf('a'), size: 1, mediaType: 'application/a' }
const b = { digest: digestOf('b'), size: 2, mediaType: 'application/b' }
const layer = { digest: digestOf('layer'), size: 99, mediaType: 'application/layer' }

const openIn = (name: string) => openCatalog({ file: join(dir, name, 'catalog'), clock, log })

test('tags, manifests and openness outlive the program; members that were only asked about do not', async () => {
  const first = await openIn('again')
  first.setTag(place, 'v1', 15, a, true)
  first.setTag(other, 'v1', 15, b, false)
  first.setManifest(place, a.digest, { ...a, children: [layer] }, true)
  first.setMember(place, digestOf('asked'), { size: 5 })
  await first.close()
  const second = await openIn('again')
  assert.deepEqual(second.tag(place, 'v1', 15), a)
  assert.deepEqual(second.tag(other, 'v1', 15), b)
  assert.equal(second.openSince(place), wall)
  assert.equal(second.openSince(other), undefined)
  assert.equal(second.hasManifest(place, a.digest), true)
  assert.equal(second.member(place, layer.digest)?.size, 99)
  assert.equal(second.member(other, layer.digest), undefined)
  assert.equal(second.member(place, digestOf('asked')), undefined)
  await second.close()
  const { mode } = await stat(join(dir, 'again', 'catalog'))
  assert.equal(mode & 0o777, 0o600)
  assert.equal((await stat(join(dir, 'again'))).mode & 0o777, 0o700)
})

test('a tag is kept for each list of accepted types, and any of them serves another', async () => {
  const catalog = await openCatalog({ clock, log })
  catalog.setTag(place, 'v1', 15, a, true)
  catalog.setTag(place, 'v1', 8, b, true)
  assert.equal(catalog.tag(place, 'v1', 15)?.digest, a.digest)
  assert.equal(catalog.tag(place, 'v1', 8)?.digest, b.digest)
  assert.equal(catalog.tag(place, 'v1', 1)?.digest, b.digest)
  catalog.dropTag(place, 'v1')
  assert.equal(catalog.tag(place, 'v1', 15), undefined)
})

test('what was dropped, deleted or closed stays so after a restart', async () => {
  const first = await openIn('dropped')
  first.setTag(place, 'v1', 15, a, true)
  first.setTag(place, 'v2', 15, b, true)
  first.setManifest(place, a.digest, { ...a, children: [layer] }, true)
  first.dropTag(place, 'v1')
  first.dropMember(place, a.digest)
  first.setClosed(place)
  await first.close()
  const second = await openIn('dropped')
  assert.equal(second.tag(place, 'v1', 15), undefined)
  assert.equal(second.tag(place, 'v2', 15)?.digest, b.digest)
  assert.equal(second.member(place, a.digest), undefined)
  assert.equal(second.openSince(place), undefined)
  await second.close()
})

test('torn, foreign and hostile lines are passed over', async () => {
  const first = await openIn('torn')
  first.setTag(place, 'v1', 15, a, true)
  await first.close()
  const file = join(dir, 'torn', 'catalog')
  const good = (await readFile(file, 'utf8')).trim()
  const hostile = [
    '{}',
    'null',
    '[]',
    good.replace('library/x', '../x'),
    good.replace('"t":"v1"', '"t":".."'),
    good.replace('sha256:', 'sha256-'),
    good.replace('"s":1', '"s":-1'),
  ]
  await appendFile(file, `${hostile.join('\n')}\n${good.slice(0, 40)}`)
  const second = await openIn('torn')
  assert.deepEqual(second.tag(place, 'v1', 15), a)
  // What is written behind a torn line must not become part of it.
  second.setTag(place, 'v2', 15, b, true)
  await second.close()
  const third = await openIn('torn')
  assert.deepEqual(third.tag(place, 'v2', 15), b)
  await third.close()
})

test('the file is written anew when most of it no longer counts', async () => {
  const catalog = await openIn('compact')
  for (let n = 0; n < 5000; n++) {
    catalog.setTag(place, 'v1', 15, { ...a, size: n }, true)
    if (n % 500 === 0) await catalog.close()
  }
  await catalog.close()
  const lines = (await readFile(join(dir, 'compact', 'catalog'), 'utf8')).trim().split('\n')
  assert.ok(lines.length < 2500, `${lines.length} lines`)
  const again = await openIn('compact')
  assert.equal(again.tag(place, 'v1', 15)?.size, 4999)
  await again.close()
})

test('what does not change is not written again, but for its being open once an hour', async () => {
  const catalog = await openIn('quiet')
  const file = join(dir, 'quiet', 'catalog')
  for (let n = 0; n < 10; n++) catalog.setTag(place, 'v1', 15, a, true)
  await catalog.close()
  assert.equal((await readFile(file, 'utf8')).trim().split('\n').length, 1)
  wall += 2 * 3_600_000
  catalog.setTag(place, 'v1', 15, a, true)
  await catalog.close()
  assert.equal((await readFile(file, 'utf8')).trim().split('\n').length, 2)
})

test('a directory that cannot be written loses nothing but the memory of a restart', async () => {
  const blocked = join(dir, 'file')
  await writeFile(blocked, '')
  const catalog = await openCatalog({ file: join(blocked, 'below', 'catalog'), clock, log })
  catalog.setTag(place, 'v1', 15, a, true)
  await catalog.close()
  assert.deepEqual(catalog.tag(place, 'v1', 15), a)
})
