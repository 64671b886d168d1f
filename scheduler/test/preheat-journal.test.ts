import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseDigest } from '@darter/oci'
import { createLogger } from '@darter/runtime'
import { createPreheatJournal } from '../src/preheat-journal.ts'
import type { PreheatRecord } from '../src/preheats.ts'

let dir: string
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'darter-preheats-'))
})
after(() => rm(dir, { recursive: true, force: true }))

const idOf = (digit: number) => String(digit).repeat(32)
const part = (state: PreheatRecord['state']) => ({
  id: 'a',
  zone: 'rack-7',
  state,
  held: 3,
  size: 5,
  failures: state === 'failed' ? [{ what: 'app', code: 'X', message: 'no' }] : [],
})
const record = (digit: number, state: PreheatRecord['state'] = 'running'): PreheatRecord => ({
  id: idOf(digit),
  target: 'app',
  platform: null,
  to: 'n=3',
  hadSecrets: false,
  state,
  startedAt: new Date(0).toISOString(),
  endedAt: state === 'running' ? null : new Date(1).toISOString(),
  version: 4,
  peers: [part(state)],
})

/** A journal in a directory of its own, over records that the test may change; `logged`: what it complained of. */
function journalIn(name: string, records = new Map<string, PreheatRecord>()) {
  const directory = join(dir, name, 'preheats')
  const logged: {
    readonly msg: string
    readonly file?: string
    readonly err?: { readonly message: string }
  }[] = []
  const write = (line: string) => void logged.push(JSON.parse(line))
  const log = createLogger({ level: 'warn', name: 'test', destination: { write } })
  const journal = createPreheatJournal({ directory, log, snapshot: id => records.get(id) })
  const put = (...given: readonly PreheatRecord[]) => {
    for (const one of given) {
      records.set(one.id, one)
      journal.save(one.id)
    }
  }
  return { directory, logged, records, put, ...journal }
}

test('jobs outlive the program, as they stood when they were written, for the owner alone', async () => {
  const first = journalIn('again')
  assert.deepEqual(await first.load(), [])
  const full = {
    ...record(2, 'failed'),
    platform: 'linux/arm64',
    digest: parseDigest(`sha256:${'0'.repeat(64)}`),
  }
  first.put(record(1), full, record(3))
  first.records.set(idOf(1), record(1, 'done'))
  first.records.delete(idOf(3))
  first.save(idOf(3))
  await first.saved()
  assert.equal((await stat(first.directory)).mode & 0o777, 0o700)
  assert.equal((await stat(join(first.directory, `${idOf(1)}.json`))).mode & 0o777, 0o600)
  assert.equal((await readdir(first.directory)).length, 2)

  const second = journalIn('again')
  assert.deepEqual(new Set(await second.load()), new Set([record(1, 'done'), full]))
  second.save(idOf(1))
  await second.saved()
  assert.deepEqual(await journalIn('again').load(), [full])
  assert.deepEqual([...first.logged, ...second.logged], [])
})

test('a file that holds no job is logged and removed, and the others count', async () => {
  const journal = journalIn('corrupt')
  journal.put(record(1))
  await journal.saved()
  const good = await readFile(join(journal.directory, `${idOf(1)}.json`), 'utf8')
  const put = (name: string, text: string) => writeFile(join(journal.directory, name), text)
  const wrong = {
    torn: [good.slice(0, -9), /no JSON/],
    empty: ['', /no JSON/],
    other: ['[]', /no job/],
    secret: [JSON.stringify({ ...record(1), authorization: 'x' }), /"authorization"/],
    target: [JSON.stringify({ ...record(1), target: 'a b' }), /spaces/],
    over: [JSON.stringify({ ...record(1), endedAt: new Date(1).toISOString() }), /is and is not over/],
    idle: [JSON.stringify({ ...record(1), peers: [] }), /its peers contradict it/],
    renamed: [good, /under another name/],
    large: [good + ' '.repeat(4 * 1024 * 1024), /more than a job is kept in/],
  } as const
  for (const [name, [text]] of Object.entries(wrong)) await put(`${name}.json`, text)
  await put(`${idOf(2)}.json.next`, good.slice(0, 5))
  await put('notes.txt', 'not ours')

  assert.deepEqual(await journal.load(), [record(1)])
  assert.equal(journal.logged.length, Object.keys(wrong).length)
  for (const [name, [, reason]] of Object.entries(wrong)) {
    const line = journal.logged.find(({ file }) => file === join(journal.directory, `${name}.json`))
    assert.match(line?.msg ?? '', /could not be read: it is forgotten/)
    assert.match(line?.err?.message ?? '', reason)
  }
  assert.deepEqual(new Set(await readdir(journal.directory)), new Set([`${idOf(1)}.json`, 'notes.txt']))
})

test('a disk that refuses is logged, and no call fails', async () => {
  const journal = journalIn('refusing')
  await mkdir(join(dir, 'refusing'))
  await writeFile(journal.directory, 'a file where the directory should be')
  assert.deepEqual(await journal.load(), [])
  journal.put(record(1))
  await journal.saved()
  assert.deepEqual(
    journal.logged.map(({ msg }) => msg.replace(/:.*/, '')),
    ['preheats from before the start could not be read', 'a preheat was not written to disk'],
  )
  await rm(journal.directory)
  // One that is in the way is a directory, which no file replaces.
  await mkdir(join(journal.directory, `${idOf(1)}.json`), { recursive: true })
  journal.put(record(1), record(2))
  await journal.saved()
  assert.deepEqual(await journal.load(), [record(2)])
  assert((await stat(join(journal.directory, `${idOf(1)}.json`))).isDirectory())
})

test('a job of very many peers is kept without what failed, or not at all', async () => {
  const journal = journalIn('large')
  const many = (digit: number, count: number, message: string): PreheatRecord => ({
    ...record(digit, 'failed'),
    peers: Array.from({ length: count }, (_, i) => ({
      ...part('failed'),
      id: String(i),
      failures: [{ what: 'app', code: 'X', message }],
    })),
  })
  journal.put(many(1, 10_000, '.'.repeat(512)), many(2, 60_000, ''), record(3))
  await journal.saved()
  const kept = await journal.load()
  assert.deepEqual(
    kept.map(({ id, peers }) => [id, peers.length, peers[0]?.failures.length]),
    [
      [idOf(1), 10_000, 0],
      [idOf(3), 1, 0],
    ],
  )
  assert.equal(journal.logged.length, 1)
  assert.match(journal.logged[0]?.err?.message ?? '', /a job for 60000 peers takes \d+ bytes/)
})
