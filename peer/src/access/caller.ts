import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import type { Authorization } from '@darter/origin'
import type { Upstream } from '../upstreams.ts'

/** Someone who wants to read a repository at an upstream. */
export interface Caller {
  readonly upstream: Upstream
  readonly repository: string
  readonly authorization?: Authorization
  /** The `Via` chain of its request, so that a loop over several peers is seen. No part of who it is. */
  readonly via?: string | undefined
}

/** Names a caller without telling its credentials: a keyed hash over upstream, repository, credentials and what is added. */
export type CallerKey = (caller: Caller, ...more: readonly string[]) => string

/** A {@link CallerKey} under a key that only this process knows (HMAC-SHA256), so that no key outlives it. */
export function createCallerKey(): CallerKey {
  const key = createSecretKey(randomBytes(32))
  return (caller, ...more) => {
    const text = JSON.stringify([
      caller.upstream.name,
      caller.repository,
      caller.authorization ?? null,
      ...more,
    ])
    return createHmac('sha256', key).update(text).digest('base64url')
  }
}

/** Whether what the upstream answers to this caller, it answers to everyone: no credentials are involved at all. */
export function isAnonymous(caller: Caller): boolean {
  return caller.authorization === undefined && !caller.upstream.hasCredentials
}
