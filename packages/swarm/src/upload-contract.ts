/** What the driver is to do; in the order given. */
export type UploadEffect =
  /** Tell a neighbour that it may request a chunk now; `chunk` is a suggestion. */
  | { readonly type: 'slot'; readonly to: string; readonly blob: string; readonly chunk: number }
  /** Send a chunk that was requested. `UploadPlan.sent` must follow. */
  | { readonly type: 'send'; readonly to: string; readonly blob: string; readonly chunk: number }
  | {
      readonly type: 'refuse'
      readonly to: string
      readonly blob: string
      readonly chunk: number
      readonly reason: 'missing' | 'busy'
    }

/** Bounds of an {@link UploadPlan}; times in ms. */
export interface UploadLimits {
  /** Chunks sent at the same moment, whatever comes of it; and at most. */
  readonly minUploads: number
  readonly maxUploads: number
  /** One more is sent as long as chunks take less than this many times the least that one took: see `UploadPace`. */
  readonly queueRatio: number
  /** Requests of one neighbour that wait. */
  readonly maxWaiting: number
  /** A slot that is not answered for this long is taken back. */
  readonly slotMs: number
  /** A request that waits for longer is refused: whoever sent it had better ask someone else. */
  readonly waitMs: number
}

/** The bounds that production starts from. */
export const DEFAULT_UPLOAD_LIMITS: UploadLimits = {
  minUploads: 4,
  maxUploads: 32,
  queueRatio: 2,
  maxWaiting: 64,
  slotMs: 1_000,
  waitMs: 8_000,
}
