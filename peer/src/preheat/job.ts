import { DarterError } from '@darter/oci'
import { LIMITS, type PeerMessage, type PreheatFailure, withoutSecrets } from '@darter/wire'
import type { BlobReads } from '../download/contract.ts'
import { contentsOf, type PreheatOrder, type PreheatRooms, type Wanted } from './contents.ts'

/** How a job stands; the last word is not `running`. */
export type JobState = Omit<PeerMessage & { type: 'preheat-state' }, 'type' | 'job'>

/** Contents that are fetched at the same moment, as container runtimes do. */
const AT_ONCE = 3

/** An order at work. */
export interface Job {
  /** How it stands now. */
  state(): JobState
  /** How it stood at its end. Never rejects: what went wrong is in the state. */
  readonly ended: Promise<JobState>
}

/** Brings what an order names into the store. One content that fails does not keep the others from coming. */
export function startJob(
  order: PreheatOrder,
  rooms: PreheatRooms & { readonly reads: BlobReads },
  signal: AbortSignal,
): Job {
  const failures: PreheatFailure[] = []
  const held = new Map<Wanted, number>()
  let size = 0
  let failed = false
  const state = (of: JobState['state']): JobState => ({
    state: of,
    held: [...held.values()].reduce((sum, bytes) => sum + bytes, 0),
    size,
    failures: [...failures],
  })
  const fail = (what: string, error: unknown): void => {
    if (signal.aborted) return
    failed = true
    if (failures.length < LIMITS.preheatFailures) failures.push(failureOf(what, error))
  }
  const bring = async (content: Wanted): Promise<void> => {
    const onHeld = (bytes: number): void => void held.set(content, bytes)
    try {
      await rooms.reads.keep({ ...content.source, onHeld, signal })
    } catch (error) {
      fail(content.digest, error)
    }
  }
  const run = async (): Promise<JobState> => {
    try {
      const wanted = await contentsOf(order, rooms, signal)
      size = wanted.reduce((sum, one) => sum + one.size, 0)
      const queue = wanted.toReversed()
      const worker = async (): Promise<void> => {
        for (let one = queue.pop(); one !== undefined && !signal.aborted; one = queue.pop()) await bring(one)
      }
      await Promise.all(Array.from({ length: AT_ONCE }, worker))
    } catch (error) {
      fail(withoutSecrets(order.target), error)
    }
    if (signal.aborted) return state('cancelled')
    return state(failed ? 'failed' : 'done')
  }
  return { state: () => state('running'), ended: run() }
}

function failureOf(what: string, error: unknown): PreheatFailure {
  const isNamed = error instanceof DarterError
  const message = isNamed ? error.message : 'something went wrong in this peer; its log says more'
  return {
    what,
    code: isNamed ? error.code : 'INTERNAL',
    message: message.replaceAll(/[^ -~]/g, '?').slice(0, LIMITS.failureChars),
  }
}
