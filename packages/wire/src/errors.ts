import { DarterError } from '@darter/oci'

/** What is wrong with a message or frame. */
export type WireProblem = 'malformed' | 'unknown-type' | 'too-large' | 'invalid'

/** Bytes from the other side that are no message of this protocol, or a message that must not be sent. */
export class WireError extends DarterError {
  readonly code = 'WIRE_INVALID'
  /**
   * `malformed`: not CBOR, or a frame cut short. `unknown-type`: a message or frame type that this version does not know.
   * `too-large`: beyond {@link LIMITS}. `invalid`: a field that is missing, superfluous, of the wrong kind or length, or at
   * odds with another.
   */
  readonly problem: WireProblem

  constructor(problem: WireProblem, message: string, options?: ErrorOptions) {
    super(message, options)
    this.problem = problem
  }
}
