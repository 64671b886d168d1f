import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { interruptible } from '../src/commands/interruptible.ts'

const listeners = () => process.listenerCount('SIGINT') + process.listenerCount('SIGTERM')

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} ends the work with a word and 130`, async t => {
    const before = listeners()
    const said = t.mock.method(process.stderr, 'write', () => true)
    const code = await interruptible('go on later', async stopping => {
      process.kill(process.pid, signal)
      await once(stopping, 'abort')
      stopping.throwIfAborted()
      return 0
    })
    said.mock.restore()
    assert.equal(code, 130)
    assert.deepEqual(
      said.mock.calls.map(call => call.arguments[0]),
      ['darter: interrupted; go on later\n'],
    )
    assert.equal(listeners(), before)
  })
}

test('an end of its own, well or not, is the command’s, and leaves no listener behind', async () => {
  const before = listeners()
  assert.equal(await interruptible('', async () => 7), 7)
  const failing = async () => {
    throw new TypeError('its own')
  }
  await assert.rejects(interruptible('', failing), { message: 'its own' })
  assert.equal(listeners(), before)
})
