import type { SchedulerLink } from '@darter/exchange'
import type { Component } from '@darter/runtime'
import { abortable } from '@darter/runtime'
import { LIMITS, type SchedulerMessage } from '@darter/wire'
import type { Facts, Finding } from './contract.ts'

/** A finder has 5 s at the scheduler before its turn goes to the next: who waits longer finds out by itself. */
const ANSWER_MS = 8_000
const STALE_ANSWER_MS = 1_000
const MAX_ASKED = 10_000

type Answer = SchedulerMessage & { type: 'answer' }

/** Facts shared through the scheduler; without one, or when it is slow, everyone finds out by itself. */
export function createFacts(options: {
  readonly scheduler: SchedulerLink | undefined
  /** False: nothing is shared. */
  readonly share: boolean
}): Facts & Component {
  const scheduler = options.share ? options.scheduler : undefined
  const asked = new Map<number, (answer: Answer | undefined) => void>()
  const unsubscribe: (() => void)[] = []
  let nextId = 1

  const ask = (key: string, stale: boolean, signal: AbortSignal): Promise<Answer | undefined> => {
    if (scheduler?.connected !== true || asked.size >= MAX_ASKED || key.length > LIMITS.factChars) {
      return Promise.resolve(undefined)
    }
    const id = nextId++
    const { promise, resolve } = Promise.withResolvers<Answer | undefined>()
    const timer = setTimeout(() => resolve(undefined), stale ? STALE_ANSWER_MS : ANSWER_MS)
    asked.set(id, resolve)
    if (!scheduler.send({ type: 'ask', id, key, stale })) resolve(undefined)
    return abortable(promise, signal).finally(() => {
      clearTimeout(timer)
      asked.delete(id)
    })
  }

  const tell = (key: string, finding: Finding | undefined): void => {
    if (scheduler?.connected !== true || key.length > LIMITS.factChars) return
    const fits = finding !== undefined && finding.value.length <= LIMITS.factChars
    scheduler.send({
      type: 'tell',
      key,
      ttlMs: finding?.ttlMs ?? 0,
      ...(fits ? { value: finding.value } : {}),
    })
  }

  return {
    name: 'shared facts',
    start: async () => {
      if (scheduler === undefined) return
      unsubscribe.push(
        scheduler.onMessage(message => {
          if (message.type === 'answer') asked.get(message.id)?.(message)
        }),
        scheduler.onDown(() => {
          for (const resolve of asked.values()) resolve(undefined)
        }),
      )
    },
    stop: async () => {
      for (const end of unsubscribe.splice(0)) end()
      for (const resolve of asked.values()) resolve(undefined)
    },
    resolve: async (key, find, signal) => {
      const answer = await ask(key, false, signal)
      if (answer?.state === 'known' && answer.value !== undefined) return answer.value
      const turn = answer?.state === 'find-out'
      let finding: Finding | undefined
      try {
        finding = await find()
      } finally {
        // The turn ends whatever happened, so that those who wait are not kept waiting.
        if (turn || finding !== undefined) tell(key, finding)
      }
      return finding?.value
    },
    lastKnown: async (key, signal) => (await ask(key, true, signal))?.value,
    publish: facts => {
      for (const [key, finding] of facts) tell(key, finding)
    },
  }
}
