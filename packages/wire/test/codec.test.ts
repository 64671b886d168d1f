import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Digest, parseDigest } from '@darter/oci'
import { Bitfield, chunkLayout, MAX_BLOB_BYTES, MIN_CHUNK_BYTES } from '@darter/swarm'
import {
  admissionTranscript,
  handshakeMessages,
  LIMITS,
  introductions,
  type PeerMessage,
  peerMessages,
  type SchedulerMessage,
  schedulerMessages,
  WireError,
  type WireProblem,
} from '@darter/wire'
import { encode } from 'cborg'
import fc from 'fast-check'

const digest = fc.oneof(
  fc.uint8Array({ minLength: 32, maxLength: 32 }).map(bytes => parseDigest(`sha256:${hex(bytes)}`)),
  fc.uint8Array({ minLength: 64, maxLength: 64 }).map(bytes => parseDigest(`sha512:${hex(bytes)}`)),
)
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const size = fc.oneof(fc.integer({ min: 0, max: 400 * MIN_CHUNK_BYTES }), fc.constant(2 ** 40))
const chunk = fc.integer({ min: 0, max: 5000 })
const chunks = fc.array(chunk, { minLength: 1, maxLength: 50 })
const serial = fc.maxSafeNat()
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 })
const text = fc.string({ maxLength: 100 })
const optional = <K extends string, T>(key: K, value: fc.Arbitrary<T>) =>
  fc.option(value, { nil: undefined }).map(some => (some === undefined ? {} : { [key]: some }))

const holding = fc
  .tuple(fc.integer({ min: 0, max: 100 * MIN_CHUNK_BYTES }), fc.array(fc.nat(110)))
  .map(([size, indices]) => {
    const held = new Bitfield(chunkLayout(size).count)
    for (const index of indices) held.set(index)
    const hashes = new Uint8Array(held.count * 32).map((_, i) => i)
    return { size, held: held.toBytes(), hashes }
  })
const address = fc.record({
  id: fc.stringMatching(/^[0-9A-Za-z]{1,60}$/),
  addresses: fc.array(fc.stringMatching(/^\/[!-~]{1,200}$/), { maxLength: LIMITS.addresses }),
  zone: fc.stringMatching(/^[ -~]{0,128}$/),
})

const job = fc.stringMatching(/^[0-9a-f]{32}$/)
const shown = (max: number) => fc.string({ unit: 'grapheme-ascii', maxLength: max })
const place = fc.oneof(
  fc.record({
    upstream: fc.stringMatching(/^[!-~]{1,255}$/),
    repository: fc.stringMatching(/^[a-z0-9]{1,20}(\/[a-z0-9]{1,20}){0,3}$/),
    kind: fc.constantFrom('blob', 'manifest'),
  }),
  fc.record({ url: fc.stringMatching(/^(https?|s3):\/\/[!-~]{1,99}$/), digest }),
)
const joins = fc
  .tuple(digest, size, fc.boolean(), optional('place', place))
  .map(([blob, size, wants, place]) => ({
    type: 'join' as const,
    blob,
    size,
    held: Bitfield.full(chunkLayout(size).count).toBytes(),
    wants,
    ...place,
  }))
