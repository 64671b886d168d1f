import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseDigest } from '@darter/oci'
import { parsePreheatScope, type PreheatRequest } from '../src/preheat-request.ts'
import { PreheatBook, type PreheatRecord, TooManyPreheatsError } from '../src/preheats.ts'

const peers = [
  { id: 'a', zone: 'x', seed: true },
  { id: 'b', zone: 'x', seed: false },
  { id: 'c', zone: 'y', seed: false },
]
const secret = 'Basic c2VjcmV0'

function newBook(wall: () => number = () => 0): PreheatBook {
  let last = 0
  return new PreheatBook({ newId: () => (++last).toString(16).padStart(32, '0'), wall })
}

function recordsOf(book: PreheatBook): PreheatRecord[] {
  return book.list().flatMap(({ id }) => book.record(id) ?? [])
}

function start(book: PreheatBook, to: string, more: Partial<PreheatRequest> = {}, now = 0) {
  const scope = parsePreheatScope(to)
  assert.ok(scope !== undefined)
  return book.start({ target: 'app', to, ...more }, scope, peers, now)
}

function tell(
  book: PreheatBook,
  from: string,
  job: string,
  state: 'running' | 'done' | 'failed',
  now = 1,
): void {
  const failures = state === 'failed' ? [{ what: 'app', code: 'X', message: 'no' }] : []
  book.told(from, { type: 'preheat-state', job, state, held: 1, size: 2, failures }, now)
}

