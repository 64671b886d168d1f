import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type PreheatedPeer, type PreheatView, SCHEDULER_RESTARTED } from '@darter/scheduler'
import type { Board } from '../src/preheat/board.ts'
import {
  NoSuchPreheatError,
  type PreheatClient,
  SchedulerNotRunningError,
  SchedulerRefusedError,
} from '../src/preheat/cluster.ts'
import { preheatToTheEnd } from '../src/preheat/follow.ts'

const order = { target: 'app', to: 'all', authorization: 'secret' }
const part = (id: string, state: PreheatedPeer['state']): PreheatedPeer => ({
  id,
  zone: '',
  state,
  held: 1,
  size: 2,
  failures: [],
})
const job = (
  id: string,
  peers: readonly PreheatedPeer[],
  state: PreheatView['state'] = 'running',
): PreheatView => ({
  id,
  target: 'app',
  platform: null,
  to: 'all',
  state,
  startedAt: '',
  endedAt: null,
  version: 1,
  peers,
})

/** A scheduler that does what the script says; `started` counts the jobs that were begun. */
function scripted(script: {
  /** The peers of each job that is begun. */
  readonly jobs: readonly (readonly string[])[]
  /** What each watch tells, and how it ends. */
  readonly watches: readonly { readonly views: readonly PreheatView[]; readonly error?: Error }[]
  readonly view?: () => PreheatView | undefined
  readonly connected?: () => readonly string[]
}) {
  const orders: unknown[] = []
  const cancelled: string[] = []
  let watched = 0
  const client: PreheatClient = {
    start: async given => {
      const ids = script.jobs[orders.length]
      if (ids === undefined) throw new SchedulerRefusedError('no more')
      orders.push(given)
      return job(
        String(orders.length),
        ids.map(id => part(id, 'asked')),
      )
    },
    watch: async function* () {
      const next = script.watches[watched++]
      assert.ok(next !== undefined)
      yield* next.views
      if (next.error !== undefined) throw next.error
    },
    view: async () => script.view?.(),
    cancel: async id => {
      cancelled.push(id)
    },
    connected: async () => new Set(script.connected?.() ?? []),
  }
  return { client, orders, cancelled }
}

