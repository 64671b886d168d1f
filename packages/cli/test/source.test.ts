import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { after, test } from 'node:test'
import { GetRefusedError } from '../src/get/errors.ts'
import { createSource } from '../src/get/source.ts'

let answer: RequestListener = (_, response) => void response.end()
const server = createServer((request, response) => answer(request, response))
await once(server.listen(0, '127.0.0.1'), 'listening')
const address = server.address()
assert(address !== null && typeof address === 'object')
const peer = `http://127.0.0.1:${address.port}`
after(() => server.close())

/** How the source refuses what the server answers with a status and a body. */
async function refusedWith(status: number, body: string): Promise<GetRefusedError> {
  answer = (_, response) => void response.writeHead(status).end(body)
  const source = createSource({ peer, path: '/x', wanted: undefined, headers: new Map(), credentials: 'ask' })
  try {
    await source.open(0, undefined, AbortSignal.timeout(10_000))
  } catch (error) {
    assert(error instanceof GetRefusedError)
    return error
  } finally {
    await source.close()
  }
  return assert.fail('it was taken')
}

test('what an origin that breaks off or is busy answers is worth another try, and nothing else is', async () => {
  for (const status of [429, 502, 503, 504]) assert((await refusedWith(status, '')).transient, `${status}`)
  for (const status of [400, 401, 404, 410, 500])
    assert(!(await refusedWith(status, '')).transient, `${status}`)
})

test('an origin’s own words come to the terminal without what would move its cursor', async () => {
  const words = 'no\u001b[2J\u001b]0;title\u0007 such\r\nthing\u202e!'
  const plain = 'no [2J ]0;title  such thing !'
  const json = await refusedWith(404, JSON.stringify({ errors: [{ message: words }] }))
  assert.equal(json.message, plain)
  const xml = await refusedWith(404, `<Error><Message>${words}</Message></Error>`)
  assert.equal(xml.message, `the object store: ${plain}`)
  const other = await refusedWith(404, '<html>')
  assert.equal(other.message, 'the origin answered with status 404')
})
