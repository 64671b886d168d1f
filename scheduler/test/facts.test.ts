import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DEFAULT_FACT_LIMITS, FactBook } from '../src/facts.ts'

describe('shared facts', () => {
  it('lets one asker find out and answers the others with what it tells', () => {
    const book = new FactBook()
    assert.deepEqual(book.ask('a', 1, 'tag', false, 0), [{ to: 'a', id: 1, state: 'find-out' }])
    assert.deepEqual(book.ask('b', 7, 'tag', false, 1), [])
    assert.deepEqual(book.tell('a', 'tag', 'v', 100, 2), [{ to: 'b', id: 7, state: 'known', value: 'v' }])
    assert.deepEqual(book.ask('c', 1, 'tag', false, 50), [{ to: 'c', id: 1, state: 'known', value: 'v' }])
    assert.deepEqual(book.ask('c', 2, 'tag', false, 200), [{ to: 'c', id: 2, state: 'find-out' }])
  })

  it('does not let a bystander replace what is fresh or being found out', () => {
    const book = new FactBook()
    book.ask('a', 1, 'tag', false, 0)
    assert.deepEqual(book.tell('liar', 'tag', 'bad', 100, 1), [])
    book.tell('a', 'tag', 'good', 100, 2)
    book.tell('liar', 'tag', 'bad', 100, 3)
    assert.deepEqual(book.ask('b', 1, 'tag', false, 4), [{ to: 'b', id: 1, state: 'known', value: 'good' }])
  })

  it('passes the turn on when the finder leaves, finds nothing or takes too long', () => {
    const book = new FactBook()
    book.ask('a', 1, 'tag', false, 0)
    book.ask('b', 2, 'tag', false, 0)
    book.ask('c', 3, 'tag', false, 0)
    book.ask('d', 4, 'tag', false, 0)
    assert.deepEqual(book.left('a', 1), [{ to: 'b', id: 2, state: 'find-out' }])
    assert.deepEqual(book.tell('b', 'tag', undefined, 0, 2), [{ to: 'c', id: 3, state: 'find-out' }])
    assert.deepEqual(book.tick(2 + DEFAULT_FACT_LIMITS.findMs), [{ to: 'd', id: 4, state: 'find-out' }])
  })

  it('asks again once someone says that the fact has changed', () => {
    const book = new FactBook()
    book.tell('a', 'tag', 'old', 100, 0)
    assert.deepEqual(book.tell('pusher', 'tag', '', 0, 1), [])
    assert.deepEqual(book.ask('b', 1, 'tag', false, 2), [{ to: 'b', id: 1, state: 'find-out' }])
    assert.deepEqual(book.ask('c', 1, 'tag', true, 2), [{ to: 'c', id: 1, state: 'known', value: 'old' }])
  })

  it('remembers the last value for whoever takes a stale one', () => {
    const book = new FactBook()
    assert.deepEqual(book.ask('a', 1, 'tag', true, 0), [{ to: 'a', id: 1, state: 'unknown' }])
    book.tell('a', 'tag', 'v', 10, 0)
    assert.deepEqual(book.ask('b', 1, 'tag', true, 1e9), [{ to: 'b', id: 1, state: 'known', value: 'v' }])
  })

  it('keeps a bounded number of facts', () => {
    const book = new FactBook({ ...DEFAULT_FACT_LIMITS, maxFacts: 3 })
    for (let i = 0; i < 10; i++) book.tell('a', `k${i}`, 'v', 10, 0)
    assert.equal(book.size, 3)
    assert.equal(book.ask('a', 1, 'k9', true, 0)[0]?.state, 'known')
  })
})