describe('the book of preheats', () => {
  it('gives a job to the peers that are meant', () => {
    const chosen = (to: string) => start(newBook(), to).out.map(outgoing => outgoing.to)
    assert.deepEqual(chosen('seeds'), ['a'])
    assert.deepEqual(chosen('all'), ['a', 'b', 'c'])
    assert.deepEqual(chosen('zone=x'), ['a', 'b'])
    assert.equal(chosen('n=2').length, 2)
    assert.deepEqual(chosen('n=2'), chosen('n=2'))
    assert.deepEqual(chosen('n=9'), ['a', 'b', 'c'])
    assert.throws(() => start(newBook(), 'zone=z'), /no peer/)
    for (const wrong of ['', 'some', 'n=0', 'n=-1', 'n=1x', 'zone=', 'zone=\n']) {
      assert.equal(parsePreheatScope(wrong), undefined, wrong)
    }
  })

  it('counts jobs and peers by how they end, and each byte once', () => {
    const noted: unknown[] = []
    let bytes = 0
    let last = 0
    const book = new PreheatBook({
      newId: () => (++last).toString(16).padStart(32, '0'),
      wall: () => 0,
      events: {
        onEnded: (state, ms) => noted.push([state, ms]),
        onPeerEnded: state => noted.push(state),
        onHeld: more => {
          bytes += more
        },
      },
    })
    const say = (job: string, from: string, state: 'running' | 'done' | 'failed', held: number) =>
      book.told(from, { type: 'preheat-state', job, state, held, size: 9, failures: [] }, 70)
    const one = start(book, 'zone=x', {}, 20).id
    say(one, 'a', 'running', 4)
    book.left('a', 30)
    book.joined('a', 30)
    say(one, 'a', 'running', 3)
    say(one, 'a', 'done', 9)
    say(one, 'b', 'failed', 2)
    say(one, 'b', 'done', 9)
    assert.deepEqual(noted.splice(0), ['done', 'failed', ['failed', 50]])
    assert.equal(bytes, 11)
    const { id } = start(book, 'all', {}, 80)
    say(id, 'c', 'done', 9)
    assert.equal(book.running, 1)
    book.cancel(id, 90)
    assert.deepEqual(noted, ['done', 'cancelled', 'cancelled', ['cancelled', 10]])
    assert.equal(book.running, 0)
  })

  it('is done when all are, failed when one is not, and tells only what changed since', () => {
    const book = newBook()
    const { id } = start(book, 'all')
    tell(book, 'a', id, 'running')
    const first = book.view(id)
    assert.deepEqual(
      first?.peers.map(({ state }) => state),
      ['running', 'asked', 'asked'],
    )
    tell(book, 'b', id, 'done')
    tell(book, 'stranger', id, 'failed')
    assert.deepEqual(
      book.view(id, first?.version)?.peers.map(peer => peer.id),
      ['b'],
    )
    tell(book, 'a', id, 'done')
    assert.equal(book.view(id)?.state, 'running')
    tell(book, 'c', id, 'failed')
    assert.equal(book.view(id)?.state, 'failed')
    assert.equal(book.running, 0)
    // What comes late changes nothing.
    tell(book, 'c', id, 'done')
    assert.equal(book.view(id)?.state, 'failed')

    const again = start(book, 'seeds')
    tell(book, 'a', again.id, 'done')
    assert.equal(book.view(again.id)?.state, 'done')
  })

  it('gives a job again to a peer that comes back, and counts one that does not as failed', () => {
    const book = newBook()
    const { id } = start(book, 'all', { authorization: secret })
    tell(book, 'a', id, 'done')
    for (const peer of ['a', 'b', 'c']) book.left(peer, 10)
    assert.deepEqual(book.joined('a', 10), [])
    assert.equal(book.joined('b', 10).length, 1)
    tell(book, 'b', id, 'done', 11)
    book.tick(60_010)
    assert.equal(book.view(id)?.state, 'running')
    book.tick(60_011)
    const view = book.view(id)
    assert.equal(view?.state, 'failed')
    assert.equal(view.peers[2]?.failures[0]?.code, 'PEER_LOST')
    assert.deepEqual(book.joined('c', 60_011), [])
  })

  it('shows credentials to the peers of a job alone', () => {
    const book = newBook()
    const target = 'https://example.com/model?signature=c2lnbmVk'
    const { id, out } = start(book, 'all', { authorization: secret, target })
    assert.ok(out.every(({ message }) => JSON.stringify(message).includes(secret)))
    assert.ok(out.every(({ message }) => JSON.stringify(message).includes(target)))
    assert.equal(book.view(id)?.target, 'https://example.com/model')
    assert.ok(!JSON.stringify([book.view(id), book.list()]).includes(secret))
  })

  it('goes on after a restart with the peers that it had chosen, as each comes back', () => {
    const book = newBook()
    const digest = parseDigest(`sha256:${'0'.repeat(64)}`)
    const { id, out } = start(book, 'n=2', { platform: 'linux/arm64', digest })
    const [one = '', two = ''] = out.map(({ to }) => to)
    tell(book, one, id, 'done')
    tell(book, two, id, 'running')

    const next = newBook()
    next.restore(recordsOf(book), 7)
    assert.equal(next.running, 1)
    assert.deepEqual(
      next.view(id)?.peers.map(({ state }) => state),
      ['done', 'lost'],
    )
    // Neither one that was through nor one that was not chosen gets it, whoever comes first.
    const other = peers.find(peer => peer.id !== one && peer.id !== two)?.id ?? assert.fail()
    for (const peer of [other, one]) assert.deepEqual(next.joined(peer, 8), [])
    assert.deepEqual(next.joined(two, 9), [{ to: two, message: out[0]?.message }])
    tell(next, two, id, 'done', 10)
    assert.equal(next.view(id)?.state, 'done')
  })

  it('waits after a restart for a minute from the last peer that comes back, once for each', () => {
    const book = newBook()
    const { id } = start(book, 'all')
    const next = newBook()
    next.restore(recordsOf(book), 0)
    const states = () => next.view(id)?.peers.map(({ state }) => state)
    next.tick(60_000)
    assert.equal(next.joined('a', 60_000).length, 1)
    next.tick(120_000)
    assert.deepEqual(states(), ['asked', 'lost', 'lost'])
    assert.equal(next.joined('b', 120_000).length, 1)
    next.left('a', 150_000)
    assert.equal(next.joined('a', 160_000).length, 1)
    next.tick(180_000)
    assert.deepEqual(states(), ['asked', 'asked', 'lost'])
    next.tick(180_001)
    assert.deepEqual(states(), ['asked', 'asked', 'failed'])
    assert.equal(next.view(id)?.peers[2]?.failures[0]?.code, 'PEER_LOST')
  })

  it('keeps no secret, and fails after a restart what cannot go on without', () => {
    const book = newBook()
    const url = 'https://example.com/model'
    start(book, 'all', { authorization: secret })
    start(book, 'all', { target: `${url}?signature=c2lnbmVk` })
    start(book, 'all', { target: `https://user:c2VjcmV0@example.com/model` })
    start(book, 'all', { target: `https:///\\user:c2VjcmV0@example.com/model` })
    const plain = start(book, 'all', { target: `app@sha256:${'0'.repeat(64)}` }).id
    tell(book, 'a', start(book, 'zone=x', { authorization: secret }).id, 'done')
    const records = recordsOf(book)
    assert.doesNotMatch(JSON.stringify(records), /c2lnbmVk|c2VjcmV0|user/)
    assert.deepEqual(
      records.map(({ target }) => target),
      ['app', url, url, url, `app@sha256:${'0'.repeat(64)}`, 'app'],
    )

    const next = newBook(() => 5)
    next.restore(records, 0)
    assert.deepEqual(
      next.list().map(({ state }) => state),
      ['failed', 'failed', 'failed', 'failed', 'running', 'failed'],
    )
    const last = next.view(next.list().at(-1)?.id ?? '')
    assert.equal(last?.endedAt, new Date(5).toISOString())
    assert.deepEqual(
      last?.peers.map(({ state, failures }) => [state, failures[0]?.code]),
      [
        ['done', undefined],
        ['failed', 'SCHEDULER_RESTARTED'],
      ],
    )
    assert.match(last?.peers[1]?.failures[0]?.message ?? '', /credentials.*start the preheat again/)
    assert.deepEqual(
      next.joined('b', 0).map(({ message }) => 'job' in message && message.job),
      [plain],
    )
  })

  it('shows what was over for as long as it would have been, and ends what takes too long, over restarts', () => {
    let wall = 1_000_000
    const book = newBook(() => wall)
    const { id } = start(book, 'seeds')
    tell(book, 'a', id, 'done')
    wall++
    const long = start(book, 'all').id
    const before = recordsOf(book)
    const next = newBook(() => wall + 3_500_000)
    next.restore(before.toReversed(), 50)
    assert.deepEqual(
      recordsOf(next),
      before.map(record => (record.id === id ? record : next.record(long))),
    )
    for (const peer of ['a', 'b', 'c']) next.joined(peer, 60)
    next.tick(50 + 99_999)
    assert.notEqual(next.view(id), undefined)
    assert.deepEqual(next.takeUnsaved(), [])
    next.tick(50 + 100_000)
    assert.equal(next.record(id), undefined)
    assert.deepEqual(next.takeUnsaved(), [id])
    next.tick(50 + 86_400_000 - 3_500_000)
    assert.equal(next.view(long)?.state, 'running')
    next.tick(50 + 86_400_000 - 3_500_000 + 1)
    assert.equal(next.view(long)?.state, 'cancelled')
    // By a clock that was set back no time has gone.
    const early = newBook()
    early.restore(before, 0)
    early.tick(3_600_000)
    assert.notEqual(early.view(id), undefined)
    early.tick(3_600_001)
    assert.equal(early.view(id), undefined)
  })

  it('tells which jobs are to be saved: at a start, when a peer is through, at an end', () => {
    const book = newBook()
    const { id } = start(book, 'all')
    assert.deepEqual(book.takeUnsaved(), [id])
    tell(book, 'a', id, 'running')
    book.left('b', 1)
    assert.deepEqual(book.takeUnsaved(), [])
    tell(book, 'a', id, 'done')
    assert.deepEqual(book.takeUnsaved(), [id])
    book.cancel(id, 1)
    assert.deepEqual(book.takeUnsaved(), [id])
    assert.deepEqual(book.takeUnsaved(), [])
  })

  it('cancels once, and forgets what was over an hour ago', () => {
    const book = newBook()
    const { id } = start(book, 'all')
    tell(book, 'a', id, 'done')
    book.left('b', 1)
    const told = book.cancel(id, 2)?.out
    assert.deepEqual(told, [{ to: 'c', message: { type: 'preheat-cancel', job: id } }])
    assert.deepEqual(book.cancel(id, 3), { out: [] })
    assert.equal(book.cancel('x', 3), undefined)
    assert.deepEqual(
      book.view(id)?.peers.map(({ state }) => state),
      ['done', 'cancelled', 'cancelled'],
    )
    book.tick(3_600_002)
    assert.notEqual(book.view(id), undefined)
    book.tick(3_600_003)
    assert.equal(book.view(id), undefined)
  })

  it('has bounds: on jobs at work, on those that are kept, and on how long one may take', () => {
    const book = newBook()
    for (let i = 0; i < 16; i++) start(book, 'all', {}, i)
    assert.throws(() => start(book, 'all'), TooManyPreheatsError)
    const out = book.tick(86_400_000 + 15)
    assert.equal(out.length, 15 * 3)
    assert.equal(book.running, 1)
    for (let i = 0; i < 200; i++) book.cancel(start(book, 'seeds', {}, 1).id, 86_400_000)
    assert.equal(book.list().length, 64 + 1)
  })
})
