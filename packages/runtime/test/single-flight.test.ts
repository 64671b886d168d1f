import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSingleFlight } from '@darter/runtime'

const forever = new AbortController().signal

test('callers of one key share an attempt; other keys have their own', async () => {
  const flights = createSingleFlight<string, number>()
  let attempts = 0
  const gate = Promise.withResolvers<void>()
  const attempt = async () => {
    await gate.promise
    return ++attempts
  }
  const all = [
    flights.run('a', forever, attempt),
    flights.run('a', forever, attempt),
    flights.run('b', forever, attempt),
  ]
  assert.equal(flights.size, 2)
  gate.resolve()
  const [first, second] = await Promise.all(all)
  assert.equal(first, second)
  assert.equal(attempts, 2)
  assert.equal(flights.size, 0)
  assert.equal(await flights.run('a', forever, attempt), 3)
})

test('a failure reaches all callers and is not remembered', async () => {
  const flights = createSingleFlight<string, number>()
  const failure = new Error('no')
  const failing = async () => {
    throw failure
  }
  const outcomes = await Promise.allSettled([
    flights.run('a', forever, failing),
    flights.run('a', forever, failing),
  ])
  for (const outcome of outcomes) assert.equal(outcome.status === 'rejected' && outcome.reason, failure)
  assert.equal(await flights.run('a', forever, async () => 1), 1)
})

test('the attempt goes on while one caller stays, and ends with the last', async () => {
  const flights = createSingleFlight<string, string>()
  const seen: AbortSignal[] = []
  const gate = Promise.withResolvers<string>()
  const attempt = (signal: AbortSignal) => {
    seen.push(signal)
    return gate.promise
  }
  const one = new AbortController()
  const two = new AbortController()
  const first = flights.run('a', one.signal, attempt)
  const second = flights.run('a', two.signal, attempt)
  one.abort(new Error('one left'))
  await assert.rejects(first, /one left/)
  assert.equal(seen[0]?.aborted, false)
  two.abort(new Error('two left'))
  await assert.rejects(second, /two left/)
  assert.equal(seen[0]?.aborted, true)
  assert.equal(flights.size, 0)

  // The abandoned attempt's end must not take away the one that replaced it.
  const replacement = Promise.withResolvers<string>()
  const third = flights.run('a', forever, () => replacement.promise)
  gate.resolve('late')
  await gate.promise
  assert.equal(flights.size, 1)
  replacement.resolve('new')
  assert.equal(await third, 'new')
  assert.equal(seen.length, 1)
})

test('a caller that has already given up starts nothing', async () => {
  const flights = createSingleFlight<string, number>()
  await assert.rejects(
    flights.run('a', AbortSignal.abort(new Error('before')), async () => 1),
    /before/,
  )
  assert.equal(flights.size, 0)
})
