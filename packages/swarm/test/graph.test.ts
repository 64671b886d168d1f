import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { NeighbourGraph } from '../src/graph.ts'
import { seeded } from './seeded.ts'

const DEGREE = 6
const MOST = 9
const CROSS_LINKS = 12
const STEP_MS = 100

interface Told {
  readonly wants: boolean
  readonly zone: string
}

/** A graph, who is in it, and what each was told last. */
class World {
  readonly graph: NeighbourGraph
  readonly peers = new Map<string, Told>()
  readonly told = new Map<string, readonly string[]>()
  tells = 0
  now = 0

  constructor(seed: number) {
    this.graph = new NeighbourGraph(DEGREE, CROSS_LINKS, seeded(seed))
  }

  put(id: string, wants: boolean, zone = ''): void {
    this.peers.set(id, { wants, zone })
    this.graph.put(id, { wants, offers: true, zone }, this.now)
    this.hear()
  }

  remove(id: string): void {
    this.peers.delete(id)
    this.told.delete(id)
    this.graph.remove(id, this.now)
    this.hear()
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; this.now += STEP_MS) {
      this.graph.settle(this.now)
      this.hear()
    }
  }

  hear(): void {
    for (const id of this.graph.takeChanged()) {
      this.told.set(id, this.graph.neighbours(id))
      this.tells++
    }
  }

  neighbours(id: string, zone?: string): string[] {
    const all = this.graph.neighbours(id)
    return zone === undefined ? all : all.filter(other => this.peers.get(other)?.zone === zone)
  }

  /** Edges that leave a zone. */
  crossing(zone: string): number {
    let count = 0
    for (const [id, peer] of this.peers) {
      if (peer.zone === zone) count += this.neighbours(id).length - this.neighbours(id, zone).length
    }
    return count
  }

  reachable(from: string, zone?: string): Set<string> {
    const reached = new Set([from])
    for (const peer of reached) for (const next of this.neighbours(peer, zone)) reached.add(next)
    return reached
  }

  /** Edges go both ways, join someone who wants something, and nobody has too many. */
  check(): void {
    for (const [id, peer] of this.peers) {
      const neighbours = this.neighbours(id)
      assert.ok(neighbours.length <= MOST, `${id} has ${neighbours.length} neighbours`)
      for (const other of neighbours) {
        assert.ok(this.peers.has(other), `${other} is gone`)
        assert.ok(this.neighbours(other).includes(id))
        assert.ok(peer.wants || this.peers.get(other)!.wants)
      }
    }
  }
}

