import assert from 'node:assert/strict'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { threadNow } from '../src/thread-clock.ts'

const BUSY_MS = 300

/** What passes by the thread's clock, and by that of the wall, while this thread is busy. */
function busy(): { readonly own: number; readonly wall: number } {
  const [own, wall] = [threadNow(), performance.now()]
  while (performance.now() - wall < BUSY_MS);
  return { own: threadNow() - own, wall: performance.now() - wall }
}

describe('the clock of a thread', () => {
  it('goes on while nothing runs', async () => {
    const own = threadNow()
    await new Promise(resolve => setTimeout(resolve, 50))
    assert(threadNow() - own > 10)
  })

  it('stands still while others have the CPUs', { skip: process.platform !== 'linux' }, async () => {
    const others = Array.from(
      { length: 2 * availableParallelism() },
      () => new Worker('require("worker_threads").parentPort.postMessage(0); for (;;);', { eval: true }),
    )
    try {
      await Promise.all(others.map(other => once(other, 'message')))
      const { own, wall } = busy()
      assert(own < 0.9 * wall, `${own} of ${wall} ms`)
      assert(own > 0)
    } finally {
      await Promise.all(others.map(other => other.terminate()))
    }
  })
})
