import assert from 'node:assert/strict'
import { getEventListeners, once } from 'node:events'
import { test } from 'node:test'
import { abortable, delay, withTimeout } from '@darter/runtime'

class TooLate extends Error {}

test('a deadline aborts with the timeout’s error', async () => {
  const deadline = withTimeout(undefined, 5, () => new TooLate())
  await once(deadline.signal, 'abort')
  assert.ok(deadline.signal.reason instanceof TooLate)
})

test('a deadline that is refreshed starts again', async () => {
  using deadline = withTimeout(undefined, 400, () => new TooLate())
  const begun = performance.now()
  // Even when the machine stalls, a refresh that fell due first runs before the deadline.
  while (performance.now() - begun < 1000) {
    await delay(5, deadline.signal)
    deadline.refresh()
  }
  await once(deadline.signal, 'abort')
  assert.ok(deadline.signal.reason instanceof TooLate)
})

test('a deadline follows its parent and leaves no listener behind', () => {
  const parent = new AbortController()
  {
    using deadline = withTimeout(parent.signal, 60_000, () => new TooLate())
    assert.equal(getEventListeners(parent.signal, 'abort').length, 1)
    assert.equal(deadline.signal.aborted, false)
  }
  assert.equal(getEventListeners(parent.signal, 'abort').length, 0)

  using second = withTimeout(parent.signal, 60_000, () => new TooLate())
  const reason = new Error('enough')
  parent.abort(reason)
  assert.equal(second.signal.reason, reason)
  assert.equal(getEventListeners(parent.signal, 'abort').length, 0)

  using third = withTimeout(parent.signal, 60_000, () => new TooLate())
  assert.equal(third.signal.reason, reason)
})

test('a deadline that was disposed of never aborts', async () => {
  const deadline = withTimeout(undefined, 1, () => new TooLate())
  deadline[Symbol.dispose]()
  deadline.refresh()
  // That it does not come shows in time only.
  await delay(10, new AbortController().signal)
  assert.equal(deadline.signal.aborted, false)
})

test('a delay ends early with the signal’s reason', async () => {
  const controller = new AbortController()
  const reason = new Error('stop')
  const waiting = delay(60_000, controller.signal)
  controller.abort(reason)
  await assert.rejects(waiting, error => error === reason)
  await assert.rejects(delay(0, controller.signal), error => error === reason)
})

test('a delay that is over leaves no listener behind', async () => {
  const controller = new AbortController()
  await delay(1, controller.signal)
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
})

test('a promise is abandoned when the signal aborts', async () => {
  const controller = new AbortController()
  assert.equal(await abortable(Promise.resolve(7), controller.signal), 7)
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
  const never = abortable(new Promise<never>(() => {}), controller.signal)
  const reason = new Error('gone')
  controller.abort(reason)
  await assert.rejects(never, error => error === reason)
})
