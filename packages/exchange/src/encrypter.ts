import { noise } from '@chainsafe/libp2p-noise'
import type { ConnectionEncrypter, MessageStream, PrivateKey } from '@libp2p/interface'
import { nativeNoiseCrypto } from './noise-crypto.ts'

type NoiseFactory = ReturnType<typeof noise>

/** Noise as every libp2p speaks it, for less: see {@link nativeNoiseCrypto}, {@link signOnce} and {@link endQuietly}. */
export function leanNoise(): NoiseFactory {
  const create = noise({ crypto: nativeNoiseCrypto() })
  return components => {
    const encrypter = create(
      // libp2p's components are looked up when they are needed: some are not there yet.
      Object.create(components, { privateKey: { value: signOnce(components.privateKey) } }),
    )
    const secureInbound = encrypter.secureInbound.bind(encrypter)
    const secureOutbound = encrypter.secureOutbound.bind(encrypter)
    return Object.assign(encrypter, {
      secureInbound: async (...args) => {
        const secured = await secureInbound(...args)
        endQuietly(secured.connection)
        return secured
      },
      secureOutbound: async (...args) => {
        const secured = await secureOutbound(...args)
        endQuietly(secured.connection)
        return secured
      },
    } satisfies Partial<ConnectionEncrypter>)
  }
}

/** Noise signs the same bytes, its own key, in every handshake; an Ed25519 signature of the same bytes is the same (RFC 8032). */
function signOnce<K extends PrivateKey>(key: K): K {
  let last: { readonly text: string; readonly signature: ReturnType<K['sign']> } | undefined
  const sign: PrivateKey['sign'] = data => {
    const text = Buffer.from(data.subarray()).toString('base64')
    if (last?.text !== text) last = { text, signature: key.sign(data) as ReturnType<K['sign']> }
    return last.signature
  }
  return Object.create(key, { sign: { value: sign } })
}

/** What its decoder takes as the end of what has come. */
const NO_MORE = new RangeError('no whole length')

/**
 * Noise (17.0.0) takes messages off what has come until an exception says that there is no more: with a stack trace, at
 * every message. This one is always the same. A stream of another make is left as it is.
 */
function endQuietly(stream: MessageStream): void {
  const { decoder } = stream as MessageStream & { decoder?: { lengthDecoder?: unknown } }
  if (typeof decoder?.lengthDecoder !== 'function') return
  const decode = decoder.lengthDecoder as (data: Uint8Array) => number
  decoder.lengthDecoder = (data: Uint8Array): number => {
    if (data.length < 2) throw NO_MORE
    return decode(data)
  }
}
