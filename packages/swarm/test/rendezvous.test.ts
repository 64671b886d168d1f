import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { rendezvous, rendezvousRanking } from '../src/index.ts'

const names = fc.uniqueArray(fc.stringMatching(/^[0-9A-Za-z]{1,52}$/), { minLength: 1, maxLength: 12 })
const key = fc.stringMatching(/^sha256:[0-9a-f]{64}$/)

describe('rendezvous hashing', () => {
  it('chooses one of the nodes, whatever their order', () => {
    fc.assert(
      fc.property(names, key, (nodes, digest) => {
        const chosen = rendezvous(nodes, digest)
        assert.ok(chosen !== undefined && nodes.includes(chosen))
        assert.equal(rendezvous(nodes.toReversed(), digest), chosen)
      }),
      { seed: 1 },
    )
    assert.equal(rendezvous([], 'sha256:00'), undefined)
  })

  it('moves a key only when its own node goes, and then another node comes out', () => {
    fc.assert(
      fc.property(names, key, fc.nat(), (nodes, digest, pick) => {
        const chosen = rendezvous(nodes, digest)
        const gone = nodes[pick % nodes.length]
        const after = rendezvous(
          nodes.filter(node => node !== gone),
          digest,
        )
        if (gone === chosen) assert.notEqual(after, chosen)
        else assert.equal(after, chosen)
      }),
      { seed: 2 },
    )
  })

  it('ranks nodes so that a larger number takes in a smaller one', () => {
    fc.assert(
      fc.property(names, key, (nodes, digest) => {
        const all = rendezvousRanking(nodes, digest, nodes.length)
        assert.deepEqual(new Set(all), new Set(nodes))
        assert.equal(all[0], rendezvous(nodes, digest))
        assert.deepEqual(rendezvousRanking(nodes.toReversed(), digest, 2), all.slice(0, 2))
      }),
      { seed: 3 },
    )
  })

  it('spreads keys evenly, over names and keys that differ in one character', () => {
    const nodes = ['12D3KooWa', '12D3KooWb', '12D3KooWc', '12D3KooWd']
    const counts = new Map(nodes.map(node => [node, 0]))
    for (let i = 0; i < 8000; i++) {
      const chosen = rendezvous(nodes, `sha256:${i.toString(16).padStart(64, '0')}`)!
      counts.set(chosen, counts.get(chosen)! + 1)
    }
    for (const [node, count] of counts) assert.ok(Math.abs(count - 2000) < 200, `${node} has ${count}`)
  })
})
