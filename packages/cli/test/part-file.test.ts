import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chownSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { GetTargetError } from '../src/get/errors.ts'
import { openPart } from '../src/get/part-file.ts'

const dir = mkdtempSync(join(tmpdir(), 'darter-part-'))
after(() => rmSync(dir, { recursive: true }))

const identity = { source: 'here', etag: '"v1"', modified: undefined, digest: undefined, size: 8 }
const victim = (name: string) => {
  const path = join(dir, name)
  writeFileSync(path, 'precious')
  return path
}

test('what was written is there the next time, and takes the place of the file', async () => {
  const file = join(dir, 'plain')
  const first = await openPart(file)
  assert.deepEqual([first.length, first.identity], [0, undefined])
  await first.begin(identity)
  await first.write(Buffer.from('half'), 0)
  await first.close()
  assert.equal(statSync(`${file}.part.json`).mode & 0o777, 0o600)
  const second = await openPart(file)
  assert.deepEqual([second.length, second.identity], [4, identity])
  await second.write(Buffer.from('full'), 4)
  await second.finish(8)
  await second.close()
  assert.equal(readFileSync(file, 'utf8'), 'halffull')
  assert.deepEqual(readdirSync(dir), ['plain'])
})

test('a link, a pipe or a file with another name in the place of the file in the making is refused', async () => {
  const target = victim('target')
  for (const [name, place] of [
    ['symbolic', (path: string) => symlinkSync(target, path)],
    ['dangling', (path: string) => symlinkSync(join(dir, 'nowhere'), path)],
    ['hard', (path: string) => linkSync(target, path)],
    ['pipe', (path: string) => void execFileSync('mkfifo', [path])],
  ] as const) {
    place(join(dir, `${name}.part`))
    await assert.rejects(openPart(join(dir, name)), GetTargetError, name)
  }
  assert.equal(readFileSync(target, 'utf8'), 'precious')
  assert(!readdirSync(dir).includes('nowhere'))
})

test('another user’s file is not taken over', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, async () => {
  const file = join(dir, 'foreign')
  writeFileSync(`${file}.part`, 'trap')
  chownSync(`${file}.part`, 65_534, 65_534)
  await assert.rejects(openPart(file), GetTargetError)
  writeFileSync(`${file}-note.part`, 'half')
  writeFileSync(`${file}-note.part.json`, JSON.stringify(identity))
  chownSync(`${file}-note.part.json`, 65_534, 65_534)
  const part = await openPart(`${file}-note`)
  assert.equal(part.identity, undefined)
  await part.close()
})

test('a note is never written through a link, nor read from one', async () => {
  const target = victim('noted')
  const file = join(dir, 'linked')
  symlinkSync(target, `${file}.part.json`)
  writeFileSync(`${file}.part`, 'half')
  const part = await openPart(file)
  assert.equal(part.identity, undefined)
  await part.begin(identity)
  await part.close()
  assert.equal(readFileSync(target, 'utf8'), 'precious')
  assert.equal((await openPart(file)).identity, undefined, 'there is nothing yet to go on with')

  writeFileSync(target, JSON.stringify(identity))
  const other = join(dir, 'piped')
  for (const place of [
    () => symlinkSync(target, `${other}.part.json`),
    () => void execFileSync('mkfifo', [`${other}.part.json`]),
  ]) {
    writeFileSync(`${other}.part`, 'half')
    place()
    const opened = await openPart(other)
    assert.equal(opened.identity, undefined)
    await opened.discard()
    await opened.close()
  }
})
