import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { OriginStatusError, OriginUnreachableError } from '@darter/origin'
import { createAdmission } from '../src/access/admission.ts'
import type { Caller } from '../src/access/caller.ts'
import { scriptedOrigin } from './support/origin.ts'

const { origin } = scriptedOrigin(new Uint8Array(1), [])
const upstream = { name: 'u', hosts: [], origin, isPublic: false, hasCredentials: false }
const caller: Caller = { upstream, repository: 'a/b', authorization: 'Bearer t' }
const { signal } = new AbortController()

/** Runs `admit`, and lists the credentials that it tried. */
async function tried(
  admission: ReturnType<typeof createAdmission>,
  who: Caller,
  answer: (caller: Caller) => string,
): Promise<{ tries: (string | undefined)[]; value?: string; error?: unknown }> {
  const tries: (string | undefined)[] = []
  try {
    const { value } = await admission.admit(
      who,
      async as => {
        tries.push(as.authorization)
        return answer(as)
      },
      signal,
    )
    return { tries, value }
  } catch (error) {
    return { tries, error }
  }
}

const refuse = (status: number): never => {
  throw new OriginStatusError('it', status, {}, new Uint8Array(0))
}

describe('admission', () => {
  const clock = { now: () => 0, wall: () => 0 }

  it('reads as everyone where everyone may read', async () => {
    const admission = createAdmission({ clock, ttlMs: 1000 })
    assert.deepEqual(await tried(admission, caller, () => 'open'), { tries: [undefined], value: 'open' })
  })

  it('reads as the caller where only the caller may, and remembers that', async () => {
    const admission = createAdmission({ clock, ttlMs: 1000 })
    const answer = (as: Caller): string => (as.authorization === undefined ? refuse(401) : 'mine')
    assert.deepEqual(await tried(admission, caller, answer), {
      tries: [undefined, 'Bearer t'],
      value: 'mine',
    })
    assert.deepEqual(await tried(admission, caller, answer), { tries: ['Bearer t'], value: 'mine' })
  })

  it('throws what the upstream said to the caller itself', async () => {
    const admission = createAdmission({ clock, ttlMs: 1000 })
    const { tries, error } = await tried(admission, caller, as =>
      refuse(as.authorization === undefined ? 401 : 403),
    )
    assert.deepEqual(tries, [undefined, 'Bearer t'])
    assert.ok(error instanceof OriginStatusError && error.status === 403)
  })

  it('does not take an outage for a refusal', async () => {
    const admission = createAdmission({ clock, ttlMs: 1000 })
    const down = (as: Caller): string => {
      if (as.authorization === undefined) throw new OriginUnreachableError('down')
      return 'mine'
    }
    await tried(admission, caller, down)
    assert.deepEqual((await tried(admission, caller, down)).tries, [undefined, 'Bearer t'])
  })

  it('leaves callers alone that bring nothing, and upstreams with credentials of their own', async () => {
    const admission = createAdmission({ clock, ttlMs: 1000 })
    const anonymous = { ...caller, authorization: undefined }
    assert.deepEqual((await tried(admission, anonymous, () => 'x')).tries, [undefined])
    const configured = { ...caller, upstream: { ...upstream, hasCredentials: true } }
    assert.deepEqual((await tried(admission, configured, () => 'x')).tries, ['Bearer t'])
  })
})
