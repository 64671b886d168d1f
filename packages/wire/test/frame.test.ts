import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseDigest } from '@darter/oci'
import {
  decodeNotice,
  decodeRefusal,
  decodeRequest,
  encodeNotice,
  encodeRefusal,
  encodeRequest,
  FRAME,
  FrameReader,
  frame,
  HEADER_BYTES,
  LIMITS,
  lengthPrefixed,
  MessageReader,
  type Notice,
  REFUSALS,
  WireError,
  type WireProblem,
  writeFrameHeader,
} from '@darter/wire'
import fc from 'fast-check'

/** The same bytes, cut at the given distances. */
function* cut(bytes: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  let at = 0
  for (let i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? 1
    // A fresh copy that is overwritten afterwards, as a receive buffer is.
    const part = bytes.slice(at, at + length)
    yield part
    part.fill(0xee)
    at += length
  }
}

const problem = (expected: WireProblem) => (error: unknown) =>
  error instanceof WireError && error.problem === expected

const SHA256 = parseDigest(`sha256:${'0a'.repeat(32)}`)
const SHA512 = parseDigest(`sha512:${'0b'.repeat(64)}`)

interface Frame {
  readonly name: 'message' | 'request' | 'cancel' | 'piece' | 'end' | 'ping'
  readonly id: number
  readonly body: readonly number[]
}

const id = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const body = (min: number) => fc.uint8Array({ minLength: min, maxLength: 300 }).map(bytes => [...bytes])
const frames: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ name: fc.constant('message' as const), id, body: body(1) }),
  fc.record({ name: fc.constant('piece' as const), id, body: body(1) }),
  fc.record({
    name: fc.constantFrom('cancel' as const, 'end' as const, 'ping' as const),
    id,
    body: fc.constant([]),
  }),
  fc.record({
    name: fc.constant('request' as const),
    id,
    body: fc.constantFrom(SHA256, SHA512).map(blob => [...encodeRequest({ blob, chunk: 5 })]),
  }),
)

function bytesOf({ name, id, body }: Frame): Uint8Array {
  if (name !== 'piece') return frame(name, id, Uint8Array.from(body))
  const bytes = new Uint8Array(HEADER_BYTES + body.length)
  writeFrameHeader(bytes, FRAME.piece, id, body.length)
  bytes.set(body, HEADER_BYTES)
  return bytes
}

/** Reads frames, with the parts of a piece joined again. */
function read(parts: Iterable<Uint8Array>): Frame[] {
  const seen: { name: string; id: number; body: number[] }[] = []
  const lengths: number[] = []
  const reader = new FrameReader({
    whole: (name, id, payload) => seen.push({ name, id, body: [...payload] }),
    piece: (id, bytes) => {
      lengths.push(bytes.length)
      seen.push({ name: 'part', id, body: [...bytes] })
    },
  })
  for (const part of parts) reader.push(part)
  assert.ok(lengths.every(length => length > 0))
  const joined: Frame[] = []
  for (const { name, id, body } of seen)
    joined.push({ name: name === 'part' ? 'piece' : (name as Frame['name']), id, body })
  return joined
}