const peers: fc.Arbitrary<unknown> = fc.oneof(
  joins,
  fc.record({ type: fc.constantFrom('held', 'dropped'), blob: digest, chunks }),
  fc.record({ type: fc.constant('leave'), blob: digest }),
  fc
    .tuple(
      fc.record({ type: fc.constant('lease-demand'), blob: digest, slots: fc.nat(65_536), from: chunk }),
      optional('background', fc.constant(true)),
    )
    .map(parts => Object.assign({}, ...parts)),
  fc.record({ type: fc.constant('lease-alive'), blob: digest, lease: serial }),
  fc
    .tuple(
      fc.record({
        type: fc.constant('lease-end'),
        blob: digest,
        lease: serial,
        outcome: fc.constantFrom('done', 'failed', 'released'),
      }),
      optional('wholeOnly', fc.boolean()),
      optional('retryAfterMs', fc.nat()),
    )
    .map(parts => Object.assign({}, ...parts)),
  holding.map(({ size }) => ({
    type: 'vouch',
    blob: ABC,
    size,
    hashes: new Uint8Array(chunkLayout(size).count * 32),
  })),
  fc.record({
    type: fc.constant('blame'),
    peer: fc.constant('12D3KooWabc'),
    blob: digest,
    deed: fc.constantFrom('wrong-bytes', 'stalled', 'vanished', 'protocol'),
  }),
  fc.record({
    type: fc.constant('ask'),
    id: serial,
    key: fc.string({ minLength: 1, maxLength: 99 }),
    stale: fc.boolean(),
  }),
  fc
    .tuple(
      fc.record({
        type: fc.constant('tell'),
        key: fc.string({ minLength: 1, maxLength: 99 }),
        ttlMs: fc.nat(),
      }),
      optional('value', text),
    )
    .map(parts => Object.assign({}, ...parts)),
  fc.record({
    type: fc.constant('preheat-state'),
    job,
    state: fc.constantFrom('running', 'done', 'failed', 'cancelled'),
    held: serial,
    size: serial,
    failures: fc.array(
      fc.record({ what: shown(99), code: fc.constant('NO_SOURCE'), message: shown(LIMITS.failureChars) }),
      { maxLength: LIMITS.preheatFailures },
    ),
  }),
  fc.record({
    type: fc.constant('seed-end'),
    blob: digest,
    reason: fc.constantFrom('refused', 'failed', 'busy'),
  }),
)
const schedulers: fc.Arbitrary<unknown> = fc.oneof(
  fc.record({ type: fc.constant('neighbours'), blob: digest, peers: fc.array(address, { maxLength: 5 }) }),
  fc.record({
    type: fc.constant('lease'),
    blob: digest,
    lease: serial,
    from: fc.nat(9),
    to: fc.nat(9).map(n => n + 10),
  }),
  fc.record({ type: fc.constant('lease-void'), blob: digest, lease: serial }),
  fc
    .tuple(
      fc.record({ type: fc.constant('seed'), blob: digest, size, place }),
      optional('background', fc.constant(true)),
    )
    .map(parts => Object.assign({}, ...parts)),
  fc
    .tuple(
      fc.record({ type: fc.constant('preheat'), job, target: fc.stringMatching(/^[!-~]{1,99}$/) }),
      optional('digest', digest),
      optional('platform', fc.constant('linux/arm/v7')),
      optional('authorization', shown(LIMITS.authorizationChars)),
    )
    .map(parts => Object.assign({}, ...parts)),
  fc.record({ type: fc.constant('preheat-cancel'), job }),
  fc.record({ type: fc.constant('silence'), deadMs: fc.integer({ min: 100, max: LIMITS.deadMs }) }),
  fc.record({
    type: fc.constant('verified'),
    blob: digest,
    hashes: fc.nat(20).map(n => new Uint8Array(n * 32)),
  }),
  fc
    .tuple(
      fc.record({
        type: fc.constant('answer'),
        id: serial,
        state: fc.constantFrom('known', 'find-out', 'unknown'),
      }),
      optional('value', text),
    )
    .map(parts => Object.assign({}, ...parts)),
)
const links: fc.Arbitrary<unknown> = fc.oneof(
  fc
    .tuple(fc.record({ type: fc.constantFrom('interest', 'holds'), blob: digest }), holding)
    .map(([head, rest]) => ({ ...head, ...rest })),
  fc.record({ type: fc.constant('leave'), blob: digest }),
)
const handshakes: fc.Arbitrary<unknown> = fc.oneof(
  fc.record({ type: fc.constant('hello'), nonce: hash }),
  fc.record({ type: fc.constant('challenge'), nonce: hash, proof: hash }),
  fc
    .tuple(fc.record({ type: fc.constant('proof'), proof: hash }), optional('announce', address))
    .map(([head, { announce }]) =>
      announce === undefined
        ? head
        : { ...head, announce: { addresses: announce.addresses.slice(0, 8), zone: announce.zone } },
    ),
  fc.record({
    type: fc.constant('offer'),
    port: fc.integer({ min: 1, max: 65_535 }),
    pskId: fc.constant('0123456789abcdef0123456789abcdef'),
    psk: hash,
  }),
  fc.record({ type: fc.constant('welcome'), deadMs: fc.integer({ min: 100, max: LIMITS.deadMs }) }),
  fc.constantFrom({ type: 'yield' }, { type: 'full' }),
)

const ABC: Digest = parseDigest(`sha256:${'ab'.repeat(32)}`)

const all = [
  ['peer', peerMessages.decode, peers],
  ['scheduler', schedulerMessages.decode, schedulers],
  ['introduction', introductions.decode, links],
  ['handshake', handshakeMessages.decode, handshakes],
] as const

