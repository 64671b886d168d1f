import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

describe('stopping', () => {
  it('leaves nothing behind that keeps a process alive', async t => {
    const script = fileURLToPath(new URL('exit.fixture.ts', import.meta.url))
    const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.after(() => child.kill('SIGKILL'))
    const [line] = await once(child.stdout, 'data')
    const stopMs = Number(String(line))
    const from = performance.now()
    const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(10_000) })
    assert.equal(code, 0)
    assert.ok(stopMs < 1000, `stopping took ${stopMs} ms`)
    // libp2p's limiter of connections per second has a timer of one second.
    assert.ok(performance.now() - from < 2500)
  })
})
