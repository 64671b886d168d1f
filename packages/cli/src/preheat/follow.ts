import { delay } from '@darter/runtime'
import {
  type PreheatedPeer,
  type PreheatRequest,
  type PreheatView,
  SCHEDULER_RESTARTED,
} from '@darter/scheduler'
import type { Board } from './board.ts'
import {
  NoSuchPreheatError,
  type PreheatClient,
  SchedulerNotRunningError,
  SchedulerRefusedError,
} from './cluster.ts'

/** How long the scheduler, and then the peers of a job that it gave up, may take to come back, ms. */
const RETURN_MS = 60_000
const RETRY_MS = 500

/**
 * Has the scheduler bring something to peers and watches it to the end. A scheduler that was started again goes on with the job;
 * one that gave it up, for lack of credentials, or knows it no more is given the same once more when the peers are there again. Resolves to
 * all peers as they stood last; those that did not come back have failed. When the signal aborts, the job is cancelled.
 * @throws what {@link PreheatClient.start} throws; {@link SchedulerNotRunningError} when it does not come back.
 */
export async function preheatToTheEnd(
  client: PreheatClient,
  order: PreheatRequest,
  options: {
    readonly board: Pick<Board, 'update'>
    readonly say: (line: string) => void
    readonly returnMs?: number
    readonly signal: AbortSignal
  },
): Promise<{ readonly state: PreheatView['state']; readonly peers: readonly PreheatedPeer[] }> {
  const { board, say, returnMs = RETURN_MS, signal } = options
  const peers = new Map<string, PreheatedPeer>()
  let job = await client.start(order)
  for (;;) {
    const state = await watch(
      client,
      job.id,
      changed => {
        for (const peer of changed) peers.set(peer.id, peer)
        board.update(changed)
      },
      signal,
    )
    if (state === 'cancelled') return { state, peers: [...peers.values()] }
    if (state !== 'lost') break
    try {
      signal.throwIfAborted()
      say('no more word from the scheduler; the preheat goes on when it is back')
      job = await resume(client, job, order, new Set(peers.keys()), returnMs, signal)
    } catch (error) {
      if (signal.aborted) await cancel(client, job.id, say)
      throw error
    }
    const { target } = job
    const mine = new Set(job.peers.map(({ id }) => id))
    for (const [id, peer] of peers)
      if (!mine.has(id) && peer.state !== 'done') peers.set(id, lost(peer, target))
    board.update([...peers.values()].filter(({ state: of }) => of === 'failed'))
  }
  const all = [...peers.values()]
  return { state: all.every(({ state }) => state === 'done') ? 'done' : 'failed', peers: all }
}

/** Watches a job; `lost` when it is not over and the scheduler tells no more of it, or gave it up. */
async function watch(
  client: PreheatClient,
  id: string,
  onPeers: (peers: readonly PreheatedPeer[]) => void,
  signal: AbortSignal,
): Promise<PreheatView['state'] | 'lost'> {
  let state: PreheatView['state'] = 'running'
  try {
    for await (const view of client.watch(id, signal)) {
      if (isGivenUp(view)) return 'lost'
      onPeers(view.peers)
      ;({ state } = view)
    }
  } catch (error) {
    // A refusal is an answer; whatever else ended it, the scheduler is asked again.
    if (error instanceof SchedulerRefusedError && !signal.aborted) throw error
  }
  return state === 'running' ? 'lost' : state
}

/** A job that a scheduler that was started again could not go on with, as it had no credentials for it. */
function isGivenUp({ peers }: PreheatView): boolean {
  return peers.some(({ failures }) => failures.some(({ code }) => code === SCHEDULER_RESTARTED))
}

/** The job when the scheduler goes on with it, or did, else the same one begun anew once its peers are there, or for those that are. */
async function resume(
  client: PreheatClient,
  job: PreheatView,
  order: PreheatRequest,
  ids: ReadonlySet<string>,
  returnMs: number,
  signal: AbortSignal,
): Promise<PreheatView> {
  const until = performance.now() + returnMs
  for (;;) {
    await delay(RETRY_MS, signal)
    const isLate = performance.now() >= until
    try {
      const known = await client.view(job.id, signal)
      if (known !== undefined && !isGivenUp(known)) return known
      const connected = await client.connected(signal)
      if (isLate || [...ids].every(id => connected.has(id))) return await client.start(order)
    } catch (error) {
      if (signal.aborted || isLate) throw error
    }
  }
}

async function cancel(client: PreheatClient, id: string, say: (line: string) => void): Promise<void> {
  try {
    await client.cancel(id)
  } catch (error) {
    if (error instanceof SchedulerNotRunningError) {
      say(`the scheduler is gone: if it comes back, preheat ${id} may go on and is to be cancelled there`)
    } else if (!(error instanceof NoSuchPreheatError)) throw error
  }
}

function lost(peer: PreheatedPeer, target: string): PreheatedPeer {
  const message = 'the peer did not come back after the scheduler had been started again'
  return { ...peer, state: 'failed', failures: [{ what: target, code: 'PEER_LOST', message }] }
}
