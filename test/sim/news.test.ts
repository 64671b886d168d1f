import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BEGUN, EXPECTED, HELD, type Listener, NewsBoard } from './news.ts'

function listener(): Listener & { readonly heard: string[] } {
  const heard: string[] = []
  return {
    heard,
    heardHeld: (from, chunk, load, at) => void heard.push(`${from} holds ${chunk}, ${load}, ${at}`),
    heardExpected: (from, chunk, load) => void heard.push(`${from} expects ${chunk}, ${load}`),
    heardBegun: (from, chunk) => void heard.push(`${from} begins ${chunk}`),
  }
}

describe('a news board', () => {
  it('tells each what was posted for it, once, in that order', () => {
    const board = new NewsBoard(3)
    board.post(1, 2, HELD, 65_535, 7, 0.25)
    board.post(0, 1, EXPECTED, 0, 3, 0.5)
    board.post(1, 0, BEGUN, 5, 0, 0.75)
    board.post(1, 99_999, EXPECTED, 0, 300, 1)
    const other = listener()
    board.read(2, other)
    assert.deepEqual(other.heard, [])
    const reader = listener()
    board.read(1, reader)
    board.read(1, reader)
    assert.deepEqual(reader.heard, ['2 holds 65535, 7, 0.25', '0 begins 5', '99999 expects 0, 300'])
    board.read(0, other)
    assert.deepEqual(other.heard, ['1 expects 0, 3'])
  })

  it('says when there is no room for more', () => {
    const board = new NewsBoard(2)
    let posted = 1
    while (!board.post(0, 1, HELD, posted, 0, 0)) posted++
    board.post(1, 0, HELD, 0, 0, 0)
    const reader = listener()
    board.read(0, reader)
    assert.equal(reader.heard.length, posted)
    assert.equal(board.post(0, 1, HELD, 0, 0, 0), false)
  })
})