describe('neighbour graph', () => {
  it('is sound at any moment, and full and connected soon after the last change', () => {
    const change = fc.record({
      peer: fc.nat(29),
      zone: fc.nat(2),
      what: fc.constantFrom('want', 'want', 'want', 'hold', 'remove', 'wait'),
    })
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 120 }),
        fc.integer(),
        fc.boolean(),
        (changes, seed, zoned) => {
          const world = new World(seed)
          for (const { peer, zone, what } of changes) {
            const id = `p${peer}`
            if (what === 'wait') world.pass(300)
            else if (what === 'remove') world.remove(id)
            else world.put(id, what === 'want', zoned ? String(zone) : '')
            world.check()
          }
          world.pass(8_000)
          world.check()
          for (const zone of new Set([...world.peers.values()].map(peer => peer.zone))) {
            const members = [...world.peers].filter(([, peer]) => peer.zone === zone).map(([id]) => id)
            for (const id of members) {
              if (!world.peers.get(id)!.wants) continue
              const local = world.neighbours(id, zone).length
              const all = world.neighbours(id).length
              assert.ok(
                local >= Math.min(DEGREE, members.length - 1) || all === MOST,
                `${id}: ${local} of ${all}`,
              )
              const others = world.peers.size - members.length
              if (members.length === 1 && others > 0) assert.ok(all > 0, `${id} is alone in its zone`)
              for (const other of world.told.get(id)!) assert.ok(world.neighbours(id).includes(other))
              for (const other of world.neighbours(id)) {
                const known = world.told.get(id)!.includes(other) || world.told.get(other)?.includes(id)
                assert.ok(known, `nobody was told of ${id} and ${other}`)
              }
            }
          }
        },
      ),
      { seed: 1, numRuns: 300 },
    )
  })

  it('stays connected and nearly regular while many come and go', () => {
    const world = new World(4)
    const random = seeded(5)
    for (let i = 0; i < 600; i++) {
      world.put(`p${i}`, true)
      if (i % 3 === 2) world.remove([...world.peers.keys()][Math.floor(random() * world.peers.size)]!)
      if (i % 10 === 0) world.pass(100)
    }
    world.pass(3_000)
    world.check()
    const [first = ''] = world.peers.keys()
    assert.equal(world.reachable(first).size, world.peers.size)
    for (const id of world.peers.keys()) assert.ok(world.neighbours(id).length >= DEGREE)
  })

  it('tells a crowd that comes at once two or three times each', () => {
    const world = new World(6)
    for (let i = 0; i < 2_000; i++) world.put(`p${i}`, true)
    world.pass(5_000)
    world.check()
    assert.ok(world.tells < 3 * 2_000, `${world.tells} tellings`)
    for (const id of world.peers.keys()) assert.ok(world.neighbours(id).length >= DEGREE)
  })

  it('tells of one that wants nothing any more those who were to hear of it by its link', () => {
    const world = new World(8)
    world.put('first', true)
    world.put('second', true)
    assert.deepEqual(world.told.get('second'), ['first'])
    for (const id of ['first', 'second']) {
      const other = id === 'first' ? 'second' : 'first'
      world.put(id, false)
      world.pass(100)
      // Whoever is still there knows whom to ask, whoever was to make the link.
      if (id === 'first') assert.deepEqual(world.told.get(other), [id])
      world.put(id, true)
    }
    const crowd = new World(9)
    for (let i = 0; i < 100; i++) crowd.put(`p${i}`, true)
    crowd.pass(1_000)
    crowd.put('p7', false)
    crowd.pass(100)
    for (const id of crowd.neighbours('p7')) assert.ok(crowd.told.get(id)!.includes('p7'), id)
  })

  it('tells only the neighbours of one that leaves, once', () => {
    const world = new World(7)
    for (let i = 0; i < 500; i++) world.put(`p${i}`, true)
    world.pass(5_000)
    const touched = world.neighbours('p7')
    world.tells = 0
    world.remove('p7')
    assert.equal(world.tells, 0)
    world.pass(3_000)
    // That it is gone, or who comes in its stead.
    assert.ok(world.tells <= touched.length * 2, `${world.tells} tellings`)
    for (const id of touched) assert.ok(!world.told.get(id)!.includes('p7'))
  })

  it('links zones by few edges of many peers, and connects each zone in itself', () => {
    const world = new World(8)
    for (let i = 0; i < 400; i++) world.put(`p${i}`, true, `z${i % 4}`)
    world.pass(5_000)
    world.check()
    for (let zone = 0; zone < 4; zone++) {
      const crossing = world.crossing(`z${zone}`)
      assert.ok(
        crossing >= CROSS_LINKS && crossing <= 4 * CROSS_LINKS,
        `${crossing} edges leave zone ${zone}`,
      )
      assert.equal(world.reachable(`p${zone}`, `z${zone}`).size, 100)
      const gateways = [...world.peers.keys()].filter(
        id =>
          world.peers.get(id)!.zone === `z${zone}` &&
          world.neighbours(id).length > world.neighbours(id, `z${zone}`).length,
      )
      assert.ok(gateways.length >= CROSS_LINKS / 2, `${gateways.length} peers have an edge across`)
    }
    assert.equal(world.reachable('p0').size, 400)
  })

  it('gives a lone peer of a zone neighbours elsewhere, and keeps a zone linked when its gateways leave', () => {
    const world = new World(9)
    for (let i = 0; i < 60; i++) world.put(`a${i}`, true, 'a')
    world.put('lone', true, 'b')
    assert.ok(world.told.get('lone')!.length >= DEGREE / 2)
    for (let i = 0; i < 20; i++) world.put(`c${i}`, true, 'c')
    world.pass(3_000)
    for (let round = 0; round < 10; round++) {
      const gateway = [...world.peers.keys()].find(
        id =>
          world.peers.get(id)!.zone === 'c' && world.neighbours(id).length > world.neighbours(id, 'c').length,
      )
      world.remove(gateway!)
      world.pass(1_000)
      assert.ok(world.crossing('c') > 0)
    }
    assert.equal(world.reachable('lone').size, world.peers.size)
  })

  it('gives a zone other edges across when those at their far ends leave', () => {
    const world = new World(12)
    for (let i = 0; i < 90; i++) world.put(`p${i}`, true, `z${i % 3}`)
    world.pass(3_000)
    for (let i = 1; i < 90; i += 3) world.remove(`p${i}`)
    world.pass(3_000)
    assert.ok(world.crossing('z0') >= CROSS_LINKS, `${world.crossing('z0')} edges leave zone 0`)
  })

  it('sends a peer that wants something at once to the only one that holds it, in whatever zone', () => {
    const world = new World(10)
    world.put('wants', true, 'a')
    world.put('holds', false, 'b')
    assert.deepEqual(world.told.get('wants'), ['holds'])
    world.put('wants', false, 'a')
    assert.deepEqual(world.graph.neighbours('holds'), [])
  })

  it('keeps those apart who may be nobody’s neighbours', () => {
    const world = new World(11)
    for (const id of ['a', 'b', 'c']) world.put(id, true)
    world.graph.put('b', { wants: true, offers: false, zone: '' }, 0)
    world.hear()
    assert.deepEqual(world.told.get('a'), ['c'])
    assert.deepEqual(world.told.get('b'), [])
  })
})
