/** What is simulated. Times in ms of virtual time. */
export interface Scenario {
  readonly peers: number
  readonly chunks: number
  /** Neighbours of each peer; the production default when left out. */
  readonly degree?: number
  /** The origin's rate in multiples of a peer's uplink. */
  readonly originRate: number
  /** How long a message takes from anyone to anyone. */
  readonly latencyMs: number
  /** The part of the peers that leaves in the middle, 0..1. */
  readonly churn: number
  /** The part of the peers that sends wrong bytes, 0..1. */
  readonly liars: number
  readonly zones: number
  readonly seed: number
  /** The scheduler is silent from this time on. */
  readonly schedulerDiesAt?: number
  /** The origin fails while this says so. */
  readonly originFails?: (now: number) => boolean
}

/** What came of it. Ratios are finish times over the bound, of the peers that stayed and are no liars. */
export interface Outcome {
  readonly peers: number
  readonly chunks: number
  readonly seed: number
  readonly boundSeconds: number
  readonly p50Ratio: number
  readonly p99Ratio: number
  readonly lastRatio: number
  /** Chunks that the origin sent, over the chunks of the blob. */
  readonly originRatio: number
  readonly originRequests: number
  readonly messagesPerPeer: number
  /** Peers that stayed and did not get the blob in time, or gave up. */
  readonly unfinished: number
  /** Of these, those that gave up. */
  readonly gaveUp: number
  /** Chunks that were sent in vain (held already, wrong, cancelled), over all that had to be sent. */
  readonly wasteRatio: number
  /** Chunks that crossed a zone border, over the chunks of the blob and the zones but one. */
  readonly crossingRatio: number
  /** When each chunk count was reached by half of the peers: seconds for each tenth of the blob. */
  readonly medianProgressSeconds: readonly number[]
  /** Peers that were blamed for wrong bytes, in the order of their names. */
  readonly blamed: readonly string[]
}

/** How long the blob takes over a peer's uplink (and downlink), ms. */
export const BLOB_MS = 10_000
/** What the link between two zones carries, in multiples of a peer's uplink. */
export const BORDER_RATE = 4

/** No peer can have the blob sooner, if it moves like water: Kumar and Ross, "Peer-assisted file distribution". */
export function boundMs(scenario: Pick<Scenario, 'peers' | 'originRate'>): number {
  const { peers, originRate } = scenario
  return BLOB_MS * Math.max(1 / originRate, 1, peers / (originRate + peers))
}
