import type { RefusalReason } from './errors.ts'

/** What an exchange or a control server tells whoever counts. Handlers must not throw. */
export interface ExchangeHooks {
  /** Bytes of chunk bodies that came from a neighbour, or went to one. */
  readonly onBytes?: (direction: 'received' | 'sent', bytes: number, peerId: string) => void
  /** How many links are open now. */
  readonly onLinks?: (open: number) => void
  /** Someone was turned away: before libp2p (`gate`), at the control stream, the link stream or the data port. */
  readonly onRefused?: (door: 'gate' | 'control' | 'link' | 'data', reason: RefusalReason) => void
}