describe('link frames', () => {
  it('come out as they went in, wherever the bytes are cut', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 })
    fc.assert(
      fc.property(fc.array(frames), lengths, (sent, lengths) => {
        const bytes = Buffer.concat(sent.map(bytesOf))
        const got = read(cut(bytes, lengths))
        // A cut piece comes in parts: compare what all its bytes are.
        const flat = (list: readonly Frame[]) =>
          list.flatMap(({ name, id, body }) =>
            name === 'piece' ? body.map(byte => `${id}:${byte}`) : [`${name} ${id} ${body.join()}`],
          )
        assert.deepEqual(flat(got), flat(sent))
      }),
      { seed: 3 },
    )
  })

  it('keep to their lengths and types', () => {
    const header = (type: number, length: number) => {
      const bytes = new Uint8Array(HEADER_BYTES)
      writeFrameHeader(bytes, type, 1, length)
      return bytes
    }
    const cases: readonly (readonly [Uint8Array, WireProblem])[] = [
      [header(17, 0), 'unknown-type'],
      [header(255, 10), 'unknown-type'],
      [header(FRAME.piece, LIMITS.pieceBytes + 1), 'too-large'],
      [header(FRAME.piece, 0), 'invalid'],
      [header(FRAME.message, LIMITS.messageBytes + 1), 'too-large'],
      [header(FRAME.message, 0), 'invalid'],
      [header(FRAME.request, 10), 'invalid'],
      [header(FRAME.request, 1000), 'too-large'],
      [header(FRAME.ping, 1), 'too-large'],
      [header(FRAME.refuse, 0), 'invalid'],
      [header(FRAME.have, 40 + 70), 'invalid'],
      [header(FRAME.slot, 4 + 200), 'too-large'],
      [header(FRAME.wait, 1), 'too-large'],
    ]
    for (const [bytes, expected] of cases) assert.throws(() => read([bytes]), problem(expected))
  })

  it('answer garbage with a WireError or wait for more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        try {
          read([bytes])
        } catch (error) {
          assert.ok(error instanceof WireError)
        }
      }),
      { seed: 3, numRuns: 1000 },
    )
  })

  it('carry requests and refusals', () => {
    for (const blob of [SHA256, SHA512]) {
      assert.deepEqual(decodeRequest(encodeRequest({ blob, chunk: 4_000_000 })), { blob, chunk: 4_000_000 })
    }
    const wrong = encodeRequest({ blob: SHA256, chunk: 1 })
    wrong[6] = 0
    assert.throws(() => decodeRequest(wrong), problem('invalid'))
    for (const reason of REFUSALS) assert.equal(decodeRefusal(encodeRefusal(reason)), reason)
    assert.throws(() => decodeRefusal(Uint8Array.of(REFUSALS.length)), problem('invalid'))
  })
})

describe('length-prefixed messages', () => {
  it('come out as they went in, wherever the bytes are cut', () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 100 }))
    const lengths = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 })
    fc.assert(
      fc.property(messages, lengths, (sent, lengths) => {
        const reader = new MessageReader(() => 100)
        const got: Uint8Array[] = []
        for (const part of cut(Buffer.concat(sent.map(lengthPrefixed)), lengths))
          got.push(...reader.push(part))
        assert.deepEqual(got, sent)
      }),
      { seed: 3 },
    )
  })

  it('are refused by their announced length, before their bytes come', () => {
    let limit = 10
    const reader = new MessageReader(() => limit)
    assert.equal([...reader.push(lengthPrefixed(new Uint8Array(10)))].length, 1)
    assert.throws(() => [...reader.push(Uint8Array.of(0, 0, 0, 11))], problem('too-large'))
    limit = 100
    const other = new MessageReader(() => limit)
    assert.equal([...other.push(lengthPrefixed(new Uint8Array(100)))].length, 1)
  })
})

describe('notices', () => {
  const uint = fc.integer({ min: 0, max: 2 ** 32 - 1 })
  const blob = fc.constantFrom(SHA256, SHA512)
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 })
  const bare = { noNullPrototype: true }
  const notices: fc.Arbitrary<Notice> = fc.oneof(
    fc.record({ type: fc.constant('have' as const), blob, chunk: uint, load: uint, hash }, bare),
    fc.record({ type: fc.constant('expect' as const), blob, chunk: uint, load: uint }, bare),
    fc.record({ type: fc.constantFrom('lost' as const, 'slot' as const), blob, chunk: uint }, bare),
    fc.record({ type: fc.constantFrom('pass' as const, 'want' as const), blob }, bare),
  )

  it('come back as they were sent, and share no memory with what they came in', () => {
    fc.assert(
      fc.property(notices, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (notice, lengths) => {
        const came: Notice[] = []
        const reader = new FrameReader({
          whole: (name, _id, payload) => {
            assert.equal(name, notice.type)
            came.push(decodeNotice(notice.type, payload))
          },
          piece: () => assert.fail('no piece was sent'),
        })
        for (const part of cut(frame(notice.type, 0, encodeNotice(notice)), lengths)) reader.push(part)
        assert.deepEqual(came, [notice])
      }),
      { seed: 5 },
    )
  })

  it('are refused when they name no digest', () => {
    const bytes = encodeNotice({ type: 'slot', blob: SHA256, chunk: 1 })
    bytes[bytes.length - 1] = 0x7a
    assert.throws(() => decodeNotice('slot', bytes), problem('invalid'))
  })
})