describe('codec', () => {
  for (const [kind, decode, messages] of all) {
    it(`gives back every ${kind} message`, () => {
      fc.assert(
        fc.property(messages, message => {
          // Records come without a prototype, messages with one.
          assert.deepEqual(decode(encode(message)), structuredClone(message))
        }),
        { seed: 7 },
      )
    })

    it(`answers garbage with a WireError: ${kind}`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
          assert.throws(() => decode(bytes), WireError)
        }),
        { seed: 7, numRuns: 1000 },
      )
    })

    it(`never crashes on a damaged ${kind} message`, () => {
      fc.assert(
        fc.property(messages, fc.nat(), fc.nat(255), (message, at, value) => {
          const bytes = encode(message)
          bytes[at % bytes.length] = value
          try {
            decode(bytes)
          } catch (error) {
            assert.ok(error instanceof WireError)
          }
        }),
        { seed: 7, numRuns: 1000 },
      )
    })
  }

  it('encodes what it decodes', () => {
    const message: PeerMessage = {
      type: 'lease-end',
      blob: ABC,
      lease: 3,
      outcome: 'failed',
      retryAfterMs: 20,
    }
    assert.deepEqual(peerMessages.decode(peerMessages.encode(message)), message)
    const answer: SchedulerMessage = { type: 'answer', id: 1, state: 'find-out' }
    assert.deepEqual(schedulerMessages.decode(schedulerMessages.encode(answer)), answer)
  })

  it('copies byte strings out of a Buffer', () => {
    const value = {
      type: 'holds',
      blob: ABC,
      size: 9,
      held: Uint8Array.of(1),
      hashes: new Uint8Array(32).fill(7),
    }
    const bytes = Buffer.from(encode(value))
    const message = introductions.decode(bytes)
    bytes.fill(0)
    assert.ok(message.type === 'holds' && message.hashes.every(byte => byte === 7))
  })

  const mib = 2 ** 20
  const bad: readonly {
    id: string
    decode: (bytes: Uint8Array) => unknown
    value: unknown
    problem: WireProblem
  }[] = [
    { id: 'unknown type', decode: peerMessages.decode, value: { type: 'hack' }, problem: 'unknown-type' },
    { id: 'no type', decode: peerMessages.decode, value: { blob: ABC }, problem: 'unknown-type' },
    {
      id: 'a message of another direction',
      decode: schedulerMessages.decode,
      value: { type: 'leave', blob: ABC },
      problem: 'unknown-type',
    },
    { id: 'a list', decode: introductions.decode, value: [1, 2], problem: 'invalid' },
    {
      id: 'a superfluous field',
      decode: peerMessages.decode,
      value: { type: 'leave', blob: ABC, x: 1 },
      problem: 'invalid',
    },
    {
      id: 'an upper-case digest',
      decode: peerMessages.decode,
      value: { type: 'leave', blob: ABC.toUpperCase() },
      problem: 'invalid',
    },
    {
      id: 'no digest',
      decode: peerMessages.decode,
      value: { type: 'leave', blob: '../../etc/passwd' },
      problem: 'invalid',
    },
    {
      id: 'a bitfield too short',
      decode: peerMessages.decode,
      value: { type: 'join', blob: ABC, size: 9 * mib, held: new Uint8Array(4), wants: true },
      problem: 'invalid',
    },
    {
      id: 'a bitfield too long',
      decode: peerMessages.decode,
      value: { type: 'join', blob: ABC, size: mib, held: new Uint8Array(2), wants: true },
      problem: 'invalid',
    },
    {
      id: 'a size beyond all bounds',
      decode: peerMessages.decode,
      value: { type: 'join', blob: ABC, size: MAX_BLOB_BYTES + 1, held: new Uint8Array(0), wants: true },
      problem: 'invalid',
    },
    {
      id: 'a negative size',
      decode: peerMessages.decode,
      value: { type: 'join', blob: ABC, size: -1, held: new Uint8Array(0), wants: true },
      problem: 'invalid',
    },
    {
      id: 'a broken size',
      decode: peerMessages.decode,
      value: { type: 'join', blob: ABC, size: 1.5, held: new Uint8Array(1), wants: true },
      problem: 'invalid',
    },
    {
      id: 'a hash too few',
      decode: peerMessages.decode,
      value: { type: 'vouch', blob: ABC, size: mib, hashes: new Uint8Array(96) },
      problem: 'invalid',
    },
    {
      id: 'hashes for chunks that are not held',
      decode: introductions.decode,
      value: { type: 'holds', blob: ABC, size: mib, held: Uint8Array.of(1), hashes: new Uint8Array(64) },
      problem: 'invalid',
    },
    {
      id: 'no chunks',
      decode: peerMessages.decode,
      value: { type: 'held', blob: ABC, chunks: [] },
      problem: 'invalid',
    },
    {
      id: 'too many chunks',
      decode: peerMessages.decode,
      value: { type: 'held', blob: ABC, chunks: Array.from({ length: LIMITS.chunkIndices + 1 }, () => 1) },
      problem: 'invalid',
    },
    {
      id: 'an address too long',
      decode: schedulerMessages.decode,
      value: {
        type: 'neighbours',
        blob: ABC,
        peers: [{ id: 'a', addresses: [`/${'x'.repeat(LIMITS.addressChars)}`], zone: '' }],
      },
      problem: 'invalid',
    },
    {
      id: 'an address with a line break',
      decode: schedulerMessages.decode,
      value: { type: 'neighbours', blob: ABC, peers: [{ id: 'a', addresses: ['/ip4\n'], zone: '' }] },
      problem: 'invalid',
    },
    {
      id: 'too many neighbours',
      decode: schedulerMessages.decode,
      value: {
        type: 'neighbours',
        blob: ABC,
        peers: Array.from({ length: LIMITS.neighbours + 1 }, () => ({ id: 'a', addresses: [], zone: '' })),
      },
      problem: 'invalid',
    },
    {
      id: 'an empty lease',
      decode: schedulerMessages.decode,
      value: { type: 'lease', blob: ABC, lease: 1, from: 3, to: 3 },
      problem: 'invalid',
    },
    {
      id: 'a fact too long',
      decode: peerMessages.decode,
      value: { type: 'ask', id: 1, key: 'x'.repeat(LIMITS.factChars + 1), stale: false },
      problem: 'invalid',
    },
    {
      id: 'a short nonce',
      decode: handshakeMessages.decode,
      value: { type: 'hello', nonce: new Uint8Array(31) },
      problem: 'invalid',
    },
    {
      id: 'a large greeting',
      decode: handshakeMessages.decode,
      value: { type: 'hello', nonce: new Uint8Array(5000) },
      problem: 'too-large',
    },
    {
      id: 'text where bytes belong',
      decode: handshakeMessages.decode,
      value: { type: 'hello', nonce: 'x'.repeat(32) },
      problem: 'invalid',
    },
  ]
  for (const { id, decode, value, problem } of bad) {
    it(`refuses ${id}`, () => {
      assert.throws(
        () => decode(encode(value)),
        (error: unknown) => error instanceof WireError && error.problem === problem,
      )
    })
  }

  it('refuses a hostile nesting and a repeated key', () => {
    const deep = new Uint8Array(1_000_000).fill(0x81)
    const twice = Uint8Array.of(0xa2, 0x61, 0x61, 1, 0x61, 0x61, 1)
    for (const bytes of [deep, twice]) {
      assert.throws(
        () => introductions.decode(bytes),
        (error: unknown) => error instanceof WireError && error.problem === 'malformed',
      )
    }
  })

  it('refuses to read or write more than the limit', () => {
    assert.throws(
      () => introductions.decode(new Uint8Array(LIMITS.messageBytes + 1)),
      (error: unknown) => error instanceof WireError && error.problem === 'too-large',
    )
    const size = 2 ** 40
    const { count } = chunkLayout(size)
    const message = {
      type: 'holds' as const,
      blob: ABC,
      size,
      held: Bitfield.full(count).toBytes(),
      hashes: new Uint8Array(count * 32),
    }
    assert.throws(
      () => introductions.encode(message),
      (error: unknown) => error instanceof WireError && error.problem === 'too-large',
    )
  })

  it('shows untrusted text only escaped', () => {
    assert.throws(() => peerMessages.decode(encode({ type: 'a\nb' })), /"a\\nb"/)
  })
})

describe('admission transcript', () => {
  const base = {
    protocol: '/p/1',
    role: 'dialer',
    dialer: 'a',
    listener: 'b',
    dialerNonce: new Uint8Array(32).fill(1),
    listenerNonce: new Uint8Array(32).fill(2),
  } as const
  it('differs with every part, wherever one part ends and the next begins', () => {
    const variants = [
      base,
      { ...base, protocol: '/p/2' },
      { ...base, role: 'listener' as const },
      { ...base, dialer: 'ab', listener: '' },
      { ...base, dialer: '', listener: 'ab' },
      { ...base, dialer: 'b', listener: 'a' },
      { ...base, dialerNonce: base.listenerNonce },
      { ...base, listenerNonce: base.dialerNonce },
    ]
    const encoded = new Set(variants.map(variant => hex(admissionTranscript(variant))))
    assert.equal(encoded.size, variants.length)
  })
})
