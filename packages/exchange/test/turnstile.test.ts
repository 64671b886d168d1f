import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Ticket, Turnstile } from '../src/turnstile.ts'

/** Whether someone's turn has come. */
async function isIn(turn: Promise<void>): Promise<boolean> {
  return Promise.race([turn.then(() => true), new Promise<boolean>(resolve => setImmediate(resolve, false))])
}

function placeOf(answer: Ticket | number): Ticket {
  if (typeof answer === 'number') throw new Error(`sent away for ${answer} ms`)
  return answer
}

describe('turnstile', () => {
  it('lets so many in at once, the others in turn', async () => {
    const turnstile = new Turnstile(2, () => 0)
    const tickets = [1, 2, 3, 4].map(() => placeOf(turnstile.knock()))
    const turns = tickets.map(ticket => ticket.enter())
    assert.deepEqual(await Promise.all(turns.map(isIn)), [true, true, false, false])
    tickets[3]?.leave()
    tickets[0]?.leave()
    tickets[0]?.leave()
    assert.deepEqual(await Promise.all(turns.map(isIn)), [true, true, true, false])
    const next = placeOf(turnstile.knock())
    assert.equal(await isIn(next.enter()), false, 'two are inside')
  })

  it('gives no turn to those who prove nothing', async () => {
    const turnstile = new Turnstile(1, () => 0)
    placeOf(turnstile.knock())
    assert.equal(await isIn(placeOf(turnstile.knock()).enter()), true)
  })

  it('sends a crowd away, one after another, and is open again when it has thinned out', () => {
    let now = 0
    const turnstile = new Turnstile(2, () => now)
    const tickets: Ticket[] = []
    const away: number[] = []
    for (let i = 0; i < 1000; i++) {
      const answer = turnstile.knock()
      if (typeof answer === 'number') away.push(answer)
      else tickets.push(answer)
    }
    assert.equal(tickets.length, 152)
    assert.equal(away[0], 500)
    assert.ok(
      away.every((ms, i) => ms === 500 + 10 * i),
      'as fast as it is guessed to be',
    )
    for (const ticket of tickets) ticket.leave()
    now = 1000
    placeOf(turnstile.knock())
  })

  it('spreads a crowd over as much time as it was seen to take, a minute at most', async () => {
    let now = 0
    const turnstile = new Turnstile(1, () => now)
    const inside: Ticket[] = []
    const enter = () => {
      const ticket = placeOf(turnstile.knock())
      inside.push(ticket)
      return ticket.enter()
    }
    for (let i = 0; i < 10; i++) void enter()
    for (let i = 0; i < 200; i++) {
      now += 100
      inside.shift()?.leave()
      void enter()
    }
    const away: number[] = []
    for (let i = 0; i < 2000; i++) {
      const answer = turnstile.knock()
      if (typeof answer === 'number') away.push(answer)
    }
    assert.ok(Math.abs((away[10] ?? 0) - (away[9] ?? 0) - 100) <= 1, `${away[9]}, ${away[10]}`)
    assert.equal(away.at(-1), 60_000)
  })
})
