import { LRUCache } from 'lru-cache'
import type { ByteSources } from '../download/contract.ts'
import { RouteUnknownError } from './errors.ts'
import { type ClientRequest, headerOf } from './exchange.ts'

const PREFIX = '/transfers/'
const ID = /^[\w-]{8,64}$/
const MAX_TRANSFERS = 1024

/** Tells whoever gave a transfer its name how it goes on: where the bytes came from that it has been sent so far. */
export interface Transfers {
  /** Notes a request that bears a name (`X-Darter-Transfer`); the oldest of many is forgotten. */
  note(exchange: ClientRequest): void
  /** Answers `GET /transfers/<name>`. @throws {RouteUnknownError} when there is none of the name. */
  answer(exchange: ClientRequest, target: string): void
}

/** Whether a request target asks for a transfer. */
export function isTransferTarget(target: string): boolean {
  return target.startsWith(PREFIX)
}

export function createTransfers(): Transfers {
  const sources = new LRUCache<string, () => ByteSources>({ max: MAX_TRANSFERS })
  return {
    note: ({ request, record }) => {
      const name = headerOf(request, 'x-darter-transfer')
      if (name !== undefined && ID.test(name)) sources.set(name, () => record.sources())
    },
    answer: (exchange, target) => {
      const found = sources.get(target.slice(PREFIX.length))
      if (found === undefined) throw new RouteUnknownError(target)
      const body = JSON.stringify(found())
      exchange
        .begin(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
        .end(body)
    },
  }
}