describe('a preheat that is followed', () => {
  const said: string[] = []
  const follow = (
    client: PreheatClient,
    returnMs = 5_000,
    signal = new AbortController().signal,
    board: Pick<Board, 'update'> = { update: () => {} },
  ) =>
    preheatToTheEnd(client, order, {
      board,
      say: line => said.push(line),
      returnMs,
      signal,
    })
  const half = { views: [job('1', [part('a', 'done'), part('b', 'running')])] }

  it('is begun once more when the scheduler has forgotten it and its peers are back', async () => {
    let asked = 0
    const { client, orders } = scripted({
      jobs: [
        ['a', 'b'],
        ['a', 'b'],
      ],
      watches: [
        { ...half, error: new SchedulerNotRunningError('x', undefined) },
        { views: [job('2', [part('a', 'done'), part('b', 'done')], 'done')] },
      ],
      connected: () => (asked++ === 0 ? ['a'] : ['a', 'b']),
    })
    const { state, peers } = await follow(client)
    assert.equal(state, 'done')
    assert.deepEqual(
      peers.map(({ id, state: of }) => [id, of]),
      [
        ['a', 'done'],
        ['b', 'done'],
      ],
    )
    assert.deepEqual(orders, [order, order])
    assert.equal(asked, 2)
    assert.equal(said.length, 1)
  })

  it('is watched on, and not begun again, when the scheduler goes on with it', async () => {
    const { client, orders } = scripted({
      jobs: [['a', 'b']],
      watches: [half, { views: [job('1', [part('b', 'done')], 'done')] }],
      view: () => job('1', [part('a', 'done'), part('b', 'running')]),
    })
    assert.equal((await follow(client)).state, 'done')
    assert.equal(orders.length, 1)
  })

  it('is begun once more, with its credentials, when the scheduler could not go on without', async () => {
    const failures = [{ what: 'app', code: SCHEDULER_RESTARTED, message: 'no' }]
    const givenUp = job('1', [part('a', 'done'), { ...part('b', 'failed'), failures }], 'failed')
    const again = { views: [job('2', [part('a', 'done'), part('b', 'done')], 'done')] }
    // It is seen by the question how it stands, and by the second watch where the scheduler was started again meanwhile.
    for (const watches of [
      [half, again],
      [half, { views: [givenUp] }, again],
    ]) {
      let views = watches.length === 3 ? [half.views[0], givenUp] : [givenUp]
      const shown: PreheatedPeer['state'][] = []
      const { client, orders } = scripted({
        jobs: [
          ['a', 'b'],
          ['a', 'b'],
        ],
        watches,
        view: () => {
          const [next] = views
          views = views.slice(1)
          return next
        },
        connected: () => ['a', 'b'],
      })
      const board = {
        update: (peers: readonly PreheatedPeer[]) => shown.push(...peers.map(({ state }) => state)),
      }
      const { state } = await follow(client, 5_000, undefined, board)
      assert.equal(state, 'done')
      assert.deepEqual(orders, [order, order])
      assert(!shown.includes('failed'))
    }
  })

  it('fails for peers that do not come back, unless they were through', async () => {
    const { client } = scripted({
      jobs: [['a', 'b', 'c'], ['c']],
      watches: [
        { views: [job('1', [part('a', 'done'), part('b', 'running'), part('c', 'running')])] },
        { views: [job('2', [part('c', 'done')], 'done')] },
      ],
      connected: () => ['c'],
    })
    const { state, peers } = await follow(client, 100)
    assert.equal(state, 'failed')
    assert.deepEqual(
      peers.map(({ id, state: of, failures }) => [id, of, failures[0]?.code]),
      [
        ['a', 'done', undefined],
        ['b', 'failed', 'PEER_LOST'],
        ['c', 'done', undefined],
      ],
    )
  })

  it('ends when the scheduler does not come back, refuses, or somebody cancels or interrupts it', async () => {
    const gone = new SchedulerNotRunningError('x', undefined)
    const { client } = scripted({
      jobs: [['a']],
      watches: [half],
      view: () => {
        throw gone
      },
    })
    await assert.rejects(follow(client, 100), gone)
    const refused = scripted({
      jobs: [['a']],
      watches: [{ views: [], error: new SchedulerRefusedError('no') }],
    })
    await assert.rejects(follow(refused.client), SchedulerRefusedError)
    const other = scripted({
      jobs: [['a']],
      watches: [{ views: [job('1', [part('a', 'cancelled')], 'cancelled')] }],
    })
    assert.equal((await follow(other.client)).state, 'cancelled')
    const stopping = new AbortController()
    const interrupted = scripted({
      jobs: [['a']],
      watches: [{ views: [], error: new NoSuchPreheatError('x') }],
    })
    stopping.abort(new Error('interrupted'))
    await assert.rejects(follow(interrupted.client, 100, stopping.signal), /interrupted/)
    assert.deepEqual(interrupted.cancelled, ['1'])
  })

  it('is cancelled when it is interrupted while the scheduler is gone, or that it may go on is said', async () => {
    for (const isBack of [true, false]) {
      const stopping = new AbortController()
      const gone = new SchedulerNotRunningError('x', undefined)
      const { client, cancelled } = scripted({
        jobs: [['a', 'b']],
        watches: [half],
        view: () => {
          stopping.abort(new Error('interrupted'))
          throw gone
        },
      })
      const cancel = isBack ? client.cancel : () => Promise.reject(gone)
      said.length = 0
      await assert.rejects(follow({ ...client, cancel }, 5_000, stopping.signal), gone)
      assert.deepEqual(cancelled, isBack ? ['1'] : [])
      assert.equal(
        said.some(line => /preheat 1 may go on/.test(line)),
        !isBack,
      )
    }
  })
})
