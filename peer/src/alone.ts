import type { Exchange } from '@darter/exchange'
import { NoSourceError } from './download/errors.ts'

/** The exchange of a peer without a scheduler: it knows nobody and nobody knows it. */
export function createAloneExchange(): Exchange {
  return {
    peerId: '',
    scheduler: undefined,
    addresses: () => [],
    start: async () => {},
    stop: async () => {},
    link: async peer => {
      throw new NoSourceError(peer.id, undefined)
    },
    onLink: () => () => {},
  }
}
